"""What a deployment can serve: memory, cache capacity, latency, throughput, money.

``serve`` answers one question. What asks a hundred thousand of them – a planner – builds one ``Deployment`` for each
model, device, layout, format and engine, and asks its ``Replica`` with numpy arrays::

    deployment = Deployment(model, accelerator, Layout(tp=4), load_engine("vllm"), cache_dtype="fp8")
    work = Work(input_tokens=2000, output_tokens=300)
    states = Replica(deployment.steps, work, deployment.limits(work)).at_rate(numpy.linspace(0.1, 20, 100_000))

``deployment.fits`` and ``limits`` are arithmetic; the kernels are swept once for each ``Replica`` (tens of
milliseconds), after which every rate or number of users is an interpolation.
"""

from __future__ import annotations

from calc.serving.answer import Serving, serve

__all__ = ["Serving", "serve"]

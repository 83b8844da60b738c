"""What holds for every twin: a decode step computes what a prefill computes, and backward passes reach every weight."""

from __future__ import annotations

import pytest
import torch

from calc.ffn.moe import MoE
from calc.model import Model
from calc.validate.run import sees_both_ways
from calc.validate.samples import Sample, kinds, samples
from calc.validate.subject import subject

ALL = [pytest.param(sample, id=f"{kind}-{sample.name}") for kind in kinds() for sample in samples(kind)]


def drops_tokens(sample: Sample) -> bool:
    """Tell whether what happens to a token depends on those after it: buffers fill up, experts choose."""
    return isinstance(sample.spec, MoE) and (sample.spec.capacity_factor is not None or sample.spec.choice == "expert")


@pytest.mark.parametrize("sample", ALL)
def test_steps_equal_a_prefill(sample: Sample) -> None:
    proven = subject(sample)
    if sees_both_ways(proven) or drops_tokens(sample):
        pytest.skip("later positions change earlier ones")
    if isinstance(sample.spec, Model) and sample.spec.pooler:
        pytest.skip("pools the first position of the pass")
    total = sample.context + sample.steps
    with torch.no_grad():
        (whole, *_) = proven.run(0, total)
        cache = proven.cache()
        (read, *_) = proven.run(0, sample.context, cache)
        steps = [proven.run(n, n + 1, cache)[0] for n in range(sample.context, total)]
    together = torch.cat((read, *steps), 1)
    assert together.isfinite().all()
    torch.testing.assert_close(together, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sample", ALL)
def test_outputs_are_finite_and_depend_on_their_inputs(sample: Sample) -> None:
    proven = subject(sample)
    outputs = proven.run(0, sample.context)
    torch.autograd.backward(outputs, [torch.randn_like(output) for output in outputs])
    assert all(output.isfinite().all() for output in outputs)
    gradients = [weight.grad for weight in proven.twin.parameters() if weight.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)

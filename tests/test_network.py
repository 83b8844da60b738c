"""Times of collectives: what must hold whatever the constants, and how far off published runs they are."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calc.catalog import load_accelerator
from calc.errors import CalcError
from calc.measured.readers import collectives as reader
from calc.measured.rows import Measurement, NotModelled, read
from calc.network import CONSTANTS, collective_time, path
from calc.parallel import Collective, Layout, collectives
from calc.parallel.collective import Kind

H100, A100 = load_accelerator("h100-sxm"), load_accelerator("a100-80gb")
KINDS: tuple[Kind, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")


def call(kind: Kind = "all_reduce", size: int = 8, stride: int = 1, bytes_: Any = 2**20, count: int = 1) -> Collective:
    return Collective(
        kind=kind, bytes=bytes_, size=size, stride=stride, count=count, axis="tp", after="x", direction="forward"
    )


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    size=st.sampled_from([2, 4, 8, 16, 64, 1024]),
    stride=st.sampled_from([1, 4, 8]),
    small=st.integers(1, 2**30),
    more=st.integers(1, 2**30),
    library=st.sampled_from(["nccl", "custom"]),
)
def test_more_bytes_take_longer(kind: Kind, size: int, stride: int, small: int, more: int, library: Any) -> None:
    size = 2 if kind == "send_recv" else size
    less = collective_time(call(kind, size, stride, small), H100, library=library)
    assert 0 < less < collective_time(call(kind, size, stride, small + more), H100, library=library)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_faster_than_the_link(kind: Kind) -> None:
    """At the nominal rate a rank's least traffic takes so long; reductions in the switch halve an all-reduce's."""
    for accelerator in (H100, A100, load_accelerator("b200")):
        for size in (2, 8):
            one = call(kind, 2 if kind == "send_recv" else size, bytes_=2**32)
            least = one.sent / accelerator.links[0].bytes_per_s
            factor = 0.5 if kind == "all_reduce" and accelerator.links[0].reduces else 1
            assert collective_time(one, accelerator) > factor * least


def test_groups_lie_on_links() -> None:
    assert (path(call(size=8), H100).local, path(call(size=8), H100).outer) == (8, None)
    two_nodes = path(call(size=16), H100)
    assert (two_nodes.local, two_nodes.domains) == (8, 2)
    assert two_nodes.inner is H100.links[0]
    assert two_nodes.outer is H100.links[1]
    # one rank of each node: nothing by the inner link
    copies = path(call(size=4, stride=8), H100)
    assert (copies.local, copies.domains, copies.inner) == (1, 4, None)
    halves = path(call(size=8, stride=4), H100)
    assert (halves.local, halves.domains) == (2, 4)


def test_adapters_of_a_node_work_side_by_side() -> None:
    """A ring over whole nodes passes all eight adapters, one over a rank of each node a single one."""
    whole, single = call(size=64, bytes_=2**33), call(size=8, stride=8, bytes_=2**33)
    for kind in ("all_gather", "reduce_scatter"):
        by_all, by_one = (one.sent / collective_time(one, H100) for one in (replace(whole, kind=kind), single))
        assert by_one == pytest.approx(50e9 * 0.94, rel=0.02)
        assert by_all == pytest.approx(min(8 * 50e9 * 0.94, 450e9 * 0.70), rel=0.02)


def test_trees_of_switches_reduce_faster_than_a_ring_of_nodes() -> None:
    """What operators expect of H100 nodes with 400 Gb/s an adapter: a bus rate of 400 to 450 GB/s on large messages."""
    for nodes in (2, 4, 32):
        large = call(size=8 * nodes, bytes_=2**33)
        assert 360e9 < large.sent / collective_time(large, H100) < 500e9
    # A100's switches do not add up: a ring, bound by eight adapters of 200 Gb/s
    large = call(size=32, bytes_=2**33)
    assert large.sent / collective_time(large, A100) == pytest.approx(8 * 25e9 * 0.94, rel=0.02)


def test_switches_that_reduce_are_used_where_they_are_faster() -> None:
    plain = replace(H100, links=(replace(H100.links[0], reduces=False), *H100.links[1:]))
    large, small, pair = call(bytes_=2**28), call(bytes_=2**10), call(size=2, bytes_=2**28)
    assert collective_time(large, H100) < collective_time(large, plain)
    assert collective_time(small, H100) == collective_time(small, plain)
    assert collective_time(pair, H100) == collective_time(pair, plain)


def test_custom_kernels_help_small_messages_of_one_domain() -> None:
    assert collective_time(call(bytes_=2**16), H100, library="custom") < collective_time(call(bytes_=2**16), H100)
    for other in (call(bytes_=2**30), call(size=16), call("all_gather"), call("all_to_all")):
        assert collective_time(other, H100, library="custom") == collective_time(other, H100)


def test_an_all_to_all_beyond_the_node_is_bound_by_the_adapter() -> None:
    one = call("all_to_all", size=64, bytes_=2**30)
    assert collective_time(one, H100) == pytest.approx(2**30 * 56 / 64 / (50e9 * 0.94), rel=0.02)


def test_counts_and_sweeps() -> None:
    assert collective_time(call(count=3), H100) == 3 * collective_time(call(), H100)
    sizes = np.array([2.0**10, 2.0**20, 2.0**28])
    swept = collective_time(call(bytes_=sizes), H100)
    assert list(swept) == [collective_time(call(bytes_=size), H100) for size in sizes]
    assert collective_time(call(size=1), H100) == 0


def test_a_group_that_no_link_joins_is_refused() -> None:
    alone = replace(H100, links=H100.links[:1])
    with pytest.raises(
        CalcError, match=r"no link of h100-sxm joins 16 devices, at most 8; name a TOML file .* \[\[links\]\]"
    ):
        collective_time(call(size=16), alone)


def test_a_model_s_step_takes_milliseconds() -> None:
    import calc

    found = collectives(calc.load("llama-3-8b"), Layout(tp=8), calc.Pass.decode(4096, 16))
    seconds = sum(collective_time(one, H100) for one in found)
    # 65 all-reduces of 128 KiB at about 23 µs, and the logits
    assert 1e-3 < seconds < 3e-3


def test_published_runs_are_predicted() -> None:
    """The bar: a median error of 12 %; of each accelerator, too."""
    errors: dict[str, list[float]] = {}
    for row in read():
        if row.kind == "operator" and (found := reader.predict(row)) is not None:
            errors.setdefault(str(row.first("hardware")), []).append(abs(found.value / row.value - 1))
    assert sum(map(len, errors.values())) >= 41
    assert median(error for each in errors.values() for error in each) < 0.10
    for name, each in errors.items():
        assert median(each) < 0.12, (name, each)


def row(unit: str = "us", metric: str = "latency", **config: Any) -> Measurement:
    given_ = {"op": "all_reduce", "hardware": "H100 SXM", "num_gpus": 8, "message_bytes": 2**28, **config}
    data = {"id": "x", "kind": "operator", "metric": metric, "unit": unit, "value": 1.0, "config": given_, "source": ""}
    return Measurement.of(data, "row")


def value(measured: Measurement) -> float:
    found = reader.predict(measured)
    assert found is not None
    return found.value


def test_rows_in_other_words_are_read() -> None:
    time = value(row())
    for op in ("allreduce", "NCCL All-Reduce", "all reduce"):
        assert value(row(op=op)) == time
    assert value(row(unit="ms")) == pytest.approx(time / 1000)
    elements = row(message_bytes=None, message_elements=2**27, dtype="half")
    assert value(elements) == time
    assert value(row(num_gpus=None, world_size=8)) == time
    assert value(row(unit="GB/s", metric="algbw")) == pytest.approx(2**28 / time / 1e3)
    assert value(row(unit="GB/s", metric="busbw")) == pytest.approx(2**28 * 7 / 4 / time / 1e3)
    assert value(row(op="custom_allreduce", message_bytes=2**16)) < value(row(message_bytes=2**16))
    for op in ("all_to_all", "all2all", "alltoall"):
        assert value(row(op=op)) == value(row(op="alltoall"))


def test_rows_that_cannot_be_read_say_why() -> None:
    assert reader.predict(row(op="gemm")) is None
    for broken, reason in (
        (row(hardware=None), "hardware is not stated"),
        (row(message_bytes=None), "message_elements is not stated"),
        (row(message_bytes=None, message_elements=8), "nor a format"),
        (row(unit="J"), "neither a time nor a bandwidth"),
    ):
        with pytest.raises(NotModelled, match=reason):
            reader.predict(broken)


def test_eager_calls_take_the_host_s_time() -> None:
    assert value(row(message_bytes=1024, launch="eager")) == pytest.approx(CONSTANTS.host_s * 1e6)

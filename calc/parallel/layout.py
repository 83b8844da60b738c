"""How a model is laid out over devices: the degrees of every kind of parallelism."""

from __future__ import annotations

from typing import Literal, TypeAlias

from calc.checks import one_of, whole
from calc.errors import SpecError
from calc.records import Record, named_record

Schedule: TypeAlias = Literal["gpipe", "1f1b", "interleaved", "zero_bubble"]
SCHEDULES: tuple[Schedule, ...] = ("gpipe", "1f1b", "interleaved", "zero_bubble")
DEGREES = ("tp", "pp", "cp", "ep", "dp")
Group: TypeAlias = Literal["tp", "cp", "ep", "expert_tp", "expert_dp", "dp", "pp"]


@named_record
class Layout(Record):
    """Degrees of parallelism. Devices: tp·cp·dp·pp; experts are laid out over the same tp·cp·dp ranks of a stage.

    Ranks are numbered with tp innermost, then cp, dp, pp; among the routed experts' weights with expert_tp innermost,
    then ep, then their copies (Megatron-Core's default order ``tp-cp-ep-dp-pp``, ``parallel_state.py``).

    Sources: tensor parallelism, Shoeybi et al. 2019, arXiv:1909.08053; sequence parallelism, Korthikanti et al. 2022,
    arXiv:2205.05198 §4.2.2; pipeline, Narayanan et al. 2021, arXiv:2104.04473; ZeRO, Rajbhandari et al. 2019,
    arXiv:1910.02054; expert parallelism, GShard, arXiv:2006.16668; context parallelism, Liu et al. 2023,
    arXiv:2310.01889.

    Raises:
        SpecError: a degree below 1; an unknown schedule; experts' ranks that do not divide tp·cp·dp; virtual stages
            without a pipeline, or with a schedule that has none.

    >>> Layout(tp=8, pp=16, dp=8).gpus
    1024
    """

    tp: int = 1
    pp: int = 1
    cp: int = 1
    ep: int = 1
    dp: int = 1
    zero: int = 0
    """What data-parallel ranks share instead of repeating: nothing, 1 the optimizer's state, 2 gradients too, 3 weights
    too (FSDP)."""
    sequence_parallel: bool = False
    """Between tensor-parallel parts each rank has 1/tp of the tokens, where it would repeat the work."""
    expert_tp: int | None = None
    """Degree that divides each routed expert; None is tp."""
    virtual_stages: int = 1
    """Parts of the stack on each pipeline rank."""
    schedule: Schedule = "1f1b"
    first_layers: int | None = None
    """Layers of the first pipeline stage, where they are not dealt out evenly."""
    last_layers: int | None = None
    vocab_multiple: int = 1
    """The vocabulary is padded to a multiple of this times tp: 128 in Megatron (``make_vocab_size_divisible_by``)."""

    def __post_init__(self) -> None:
        values, optional = self.__dict__, ("expert_tp", "first_layers", "last_layers")
        for name in (*DEGREES, "virtual_stages", "vocab_multiple", *optional):
            if values[name] is not None or name not in optional:
                values[name] = whole(name, values[name])
        values["zero"] = whole("zero", self.zero, 0, 3)
        one_of("schedule", self.schedule, SCHEDULES)
        self._check_experts()
        self._check_pipeline()

    def _check_experts(self) -> None:
        ranks, share = self.tp * self.cp * self.dp, self.ep * self.etp
        if self.tp % self.etp:
            raise SpecError(f"expert_tp = {self.etp} does not divide tp = {self.tp}")
        if ranks % share:
            named = f"ep = {self.ep}" if self.etp == 1 else f"ep·expert_tp = {self.ep}·{self.etp}"
            raise SpecError(f"{named} does not divide tp·cp·dp = {ranks}, the ranks of a pipeline stage")

    def _check_pipeline(self) -> None:
        if self.schedule == "interleaved" and (self.pp == 1 or self.virtual_stages == 1):
            raise SpecError("schedule = 'interleaved' needs pp and virtual_stages of 2 or more")
        if self.virtual_stages > 1 and self.schedule != "interleaved":
            raise SpecError(f"virtual_stages = {self.virtual_stages} needs schedule = 'interleaved'")
        if self.pp == 1 and (self.first_layers or self.last_layers):
            raise SpecError("first_layers and last_layers need pp of 2 or more")

    @property
    def etp(self) -> int:
        """The degree that divides each routed expert."""
        return self.tp if self.expert_tp is None else self.expert_tp

    @property
    def gpus(self) -> int:
        """Devices: tp·cp·dp·pp."""
        return self.tp * self.cp * self.dp * self.pp

    @property
    def replicas(self) -> int:
        """Ranks that hold the same weights, the routed experts' apart: cp·dp. ZeRO shares among them."""
        return self.cp * self.dp

    @property
    def expert_replicas(self) -> int:
        """Ranks that hold the same routed experts: tp·cp·dp / (ep·expert_tp)."""
        return self.tp * self.cp * self.dp // (self.ep * self.etp)

    def group(self, axis: Group) -> tuple[int, int]:
        """Return (ranks of a group, distance in ranks between neighbours of it).

        ``dp`` is the group that reduces gradients: cp·dp ranks, as each of them saw other tokens.

        >>> Layout(tp=8, cp=2, dp=4, pp=2).group("dp")
        (8, 8)
        """
        inner = self.tp * self.cp * self.dp
        groups: dict[Group, tuple[int, int]] = {
            "tp": (self.tp, 1),
            "cp": (self.cp, self.tp),
            "dp": (self.replicas, self.tp),
            "expert_tp": (self.etp, 1),
            "ep": (self.ep, self.etp),
            "expert_dp": (self.expert_replicas, self.etp * self.ep),
            "pp": (self.pp, inner),
        }
        return groups[axis]

    def text(self) -> str:
        """Return the degrees that are not 1, as tables show them.

        >>> Layout(tp=8, dp=4, zero=1).text()
        'tp8 dp4 zero1'
        """
        names = [f"{name}{value}" for name in DEGREES if (value := getattr(self, name)) > 1]
        names += [f"v{self.virtual_stages}"] if self.virtual_stages > 1 else []
        names += [f"etp{self.etp}"] if self.ep > 1 and self.etp != self.tp else []
        names += [f"zero{self.zero}"] if self.zero else []
        names += ["sp"] if self.sequence_parallel and self.tp > 1 else []
        return " ".join(names) or "1 device"

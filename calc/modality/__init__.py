"""Images and sound for a language model: what turns them into tokens, one mechanism a file, and the towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from calc.mechanism import Mechanism
from calc.records import named_record

KINDS: dict[str, str] = {
    "patches": "calc.modality.patches:Patches",
    "projector": "calc.modality.projector:Projector",
    "attention_pool": "calc.modality.attention_pool:AttentionPool",
}


@named_record
class Modal(Mechanism):
    """The family of tables before and after the layers of a tower."""

    kinds: ClassVar[Mapping[str, str]] = KINDS

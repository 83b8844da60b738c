"""What all documents share."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """Base: nothing unknown, nothing coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(Document):
    """What every command's JSON has."""

    schema_version: Literal[1]
    notes: list[str] = []

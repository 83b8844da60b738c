"""Claims of documents, held against what is computed and what primary sources say."""

from __future__ import annotations

from calc.claims.views import audit

__all__ = ["audit"]

"""The twin of RWKV-7 against the recurrence of its paper, written with transition matrices."""

from __future__ import annotations

import pytest

from calc.attention.rwkv7 import RWKV7

torch = pytest.importorskip("torch")

from calc.reference.base import Cache  # noqa: E402
from calc.reference.rwkv7 import RWKV7Twin  # noqa: E402

SPEC = RWKV7(n_heads=3, head_dim=4, decay_rank=5, rate_rank=6, gate_rank=7)


def test_the_recurrence_is_a_product_of_transition_matrices() -> None:
    """S_t = S_{t-1} (diag(w) - κᵀ(α ⊙ κ)) + vᵀ k, y = r Sᵀ (arXiv:2503.14456 §4), S being value by key."""
    torch.manual_seed(0)
    twin = RWKV7Twin(SPEC, d_model=12).double()
    r, k, v, decay, removed, rate = (torch.rand(2, 9, 3, 4, dtype=torch.float64) for _ in range(6))
    got = twin.recur(r, k, v, decay, removed, removed * rate, None)
    state = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    for t in range(9):
        key = removed[:, t]
        transition = torch.diag_embed(decay[:, t]) - key[..., :, None] * (rate[:, t] * key)[..., None, :]
        state = state @ transition + v[:, t, ..., :, None] * k[:, t, ..., None, :]
        torch.testing.assert_close(got[:, t], (state @ r[:, t, ..., None])[..., 0])


def test_steps_give_what_a_prefill_gives() -> None:
    torch.manual_seed(0)
    twin, x = RWKV7Twin(SPEC, d_model=12), torch.randn(2, 6, 12)
    whole, cache = twin(x), Cache()
    parts = [twin(x[:, :4], cache), twin(x[:, 4:5], cache), twin(x[:, 5:], cache)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)

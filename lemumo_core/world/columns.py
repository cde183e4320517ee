"""Selected columns of large tensors; on a CPU several times as fast as indexing."""

from __future__ import annotations

from torch import Tensor


def take(values: Tensor, at: Tensor) -> Tensor:
    """Return ``values[..., at]`` for int64 (n,)."""
    return values.index_select(-1, at)


def put(values: Tensor, at: Tensor, new: Tensor) -> None:
    """Assign ``values[..., at] = new`` in place."""
    values.index_copy_(-1, at, new.expand(*values.shape[:-1], len(at)))

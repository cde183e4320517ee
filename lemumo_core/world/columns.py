"""Selected columns of large tensors; on a CPU several times as fast as PyTorch's indexing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def indices(mask: Tensor) -> Tensor:
    """Return the flat indices, int64 (n,), of the true elements of a mask, bool (...).

    On a CPU NumPy finds them in a tenth of the time that PyTorch takes.
    """
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero()[:, 0]


def take(values: Tensor, at: Tensor) -> Tensor:
    """Return ``values[..., at]`` for int64 (n,)."""
    return values.index_select(-1, at)


def put(values: Tensor, at: Tensor, new: Tensor) -> None:
    """Assign ``values[..., at] = new`` in place."""
    values.index_copy_(-1, at, new.expand(*values.shape[:-1], len(at)))

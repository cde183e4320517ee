"""Copies from the CPU that nothing waits for."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Copy what was drawn on the CPU to a device, behind what was launched there before.

    CUDA copies from pinned memory alone without making the CPU wait for all of that.
    """
    if device.type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)

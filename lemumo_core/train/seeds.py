"""Random numbers of training: each a function of the run's seed, the step and what it is for.

So nothing about random generators needs saving, and a resumed run draws what it would have drawn.
"""

from __future__ import annotations

import hashlib

import torch


def seed_of(seed: int, step: int, purpose: str) -> int:
    """Derive a seed of 63 bits."""
    text = f"{seed} {step} {purpose}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, step: int, purpose: str) -> torch.Generator:
    """Return a generator on the CPU, seeded."""
    return torch.Generator().manual_seed(seed_of(seed, step, purpose))

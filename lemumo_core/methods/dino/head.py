"""Head of DINO: from a token to its cosines with prototypes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.model.linear import Linear, linear

BOTTLENECK = 256


class Head(nn.Module):
    """Three layers, then prototypes (arXiv 2104.14294, section 3.1 and appendix C).

    Prototypes have unit length: the weight norm of the reference, its gain fixed at 1. CLS and
    patches share the head, as iBOT found best (arXiv 2111.07832, section 4.3.3).

    Args:
        width: D' of the tokens.
        hidden: width of the layers.
        prototypes: K.
    """

    def __init__(self, width: int, hidden: int, prototypes: int):
        super().__init__()
        self.layers = nn.Sequential(
            *(Linear(width, hidden), nn.GELU(), Linear(hidden, hidden), nn.GELU()),
            Linear(hidden, BOTTLENECK),
        )
        self.prototypes = Linear(BOTTLENECK, prototypes, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the cosines (..., K) of tokens (..., D') and prototypes, in float32."""
        x = self.layers(tokens)
        with torch.autocast(x.device.type, enabled=False):
            x = functional.normalize(x.to(self.prototypes.weight.dtype), dim=-1)
            return linear(x, functional.normalize(self.prototypes.weight, dim=1))

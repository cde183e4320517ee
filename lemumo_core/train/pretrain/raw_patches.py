"""Raw patches as features: what a linear map finds without any encoder, the least to beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.data.samples import Batch
from lemumo_core.data.views import clean_view
from lemumo_core.methods.method import FEATURE_MODALITIES, Features, ModalityFeatures
from lemumo_core.model.config import MODALITIES, PATCH
from lemumo_core.train.pretrain.probe_truth import CELL


@torch.no_grad()
def raw_patches(batch: Batch, modalities: Sequence[str] = FEATURE_MODALITIES) -> Features:
    """Return the pixels of each patch, averaged over cells of 4 x 4, as its token.

    Image channels run from 0 to 1; those of the companion are the network's. An absent modality is
    zeros.

    Args:
        batch: B samples.
        modalities: which features are asked for.

    Returns:
        By modality: tokens (B, N, 16 C) of its C channels, ``pooled`` their mean over the patches.
    """
    view = clean_view(batch)
    images = view.image.float() / 255, view.companion
    alone = {
        name: _tokens(image * view.present[:, row, None, None, None])
        for row, (name, image) in enumerate(zip(MODALITIES, images, strict=True))
    }
    found = {}
    for name in modalities:
        rows = [MODALITIES.index(name)] if name in MODALITIES else [*range(len(MODALITIES))]
        tokens = torch.cat([alone[MODALITIES[row]] for row in rows], dim=-1)
        there = (view.present[:, rows] > 0.5).any(1, keepdim=True)
        found[name] = ModalityFeatures(tokens, tokens.mean(1), there.expand(tokens.shape[:2]))
    return found


def _tokens(image: Tensor) -> Tensor:
    """Cells of each patch of an image (B, H, W, C), as tokens (B, N, 16 C)."""
    means = functional.avg_pool2d(image.permute(0, 3, 1, 2), CELL)
    return functional.pixel_unshuffle(means, PATCH // CELL).flatten(2).transpose(1, 2)

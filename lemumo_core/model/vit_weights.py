"""Weights of public ViTs, named as in timm and DINOv2, as a start of one modality's side.

A ViT is held exactly by the encoders that are one: the tower of the modality in ``late``,
``camera_only`` or ``companion_only``, and ``early`` while the other modality is absent. Those with
fusion tokens take all weights, and use them otherwise: in the first block a fusion token asks in
the place of each patch, with its position.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from lemumo_core.faults import Fault
from lemumo_core.model.config import MODALITIES, PATCH
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.external_weights import CLASSIFIERS, load_by_name, read_state_dict
from lemumo_core.model.fusion import FusionEncoder
from lemumo_core.model.towers import LateEncoder, Tower
from lemumo_core.model.transformer import resize_tables

UNUSED = (*CLASSIFIERS, "mask_token")
EXTRA_TOKENS = ("register_tokens", "storage_tokens", "reg_token")
SCALES = {"ls1.gamma": "attn.proj", "ls2.gamma": "mlp.fc2"}
"""LayerScale (arXiv 2103.17239), and the linear map before it, which takes it in exactly."""


def load_vit(encoder: Encoder, modality: str, path: Path) -> None:
    """Start the side of one modality from a ViT's weights.

    Patch embeddings and positions of other sizes are resized, LayerScale is taken into the weights
    before it, and the embedding of the modality, which theirs does not have, becomes zero. The
    patch embedding of the other modality stays as it is.

    Args:
        encoder: with a ViT's blocks.
        modality: whose patch embedding and positions they are.
        path: .safetensors, or what ``torch.save`` wrote.

    Raises:
        Fault: ``wrong_weights``, naming the first thing that this encoder cannot hold.
        FileNotFoundError: nothing there.
    """
    if modality not in encoder.modalities:
        raise Fault(
            "wrong_weights", f"{path}: the encoder sees no {modality}: take another variant"
        )
    tensors = read_state_dict(path)
    _check(tensors, encoder, path)
    named, prefix = {}, _prefix(encoder, modality)
    for name, tensor in _without_layer_scale(tensors).items():
        if name.startswith("patch_embed.proj."):
            name = f"patch_embed.{modality}.{name.split('.')[-1]}"
            named[name] = resize_patches(tensor, PATCH) if tensor.ndim == 4 else tensor
        elif name == "pos_embed":
            cls, patches = _positions(tensor, encoder.grid)
            named[f"{prefix}positions"] = torch.cat([cls, patches], dim=1)
            if isinstance(encoder, FusionEncoder):
                named["positions"] = _with_fusion(encoder, modality, cls, patches)
        elif not name.startswith(UNUSED):
            named[f"{prefix}{name}"] = tensor
    own: tuple[str, ...] = ("patch_embed.", "fusion_tokens")
    if isinstance(encoder, LateEncoder):
        own += tuple(f"towers.{name}." for name in MODALITIES if name != modality)
    load_by_name(encoder, named, path, own)
    _forget_modality(encoder, modality)


def resize_patches(weight: Tensor, side: int) -> Tensor:
    """Return a patch embedding for patches of another size.

    It answers to a patch that was enlarged bicubically as the given one does to the patch itself
    (FlexiViT, arXiv 2212.08013, equation 4): the pseudo-inverse of the resizing, transposed.

    Args:
        weight: (D, C, k, k).
        side: pixels a side of the new patches.

    Returns:
        (D, C, side, side).
    """
    given = weight.shape[-1]
    if given == side:
        return weight
    pixels = torch.eye(given**2, dtype=torch.float64).unflatten(1, (1, given, given))
    resize = functional.interpolate(pixels, (side, side), mode="bicubic").flatten(1).T
    flat = torch.linalg.pinv(resize.T) @ weight.flatten(2).double().mT
    return flat.mT.unflatten(2, (side, side)).to(weight.dtype)


def _prefix(encoder: Encoder, modality: str) -> str:
    """Return what the names of the blocks begin with."""
    if isinstance(encoder, FusionEncoder):
        return ""
    return f"towers.{modality}." if isinstance(encoder, LateEncoder) else "tower."


def _check(tensors: Mapping[str, Tensor], encoder: Encoder, path: Path) -> None:
    """Raise a Fault for the first thing that the encoder cannot hold."""

    def refuse(problem: str) -> None:
        raise Fault("wrong_weights", f"{path}: {problem}")

    if any(name.startswith("rope_embed.") for name in tensors):
        refuse("rotary positions, as of DINOv3 and EUPE, and the encoder learns a table of them")
    if "pos_embed" not in tensors or "patch_embed.proj.weight" not in tensors:
        refuse("no ViT of timm or DINOv2: no pos_embed, or no patch_embed.proj")
    extra = next((name for name in EXTRA_TOKENS if name in tensors), None)
    if extra:
        refuse(f"{extra}, and the encoder has no such tokens: take weights without registers")
    width = tensors["pos_embed"].shape[-1]
    blocks = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    tower = next(one for one in encoder.modules() if isinstance(one, (Tower, FusionEncoder)))
    if width != tower.positions.shape[-1]:
        refuse(
            f"width {width}, and the encoder's is {tower.positions.shape[-1]}: choose --model.size"
        )
    if blocks != len(tower.blocks):
        refuse(f"{blocks} blocks, and the encoder has {len(tower.blocks)}: choose --model.size")
    count = tensors["pos_embed"].shape[1] - 1
    if round(count**0.5) ** 2 != count:
        refuse(f"pos_embed has {count + 1} rows, not those of CLS and a square grid")


def _without_layer_scale(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the factors of LayerScale into the linear maps before them."""
    found = dict(tensors)
    for name, factors in tensors.items():
        block, _, scale = name.rpartition(".ls")
        linear = SCALES.get(f"ls{scale}")
        if block and linear:
            del found[name]
            for kind, shape in (("weight", (-1, 1)), ("bias", (-1,))):
                key = f"{block}.{linear}.{kind}"
                if key in found:
                    found[key] = found[key] * factors.view(shape)
    return found


def _positions(table: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the positions of CLS (1, 1, D) and of the patches of a grid (1, N, D)."""
    side = round((table.shape[1] - 1) ** 0.5)
    return table[:, :1], resize_tables(table[:, 1:], (side, side), grid)


def _with_fusion(encoder: FusionEncoder, modality: str, cls: Tensor, patches: Tensor) -> Tensor:
    """Return positions of which the fusion tokens and the modality have those of the patches."""
    others = list(encoder.positions.detach()[:, 1:].chunk(1 + len(MODALITIES), dim=1)[1:])
    others[MODALITIES.index(modality)] = patches
    return torch.cat([cls, patches, *others], dim=1)


@torch.no_grad()
def _forget_modality(encoder: Encoder, modality: str) -> None:
    """Let what is added to the patches of a modality, which theirs do not have, begin at zero."""
    embed, row = encoder.patch_embed, encoder.modalities.index(modality)
    embed.modality[row] = 0.0
    summed = len(encoder.modalities) > 1 and not isinstance(encoder, (LateEncoder, FusionEncoder))
    if summed:  # early: the other one, too, and the token of its absence
        embed.modality[:] = 0.0
        if embed.absent is not None:
            embed.absent[1 - row] = 0.0

"""The authors' code of Le MuMo JEPA, run from a checkout of their repository."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from lemumo_core.methods.lemumo.method import LeMuMoMethod

Views = dict[str, tuple[Tensor, Tensor]]
"""By "global" and "local": images (B, V, 3, H, W), normalised, and depth (B, V, 1, H, W)."""


class Reference(nn.Module):
    """The authors' encoder and SIGReg, out of a checkout of their repository.

    Args:
        checkout: its root.
        weight: lambda, of SIGReg.
    """

    def __init__(self, checkout: Path, weight: float):
        super().__init__()
        self.weight = weight
        module = import_encoder(checkout)
        torch.manual_seed(0)
        self.encoder = module.MMEncoderC_FusionTokens(range_channels=1, aligned_mode=True)
        self.sigreg = class_of(checkout / "train.py", "SIGReg")()

    def forward(self, views: Views) -> Tensor:
        """Their loss of a step: lambda SIGReg + (1 - lambda) invariance."""
        images, companions = ({name: v[i] for name, v in views.items()} for i in (0, 1))
        _, projections = self.encoder(images, companions)
        center = projections[: views["global"][0].shape[1]].mean(0)
        invariance = (center - projections).square().mean()
        return self.weight * self.sigreg(projections) + (1 - self.weight) * invariance


def import_encoder(checkout: Path) -> ModuleType:
    """Import their src/encoder.py, which PYTHONPATH names.

    Raises:
        SystemExit: no such checkout, or timm or torchvision cannot be imported.
    """
    if not (checkout / "src" / "encoder.py").exists():
        raise SystemExit(f"no src/encoder.py in {checkout}: give a checkout of le-mumo-jepa")
    try:
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            declare_operators()
        return importlib.import_module("encoder")
    except ImportError as error:
        raise SystemExit(f"{error}: see compare_reference.py --help for what to install") from None


def declare_operators() -> None:
    """Let torchvision be imported beside a CPU build of torch.

    Its wheel on PyPI is built for CUDA and refuses that, for want of the operators it describes.
    Neither timm nor what we compare with calls them: declaring them is enough.
    """
    for name in ("nms", "qnms"):
        signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        torch.library.define(f"torchvision::{name}", signature)


def class_of(path: Path, name: str) -> Any:
    """One class of a program that cannot be imported without all that it needs."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    scope: dict[str, Any] = {"torch": torch}
    exec(compile(tree, str(path), "exec"), scope)
    return scope[name]


def mapped(theirs: dict[str, Tensor], method: LeMuMoMethod) -> dict[str, Tensor]:
    """Weights of their encoder under the names of ours; theirs that take no part are left out."""
    ours = {
        "encoder.cls_token": theirs["cls_token"],
        "encoder.fusion_tokens": theirs["fusion_tokens"],
        "encoder.positions": theirs["pos_embed"],
        "encoder.patch_embed.modality": torch.cat(
            [theirs["cam_modality_embed"][0], theirs["range_modality_embed"][0]]
        ),
    }
    prefixes = {
        "encoder.patch_embed.image.": "cam_patch_embed.proj.",
        "encoder.patch_embed.companion.": "range_patch_embed.",
        "encoder.blocks.": "backbone.blocks.",
        "encoder.norm.": "backbone.norm.",
        "projector.embedding.": "head.",
        # Their dropout of rate 0 takes a place in the sequence.
        **{
            f"projector.layers.{a}.": f"proj.{b}."
            for a, b in ((0, 0), (1, 1), (3, 4), (4, 5), (6, 8))
        },
    }
    for name in method.state_dict().keys() - ours.keys():
        (prefix,) = (prefix for prefix in prefixes if name.startswith(prefix))
        ours[name] = theirs[prefixes[prefix] + name[len(prefix) :]]
    return ours

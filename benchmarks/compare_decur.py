"""Our DeCUR beside the authors' code: equal loss and gradients, and the time of a step.

    git clone https://github.com/zhu-xlab/DeCUR CHECKOUT
    pip install --target PEERS huggingface_hub einops pyyaml
    pip install --target PEERS --no-deps timm==0.9.16 torchvision==0.28  # torch 2.13's
    python -m benchmarks.compare_decur --reference CHECKOUT --peers PEERS [--backbone vits16 rn50]

PEERS keeps what their model imports out of this environment. Nothing of theirs is copied: their
``DeCUR`` runs from the checkout, without pretrained weights, in one process (their all-reduce is
one over a single rank and their literal world size of 4 is taken out by a batch size of a quarter),
with its weights mapped to ours. ``rn50`` is ResNet-50 with deformable attention; there both
modalities of theirs go through the modules of the first one, and so ours hold these weights twice:
their gradient is the sum of our two; scales of batch norm that begin at 0, and hide a residual
branch from the gradient, begin at other numbers. On the CPU, one thread, no stochastic depth.
Differences are of float64 and relative: of the loss, and of the weight whose gradient differs most,
by norms. Time is processor time of float32, in turns.

The last line is JSON: by backbone loss_difference, gradient_difference and step_ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, distributed, nn

from benchmarks._reference import declare_operators
from benchmarks._timing import machine
from lemumo_core.data.crops import whole_canvas
from lemumo_core.data.views import View
from lemumo_core.methods.decur.method import DeCUR, DecurMethod
from lemumo_core.methods.decur.views import CropConfig, PairedViews
from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.patch_embed import IMAGENET_MEAN, IMAGENET_STD
from lemumo_core.model.transformer import Block

SIZE = 224
BACKBONES = {"vits16": "vit", "rn50": "resnet50_rda"}
COMMON = 0.75
LEAST = 1e-9
"""Largest gradient of a weight that is compared, relative to the largest of all."""


def import_model(checkout: Path, peers: Path | None) -> Any:
    """Import their ``DeCUR``.

    Raises:
        SystemExit: no such checkout, or what it imports is missing.
    """
    source = checkout / "src" / "pretrain"
    if not (source / "models" / "decur.py").exists():
        raise SystemExit(f"no src/pretrain/models/decur.py in {checkout}: give a checkout of DeCUR")
    sys.path[:0] = [str(source), *([str(peers)] if peers else [])]
    try:
        try:
            import torchvision
        except RuntimeError:
            declare_operators()
        import timm
        import torchvision
        from models.decur import DeCUR as Theirs
    except ImportError as error:
        raise SystemExit(f"{error}: see compare_decur.py --help for what to install") from None
    # Their constructor downloads ImageNet weights: here both start from random ones.
    for module, name in ((timm, "create_model"), (torchvision.models, "resnet50")):
        made = getattr(module, name)
        setattr(module, name, lambda *a, made=made, **k: made(*a, **{**k, "pretrained": False}))
    return Theirs


def their_model(kind: Any, backbone: str, batch: int, dims: int) -> nn.Module:
    """Build theirs, so that it divides by the batch of one process."""
    torch.manual_seed(0)
    model: nn.Module = kind(
        SimpleNamespace(
            backbone={"vits16": "vits16", "rn50": "resnet50"}[backbone],
            mode=["rgb", "depth"],
            rda=backbone == "rn50",
            projector=f"{dims}-{dims}-{dims}",
            batch_size=batch / 4,
            dim_common=round(COMMON * dims),
            lambd=0.0051,
        )
    )
    for name, parameter in model.named_parameters():
        if name.endswith(".weight") and not parameter.any():
            nn.init.uniform_(parameter, 0.1, 0.5)
    return model.train()


def our_model(backbone: str, dims: int) -> DecurMethod:
    """Build ours by the preset ``repo``, with a companion of three channels as theirs.

    The third one is the validity of two bands.
    """
    model = ModelConfig(
        size="small", height=SIZE, width=SIZE, companion="raster", companion_bands=2
    )
    options = DeCUR(
        preset="repo",
        backbone=BACKBONES[backbone],  # type: ignore[arg-type]
        common=COMMON,
        dimensions=dims,
        crops=CropConfig((SIZE, SIZE)),
    )
    ours = DecurMethod(options.resolve(model, model.input_spec), model).train()
    for module in ours.modules():
        if isinstance(module, Block):
            module.drop_path = 0.0
    return ours


def their_names(ours: DecurMethod) -> dict[str, str]:
    """Return the name of theirs for each of our weights that they have."""
    names = {}
    for name in ours.state_dict():
        first, *rest = name.split(".")
        if first == "projectors":
            names[name] = ".".join(["projector1", *rest[1:]])
            continue
        if rest[0] == "patch_embed":
            if rest[1] in MODALITIES:
                number = MODALITIES.index(rest[1]) + 1
                names[name] = f"backbone_{number}.patch_embed.proj.{rest[2]}"
            continue
        number, inner = MODALITIES.index(rest[1]) + 1, rest[2:]
        if inner[:2] == ["backbone", "attention"]:
            tail = ".".join(inner[3:])
            names[name] = f"da1_l{inner[2]}.{tail}"
        else:
            tail = ".".join(inner[1:] if inner[0] == "backbone" else inner)
            names[name] = f"backbone_{number}.{'pos_embed' if tail == 'positions' else tail}"
    return names


def make_views(batch: int, dtype: torch.dtype) -> tuple[list[Tensor], PairedViews]:
    """The same random views as they take them, image and companion, and as we do."""
    g = torch.Generator().manual_seed(0)
    # As our models keep them: float32, whatever the weights are.
    mean, std = ((torch.tensor(x) * 255).to(dtype) for x in (IMAGENET_MEAN, IMAGENET_STD))
    theirs: dict[str, list[Tensor]] = {name: [] for name in MODALITIES}
    views = []
    for _ in range(2):
        image = torch.randint(0, 256, (batch, SIZE, SIZE, 3), generator=g, dtype=torch.uint8)
        companion = torch.randn(batch, SIZE, SIZE, 3, generator=g).to(dtype)
        theirs["image"].append(((image - mean) / std).permute(0, 3, 1, 2).contiguous())
        theirs["companion"].append(companion.permute(0, 3, 1, 2).contiguous())
        intrinsics = torch.eye(3, dtype=dtype).repeat(batch, 1, 1)
        present = torch.ones(batch, 2, dtype=dtype)
        crops = whole_canvas((SIZE, SIZE), batch)
        views.append(View(image, companion, intrinsics, present, crops, None))
    return [*theirs["image"], *theirs["companion"]], PairedViews(tuple(views), tuple(views))


def their_loss(model: nn.Module, views: list[Tensor]) -> Tensor:
    """Their loss as their training loop adds it up."""
    image, companion, cross, _ = model(*views)
    return (image + companion + cross) / 3


def both_models(
    kind: Any, backbone: str, batch: int, dims: int, dtype: torch.dtype
) -> tuple[nn.Module, DecurMethod, dict[str, str]]:
    """Build theirs, ours with its weights, and the names of these (``their_names``)."""
    theirs = their_model(kind, backbone, batch, dims).to(dtype)
    ours = our_model(backbone, dims).to(dtype)
    names, weights = their_names(ours), theirs.state_dict()
    loaded = ours.state_dict() | {own: weights[name] for own, name in names.items()}
    loaded = {n: torch.zeros_like(t) if "modality" in n else t for n, t in loaded.items()}
    ours.load_state_dict(loaded)
    return theirs, ours, names


def differences(kind: Any, backbone: str, batch: int, dims: int) -> dict[str, float]:
    """Return relative differences of loss and gradients in float64."""
    theirs, ours, names = both_models(kind, backbone, batch, dims, torch.float64)
    their_views, our_views = make_views(batch, torch.float64)
    mine, other = ours(our_views, 0).loss.total, their_loss(theirs, their_views)
    mine.backward()
    other.backward()
    expected: dict[str, Tensor] = {}
    for own, parameter in ours.named_parameters():
        if own in names and parameter.grad is not None:
            name = names[own]
            expected[name] = expected.get(name, 0) + parameter.grad
    gradients = {name: p.grad for name, p in theirs.named_parameters() if name in expected}
    scale = max(g.abs().max() for g in expected.values())
    # Gradients that are 0 but for rounding, as of biases before a batch norm, are left out.
    counted = {n: g for n, g in expected.items() if g.abs().max() > LEAST * scale}
    relative = [(gradients[n] - g).norm() / g.norm() for n, g in counted.items()]
    return {
        "loss": mine.item(),
        "loss_difference": abs(mine.item() - other.item()) / other.item(),
        "gradient_difference": max(relative).item(),
        "weights_compared": len(counted),
        "weights_mapped": len(expected),
    }


def times(kind: Any, backbone: str, batch: int, dims: int, repeats: int) -> dict[str, float]:
    """Return processor time of a step of loss and gradients, in float32, in turns."""
    theirs, ours, _ = both_models(kind, backbone, batch, dims, torch.float32)
    their_views, our_views = make_views(batch, torch.float32)
    start, taken = time.process_time, {"ours": [], "theirs": []}
    for _ in range(repeats + 1):
        for name, model, loss in (
            ("ours", ours, lambda: ours(our_views, 0).loss.total),
            ("theirs", theirs, lambda: their_loss(theirs, their_views)),
        ):
            model.zero_grad()
            begin = start()
            loss().backward()
            taken[name].append(start() - begin)
    mine_s, their_s = (statistics.median(one[1:]) for one in taken.values())
    return {
        "step_ms_ours": 1e3 * mine_s,
        "step_ms_theirs": 1e3 * their_s,
        "step_ratio": mine_s / their_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--peers", type=Path, metavar="FOLDER")
    parser.add_argument("--backbone", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--dimensions", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    kind = import_model(args.reference, args.peers)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    print(f"{machine()}, torch {torch.__version__}, 1 thread, batch {args.batch}")
    results = {}
    for backbone in args.backbone:
        one = differences(kind, backbone, args.batch, args.dimensions)
        one |= times(kind, backbone, args.batch, args.dimensions, args.repeats)
        results[backbone] = {name: float(f"{value:.4g}") for name, value in one.items()}
        print(
            f"{backbone:8} loss {one['loss']:.4f}, differs by {one['loss_difference']:.1e}, "
            f"gradients of {one['weights_compared']} of {one['weights_mapped']} weights by "
            f"{one['gradient_difference']:.1e} (target: 1e-6); a step "
            f"{one['step_ms_ours']:.0f} ms, theirs {one['step_ms_theirs']:.0f} ms, ratio "
            f"{one['step_ratio']:.3f} (target: 0.8)"
        )
    distributed.destroy_process_group()
    print(json.dumps(results))


if __name__ == "__main__":
    main()

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
their gradient is the sum of our two. Float32 on the CPU, one thread, no stochastic depth; time is
processor time, in turns. Differences are relative: of the loss, and of the weight whose gradient
differs most, by norms.

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
    return kind(
        SimpleNamespace(
            backbone={"vits16": "vits16", "rn50": "resnet50"}[backbone],
            mode=["rgb", "depth"],
            rda=backbone == "rn50",
            projector=f"{dims}-{dims}-{dims}",
            batch_size=batch / 4,
            dim_common=round(COMMON * dims),
            lambd=0.0051,
        )
    ).train()


def our_model(backbone: str, dims: int) -> DecurMethod:
    """Build ours by the preset ``repo``, with a companion of three channels as theirs."""
    model = ModelConfig(preset="paper", size="small", height=SIZE, width=SIZE, companion="thermal")
    options = DeCUR(
        preset="repo",
        backbone=BACKBONES[backbone],  # type: ignore[arg-type]
        common=COMMON,
        dimensions=dims,
        crops=CropConfig((SIZE, SIZE)),
    )
    ours = DecurMethod(options.resolve(model, model.input_spec), model).train()
    widen_companion(ours)
    for module in ours.modules():
        if isinstance(module, Block):
            module.drop_path = 0.0
    return ours


def widen_companion(ours: DecurMethod) -> None:
    """Let the companion have the three channels that theirs has."""
    owner, name = (
        (ours.encoder.patch_embed, "companion")
        if ours.options.backbone == "vit"
        else (ours.encoder.children_by_modality()[1].backbone, "conv1")
    )
    old = owner.get_submodule(name)
    new = nn.Conv2d(3, old.out_channels, old.kernel_size, old.stride, old.padding)
    if old.bias is None:
        new.register_parameter("bias", None)
    owner.add_module(name, new)


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


def make_views(batch: int) -> tuple[list[Tensor], PairedViews]:
    """The same random views as they take them, image and companion, and as we do."""
    g = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(x) * 255 for x in (IMAGENET_MEAN, IMAGENET_STD))
    theirs: dict[str, list[Tensor]] = {name: [] for name in MODALITIES}
    views = []
    for _ in range(2):
        image = torch.randint(0, 256, (batch, SIZE, SIZE, 3), generator=g, dtype=torch.uint8)
        companion = torch.randn(batch, SIZE, SIZE, 3, generator=g)
        theirs["image"].append(((image - mean) / std).permute(0, 3, 1, 2).contiguous())
        theirs["companion"].append(companion.permute(0, 3, 1, 2).contiguous())
        intrinsics, present = torch.eye(3).repeat(batch, 1, 1), torch.ones(batch, 2)
        crops = whole_canvas((SIZE, SIZE), batch)
        views.append(View(image, companion, intrinsics, present, crops, None))
    return [*theirs["image"], *theirs["companion"]], PairedViews(tuple(views), tuple(views))


def their_loss(model: nn.Module, views: list[Tensor]) -> Tensor:
    """Their loss as their training loop adds it up."""
    image, companion, cross, _ = model(*views)
    return (image + companion + cross) / 3


def compare(kind: Any, backbone: str, batch: int, dims: int, repeats: int) -> dict[str, float]:
    """Map theirs to ours and compare them."""
    theirs, ours = their_model(kind, backbone, batch, dims), our_model(backbone, dims)
    names, weights = their_names(ours), theirs.state_dict()
    loaded = ours.state_dict() | {own: weights[name] for own, name in names.items()}
    ours.load_state_dict(
        {n: torch.zeros_like(t) if "modality" in n else t for n, t in loaded.items()}
    )
    their_views, our_views = make_views(batch)
    start, times = time.process_time, {"ours": [], "theirs": []}
    for _ in range(repeats + 1):
        for name, way in (
            ("ours", lambda: ours(our_views, 0).loss.total),
            ("theirs", lambda: their_loss(theirs, their_views)),
        ):
            (ours if name == "ours" else theirs).zero_grad()
            begin = start()
            loss = way()
            loss.backward()
            times[name].append(start() - begin)
            if name == "ours":
                mine = loss.item()
    expected: dict[str, Tensor] = {}
    for own, parameter in ours.named_parameters():
        if own in names and parameter.grad is not None:
            name = names[own]
            expected[name] = expected.get(name, 0) + parameter.grad
    gradients = {name: p.grad for name, p in theirs.named_parameters() if name in expected}
    scale = max(g.abs().max() for g in expected.values())
    # Gradients that are 0 but for rounding, as of biases before a batch norm, are left out.
    counted = {n: g for n, g in expected.items() if g.abs().max() > 1e-5 * scale}
    differences = [(gradients[n] - g).norm() / g.norm() for n, g in counted.items()]
    mine_s, their_s = (statistics.median(taken[1:]) for taken in times.values())
    return {
        "loss": mine,
        "loss_difference": abs(mine - loss.item()) / loss.item(),
        "gradient_difference": max(differences).item(),
        "weights_compared": len(counted),
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
        one = compare(kind, backbone, args.batch, args.dimensions, args.repeats)
        results[backbone] = {name: float(f"{value:.4g}") for name, value in one.items()}
        print(
            f"{backbone:8} loss {one['loss']:.4f}, differs by {one['loss_difference']:.1e}, "
            f"gradients by {one['gradient_difference']:.1e} (target: 1e-6); a step "
            f"{one['step_ms_ours']:.0f} ms, theirs {one['step_ms_theirs']:.0f} ms, ratio "
            f"{one['step_ratio']:.3f} (target: 0.8)"
        )
    distributed.destroy_process_group()
    print(json.dumps(results))


if __name__ == "__main__":
    main()

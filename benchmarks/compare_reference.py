"""Our encoder beside the authors' of Le MuMo JEPA (arXiv 2603.24327): equal outputs, time, memory.

    git clone https://github.com/ciemcornelissen/le-mumo-jepa CHECKOUT
    pip install --no-deps timm torchvision        # what their encoder imports
    python benchmarks/compare_reference.py --reference CHECKOUT [--peers DIR] [--repeats 10]

--peers names the folder of `pip install --target DIR`, where the two are kept out of this
environment. Nothing of theirs is copied: their encoder and their SIGReg run from the checkout, with
its weights mapped to ours. Both sides run in turns, in float32 on the CPU. A training step is that
of the paper's loss, 2 x 224 and 4 x 96 views, AdamW on all weights; theirs doubles the projections
before the loss, as their training loop does, and leaves out the auxiliary passes that their
defaults add. Time is processor time, which other work on the machine disturbs least. Peak memory
is what the model and two steps add to a fresh process, one for each side.

With CUDA it also prints samples/s of such a step: ours in bfloat16, theirs, which switches
autocast off, as it is.

The last line is JSON: max_abs_diff, forward_ratio, step_ratio, memory_ratio and what they are of.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from _timing import machine
from torch import Tensor, nn

from lemumo_core.model.config import ModelConfig
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.stems import IMAGENET_MEAN, IMAGENET_STD
from lemumo_core.model.variants import build_encoder
from lemumo_core.objectives.lejepa import LeJepa

CONFIG = ModelConfig(preset="paper", size="small", height=224, width=224)
VIEWS = {"global": (2, 224), "local": (4, 96)}
BATCH = 4
WEIGHT = 0.1
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05
TARGETS = {"forward": "(target: 0.80)", "step": "(target: 0.75)"}
Views = dict[str, tuple[Tensor, Tensor]]


class Reference:
    """The authors' encoder and SIGReg, out of a checkout of their repository."""

    def __init__(self, checkout: Path, peers: Path | None):
        module = import_encoder(checkout, peers)
        torch.manual_seed(0)
        self.encoder = module.MMEncoderC_FusionTokens(range_channels=1, aligned_mode=True)
        self.sigreg = class_of(checkout / "train.py", "SIGReg")()

    def loss(self, views: Views) -> Tensor:
        """Their loss of a step: lambda SIGReg + (1 - lambda) invariance."""
        images, companions = ({name: v[i] for name, v in views.items()} for i in (0, 1))
        _, projections = self.encoder(images, companions)
        centre = projections[: VIEWS["global"][0]].mean(0)
        invariance = (centre - projections).square().mean()
        return WEIGHT * self.sigreg(projections) + (1 - WEIGHT) * invariance


class Ours:
    """Our encoder and objective."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.encoder = build_encoder(CONFIG)
        self.objective = LeJepa(weight=WEIGHT)

    def loss(self, views: Views) -> Tensor:
        """Our loss of a step."""
        projections = []
        for (image, companion), (count, _) in zip(views.values(), VIEWS.values(), strict=True):
            present = image.new_ones(len(image), 2)
            cls = self.encoder(image, companion, present, dense=False).cls
            projections.append(self.encoder.project(cls)[1].unflatten(0, (-1, count)))
        joint = torch.cat([p.transpose(0, 1) for p in projections])
        return self.objective(joint, step=0).total


def import_encoder(checkout: Path, peers: Path | None) -> ModuleType:
    """Their src/encoder.py.

    The wheel of torchvision on PyPI is built for CUDA and refuses a CPU build of torch, for want of
    the operators it describes. Neither timm nor the encoder calls them: declaring them is enough.

    Raises:
        SystemExit: no such checkout, or timm or torchvision cannot be imported.
    """
    if not (checkout / "src" / "encoder.py").exists():
        raise SystemExit(f"no src/encoder.py in {checkout}: give a checkout of le-mumo-jepa")
    for folder in (peers, checkout / "src"):
        if folder and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    try:
        try:
            importlib.import_module("torchvision")
        except RuntimeError:
            for name in ("nms", "qnms"):
                signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{name}", signature)
        return importlib.import_module("encoder")
    except ImportError as error:
        raise SystemExit(f"{error}: pip install --no-deps timm torchvision") from None


def class_of(path: Path, name: str) -> Any:
    """One class of a program that cannot be imported without all that it needs."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    scope: dict[str, Any] = {"torch": torch}
    exec(compile(tree, str(path), "exec"), scope)
    return scope[name]


def mapped(theirs: dict[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Weights of their encoder under the names of ours; theirs that take no part are left out."""
    n = CONFIG.grid[0] * CONFIG.grid[1]
    assert theirs["pos_embed"].shape[1] == 1 + 3 * n
    ours = {
        "cls_token": theirs["cls_token"],
        "fusion_tokens": theirs["fusion_tokens"],
        "positions": theirs["pos_embed"],
        "stems.modality": torch.cat(
            [theirs["cam_modality_embed"][0], theirs["range_modality_embed"][0]]
        ),
    }
    prefixes = {
        "stems.image.": "cam_patch_embed.proj.",
        "stems.companion.": "range_patch_embed.",
        "blocks.": "backbone.blocks.",
        "norm.": "backbone.norm.",
        "embedding.": "head.",
        # Their dropout of rate 0 takes a place in the sequence.
        **{f"projector.{a}.": f"proj.{b}." for a, b in ((0, 0), (1, 1), (3, 4), (4, 5), (6, 8))},
    }
    for name in encoder.state_dict().keys() - ours.keys():
        (prefix,) = (prefix for prefix in prefixes if name.startswith(prefix))
        ours[name] = theirs[prefixes[prefix] + name[len(prefix) :]]
    return ours


def make_views(batch: int, device: str = "cpu") -> tuple[Views, Views]:
    """The same random views twice: as they take them, normalised (B, V, C, H, W), and as we do,
    RGB and depth (B V, H, W, C), 3 % of the depth known."""
    g = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(x) * 255 for x in (IMAGENET_MEAN, IMAGENET_STD))
    theirs, ours = {}, {}
    for name, (count, size) in VIEWS.items():
        shape = batch * count, size, size
        image = torch.randint(0, 256, (*shape, 3), generator=g, dtype=torch.uint8)
        depth = torch.rand((*shape, 1), generator=g)
        depth *= torch.rand((*shape, 1), generator=g) < 0.03
        ours[name] = image.to(device), depth.to(device)
        normalised = (image - mean) / std
        theirs[name] = tuple(
            x.permute(0, 3, 1, 2).unflatten(0, (batch, count)).contiguous().to(device)
            for x in (normalised, depth)
        )
    return theirs, ours


@torch.no_grad()
def greatest_difference(reference: Reference, ours: Ours) -> float:
    """Of tokens, embeddings and projections of the global and the local views, in evaluation."""
    reference.encoder.eval()
    ours.encoder.eval()
    their_views, our_views = make_views(2)
    worst = 0.0
    for name, (image, companion) in our_views.items():
        embeddings, projections, tokens = reference.encoder._forward_batch(*their_views[name])
        encoding = ours.encoder(image, companion, image.new_ones(len(image), 2, dtype=torch.float))
        embedding, projection = ours.encoder.project(encoding.cls)
        projection = projection.unflatten(0, (2, -1)).transpose(0, 1)
        pairs = (embedding, embeddings), (projection, projections), (encoding.tokens, tokens)
        for mine, their in pairs:
            worst = max(worst, (mine - their).abs().max().item())
    return worst


def forward(side: Reference | Ours, views: Views) -> Callable[[], Any]:
    """Inference on one image and its depth map."""
    side.encoder.eval()
    image, companion = views["global"]
    if isinstance(side, Reference):
        image, companion = image[:1, :1], companion[:1, :1]
        return torch.no_grad()(lambda: side.encoder._forward_batch(image, companion))
    present = torch.ones(1, 2)
    return torch.no_grad()(
        lambda: side.encoder.project(side.encoder(image[:1], companion[:1], present).cls)
    )


def training_step(side: Reference | Ours, views: Views) -> Callable[[], Any]:
    """One optimiser step of the paper's loss."""
    side.encoder.train()
    optimizer = torch.optim.AdamW(
        side.encoder.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )

    def step() -> None:
        optimizer.zero_grad()
        side.loss(views).backward()
        optimizer.step()

    return step


def cpu_ms(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median processor time of each way, milliseconds, run in turns after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def peak_mib(side: str, checkout: Path, peers: Path | None) -> float:
    """What two training steps of one side, model included, add to the memory of a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_mib, (side, checkout, peers))


def _peak_mib(side: str, checkout: Path, peers: Path | None) -> float:
    torch.set_num_threads(1)
    theirs, ours = make_views(BATCH)
    import_encoder(checkout, peers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if side == "ours":
        step = training_step(Ours(), ours)
    else:
        step = training_step(Reference(checkout, peers), theirs)
    for _ in range(2):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def cuda_samples_per_s(side: Reference | Ours, batch: int, repeats: int) -> float:
    """Samples a second of training steps on the first CUDA device, views already there."""
    views = make_views(batch, "cuda")[isinstance(side, Ours)]
    for module in (m for m in vars(side).values() if isinstance(m, nn.Module)):
        module.cuda()
    step = training_step(side, views)
    with torch.autocast("cuda", torch.bfloat16):
        for _ in range(3):
            step()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            step()
        torch.cuda.synchronize()
    return batch * repeats / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--reference", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--peers", type=Path, help="folder of timm and torchvision")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--cuda-batch", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    reference = Reference(args.reference, args.peers)
    ours = Ours()
    ours.encoder.load_state_dict(mapped(reference.encoder.state_dict(), ours.encoder))
    result = {"max_abs_diff": greatest_difference(reference, ours)}
    print(f"{machine()}, torch {torch.__version__}, 1 thread, medians of {args.repeats}")
    print(f"greatest difference of outputs {result['max_abs_diff']:.1e} (target: 1e-4)")

    sides = {"ours": ours, "theirs": reference}
    their_views, our_views = make_views(BATCH)
    views = {"ours": our_views, "theirs": their_views}
    peaks = {name: peak_mib(name, args.reference, args.peers) for name in sides}
    rows = {
        "forward": cpu_ms({n: forward(s, views[n]) for n, s in sides.items()}, args.repeats),
        "step": cpu_ms({n: training_step(s, views[n]) for n, s in sides.items()}, args.repeats),
        "memory": peaks,
    }
    labels = {"forward": "forward b1, CPU ms", "step": "step B=4, CPU ms", "memory": "peak MiB"}
    for name, row in rows.items():
        ratio = result[f"{name}_ratio"] = row["ours"] / row["theirs"]
        line = (
            f"{labels[name]:20}{row['ours']:8.1f}, theirs {row['theirs']:8.1f}, ratio {ratio:.3f}"
        )
        print(line, TARGETS.get(name, ""))
        result |= {f"{name}_{side}": value for side, value in row.items()}
    if torch.cuda.is_available():
        for name, side in sides.items():
            rate = cuda_samples_per_s(side, args.cuda_batch, args.repeats)
            result[f"cuda_samples_per_s_{name}"] = rate
            print(
                f"{torch.cuda.get_device_name()}, B={args.cuda_batch}: {name} {rate:.0f} samples/s"
            )
    print(json.dumps({name: float(f"{value:.4g}") for name, value in result.items()}))


if __name__ == "__main__":
    main()

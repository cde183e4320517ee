"""Our encoder beside the authors' of Le MuMo JEPA (arXiv 2603.24327): equal outputs, time, memory.

    git clone https://github.com/ciemcornelissen/le-mumo-jepa CHECKOUT
    pip install --target PEERS huggingface_hub
    pip install --target PEERS --no-deps timm torchvision==0.28  # torch 2.13's
    export PYTHONPATH=PEERS:CHECKOUT/src
    python -m benchmarks.compare_reference --reference CHECKOUT [--repeats 10]

PEERS keeps what their encoder imports out of this environment. Nothing of theirs is copied: their
encoder and their SIGReg run from the checkout, with its weights mapped to ours. Both sides run in
turns, in float32 on the CPU. A training step is that of the paper's loss, 2 x 224 and 4 x 96
views, AdamW on all weights; theirs doubles the projections before the loss, as their training loop
does, and leaves out the auxiliary passes that their defaults add. Time is processor time, which
other work on the machine disturbs least. Peak memory is what the model and two steps add to a
fresh process, one for each side.

With CUDA it also prints samples/s of such steps: ours in bfloat16; theirs switches autocast off.

The last line is JSON: max_abs_diff, forward_ratio, step_ratio, memory_ratio and what they are of.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks._reference import Reference, Views, import_encoder, mapped
from benchmarks._timing import machine
from lemumo_core.data.crops import whole_canvas
from lemumo_core.data.views import MultiCropConfig, View
from lemumo_core.methods.lemumo.method import LeMuMo, LeMuMoMethod, LeMuMoViews
from lemumo_core.model.config import ModelConfig
from lemumo_core.model.patch_embed import IMAGENET_MEAN, IMAGENET_STD
from lemumo_core.preprocess import Inputs
from lemumo_core.train.optim import build_optimizer
from lemumo_core.train.run_config import OptimizerConfig

CONFIG = ModelConfig(preset="paper", size="small", height=224, width=224)
VIEWS = {"global": (2, 224), "local": (4, 96)}
BATCH = 4
WEIGHT = 0.1
OPTIMIZER = OptimizerConfig(lr=1e-4, weight_decay=0.05, decay_all=True)
TARGETS = {"forward": "(target: 0.80)", "step": "(target: 0.75)"}


def our_step() -> LeMuMoMethod:
    """Build our encoder under the paper's loss."""
    torch.manual_seed(0)
    paper = LeMuMo(
        objective="lejepa",
        sigreg_weight=WEIGHT,
        tokens=False,
        mask_returns=0.0,
        masked_weight=0.0,
        views=MultiCropConfig(),
    )
    return LeMuMoMethod(paper, CONFIG, CONFIG.input_spec)


def make_views(batch: int, device: str = "cpu") -> tuple[Views, list[View]]:
    """The same random views as they take them and as we do; 3 % of the depth is known."""
    g = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(x) * 255 for x in (IMAGENET_MEAN, IMAGENET_STD))
    theirs, ours = {}, []
    for name, (count, size) in VIEWS.items():
        shape = count * batch, size, size
        image = torch.randint(0, 256, (*shape, 3), generator=g, dtype=torch.uint8)
        depth = torch.rand((*shape, 1), generator=g)
        depth *= torch.rand((*shape, 1), generator=g) < 0.03
        inputs = image, depth, torch.eye(3).repeat(len(image), 1, 1), torch.ones(len(image), 2)
        crops = whole_canvas((size, size), len(image))
        ours.append(View(*(x.to(device) for x in inputs), crops=crops, labels=None))
        by_sample = (
            x.permute(0, 3, 1, 2).unflatten(0, (count, batch)).transpose(0, 1).contiguous()
            for x in ((image - mean) / std, depth)
        )
        normalized, depths = (x.to(device) for x in by_sample)
        theirs[name] = normalized, depths
    return theirs, ours


@torch.no_grad()
def greatest_difference(reference: Reference, ours: LeMuMoMethod) -> float:
    """Compare tokens, embeddings and projections of global and local views, in evaluation."""
    reference.eval()
    ours.eval()
    their_views, our_views = make_views(2)
    worst = 0.0
    for view, their_view in zip(our_views, their_views.values(), strict=True):
        embeddings, projections, tokens = reference.encoder._forward_batch(*their_view)
        encoding = ours.encoder(view.inputs)
        embedding, projection = ours.projector(encoding.cls)
        count = their_view[0].shape[1]
        for mine, their in (
            (embedding, by_view(embeddings, count)),
            (projection, projections.flatten(0, 1)),
            (encoding.tokens, by_view(tokens, count)),
        ):
            worst = max(worst, (mine - their).abs().max().item())
    return worst


def by_view(rows: Tensor, count: int) -> Tensor:
    """Rows b * count + v in our order, v * B + b."""
    return rows.unflatten(0, (-1, count)).transpose(0, 1).flatten(0, 1)


def our_forward(step: LeMuMoMethod, views: Sequence[View]) -> Callable[[], Any]:
    """Inference on one image and its depth map: tokens, embedding and projection."""
    inputs = Inputs(*(x[:1] for x in views[0].inputs))
    step.eval()
    return torch.no_grad()(lambda: step.projector(step.encoder(inputs).cls))


def their_forward(reference: Reference, views: Views) -> Callable[[], Any]:
    """The same of theirs."""
    inputs = [x[:1, :1] for x in views["global"]]
    reference.eval()
    return torch.no_grad()(lambda: reference.encoder._forward_batch(*inputs))


def our_training(step: LeMuMoMethod, views: Sequence[View]) -> Callable[[], Any]:
    """One optimiser step of the paper's loss, as our trainer takes it."""
    optimizer = build_optimizer(step.train(), step.parameter_groups(), OPTIMIZER)
    joint = LeMuMoViews(tuple(views))
    return optimization(optimizer, lambda: step(joint, 0).loss.total)


def their_training(reference: Reference, views: Views) -> Callable[[], Any]:
    """The same as their training loop takes it."""
    parameters = reference.train().parameters()
    lr, decay = OPTIMIZER.lr, OPTIMIZER.weight_decay
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
    return optimization(optimizer, lambda: reference(views))


def optimization(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Callable[[], Any]:
    """One step of an optimiser."""

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def cpu_ms(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median processor time of both, milliseconds, run in turns after one warm-up."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for way, taken in zip((ours, theirs), times, strict=True):
            start = time.process_time()
            way()
            taken.append(1e3 * (time.process_time() - start))
    mine, their = (statistics.median(taken[1:]) for taken in times)
    return mine, their


def peak_mib(side: str, checkout: Path) -> float:
    """Measure what two training steps of one side, model included, add to a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_mib, (side, checkout))


def _peak_mib(side: str, checkout: Path) -> float:
    torch.set_num_threads(1)
    theirs, ours = make_views(BATCH)
    import_encoder(checkout)
    before = _peak_kib()
    if side == "ours":
        step = our_training(our_step(), ours)
    else:
        step = their_training(Reference(checkout, WEIGHT), theirs)
    for _ in range(2):
        step()
    return (_peak_kib() - before) / 1024


def _peak_kib() -> int:
    """Most memory this process ever held (ru_maxrss would begin with its parent's)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def cuda_seconds(step: Callable[[], Any], repeats: int) -> float:
    """Time one step, the views being on the device, after three to warm up."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--cuda-batch", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    reference, ours = Reference(args.reference, WEIGHT), our_step()
    ours.load_state_dict(mapped(reference.encoder.state_dict(), ours))
    result = {"max_abs_diff": greatest_difference(reference, ours)}
    print(f"{machine()}, torch {torch.__version__}, 1 thread, medians of {args.repeats}")
    print(f"greatest difference of outputs {result['max_abs_diff']:.1e} (target: 1e-4)")

    their_views, our_views = make_views(BATCH)
    forwards = our_forward(ours, our_views), their_forward(reference, their_views)
    rows = {"forward": cpu_ms(*forwards, args.repeats)}
    trainings = our_training(ours, our_views), their_training(reference, their_views)
    rows["step"] = cpu_ms(*trainings, args.repeats)
    rows["memory"] = tuple(peak_mib(s, args.reference) for s in ("ours", "theirs"))
    labels = {"forward": "forward b1, CPU ms", "step": "step B=4, CPU ms", "memory": "peak MiB"}
    for name, (mine, their) in rows.items():
        ratio = result[f"{name}_ratio"] = mine / their
        line = f"{labels[name]:20}ours {mine:8.1f}, theirs {their:8.1f}, ratio {ratio:.3f}"
        print(line, TARGETS.get(name, ""))
        result |= {f"{name}_ours": mine, f"{name}_theirs": their}
    if torch.cuda.is_available():
        their_views, our_views = make_views(args.cuda_batch, "cuda")
        trainings = (
            our_training(ours.cuda(), our_views),
            their_training(reference.cuda(), their_views),
        )
        print(f"{torch.cuda.get_device_name()}, B={args.cuda_batch}, samples/s of steps")
        for name, training in zip(("ours", "theirs"), trainings, strict=True):
            rate = args.cuda_batch / cuda_seconds(training, args.repeats)
            result[f"cuda_samples_per_s_{name}"] = rate
            print(f"{name:8}{rate:8.0f}")
    print(json.dumps({name: float(f"{value:.4g}") for name, value in result.items()}))


if __name__ == "__main__":
    main()

"""DeCUR's loss by K x K matrices beside the form by samples: memory and time at K = 8192.

    python -m benchmarks.decur_loss [--dimensions 8192] [--samples 64 256 1024] [--repeats 3]

Both compute the same value and gradient (tests/core/losses/test_decur.py). One thread, float32, in
turns; time is the processor time of forward and backward, memory what they add to a new process at
its peak. The last line is JSON: for each number of samples ms_direct, ms_gram, mib_direct, mib_gram
and greatest differences of loss and gradient, relative.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks._timing import machine
from lemumo_core.losses.decur import DecurLoss

FORMS = {"direct": False, "gram": True}


def embeddings(samples: int, dims: int) -> Tensor:
    """Random embeddings whose views and modalities are alike in part."""
    g = torch.Generator().manual_seed(0)
    common = torch.randn(samples, dims, generator=g)
    return common + 0.5 * torch.randn(2, 2, samples, dims, generator=g)


def step(form: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return loss and gradient."""
    x = x.detach().requires_grad_()
    loss = DecurLoss(gram=FORMS[form])(x).total
    return loss.detach(), torch.autograd.grad(loss, x)[0]


def peak_mib(form: str, samples: int, dims: int) -> float:
    """Measure what one step adds to the peak memory of a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_mib, (form, samples, dims))


def _peak_mib(form: str, samples: int, dims: int) -> float:
    torch.set_num_threads(1)
    step(form, embeddings(8, 16))
    x = embeddings(samples, dims)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = _kib("VmRSS")
    step(form, x)
    return (_kib("VmHWM") - before) / 1024


def _kib(name: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(name))


def compare(samples: int, dims: int, repeats: int) -> dict[str, float]:
    """Measure both forms in turns."""
    x, times = embeddings(samples, dims), {form: [] for form in FORMS}
    found = {}
    for _ in range(repeats):
        for form in FORMS:
            start = time.process_time()
            found[form] = step(form, x)
            times[form].append(1e3 * (time.process_time() - start))
    result = {f"ms_{form}": statistics.median(taken) for form, taken in times.items()}
    result |= {f"mib_{form}": peak_mib(form, samples, dims) for form in FORMS}
    (loss, gradient), (other, other_gradient) = found.values()
    result["loss_difference"] = ((loss - other).abs() / loss).item()
    scale = gradient.abs().max()
    result["gradient_difference"] = ((gradient - other_gradient).abs().max() / scale).item()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dimensions", type=int, default=8192)
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, torch {torch.__version__}, 1 thread, K = {args.dimensions}")
    results = {}
    for samples in args.samples:
        one = results[samples] = compare(samples, args.dimensions, args.repeats)
        print(
            f"{samples:5} samples  K x K {one['ms_direct']:8.0f} ms {one['mib_direct']:6.0f} MiB   "
            f"by samples {one['ms_gram']:8.0f} ms {one['mib_gram']:6.0f} MiB"
        )
    rounded = {n: {k: float(f"{v:.4g}") for k, v in one.items()} for n, one in results.items()}
    print(json.dumps({"dimensions": args.dimensions, "samples": rounded}))


if __name__ == "__main__":
    main()

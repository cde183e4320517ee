"""How far a run on two and four ranks drifts from that on one, in float32 and float64.

    python -m benchmarks.rank_drift [--steps 12]

Ranks are processes over gloo that share out the eight samples of a step of pretraining. Printed is
by how much, relative to one rank, the loss and the norm of the gradient differ at each step. In
float64 all but the views' rendering is computed twice as precisely: what is left of a difference
there is not rounding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, distributed, multiprocessing

from lemumo_core.data import views
from lemumo_core.train.parallel import DistInfo
from lemumo_core.train.pretrain.learner import PretrainLearner
from tests.helpers.small_run import share, small_batch, small_config

WORLDS = (1, 2, 4)
VALUES = ("loss", "gradient_norm")


@contextmanager
def in_float64() -> Iterator[None]:
    """Compute in float64 in the block, but for the rendering of views."""
    render, single = views.render, Tensor.float

    def rendered(*args: Any) -> tuple[views.View, ...]:
        torch.set_default_dtype(torch.float32)
        with mock.patch.object(Tensor, "float", single):
            found = render(*args)
        torch.set_default_dtype(torch.float64)
        return tuple(
            replace(view, companion=view.companion.double(), present=view.present.double())
            for view in found
        )

    torch.set_default_dtype(torch.float64)
    with (
        mock.patch.object(Tensor, "float", Tensor.double),
        mock.patch.object(views, "render", rendered),
    ):
        yield
    torch.set_default_dtype(torch.float32)


def train(rank: int, world: int, steps: int, double: bool, folder: str) -> None:
    """Train as one rank; the first one leaves the values of all steps in ``folder``."""
    torch.set_num_threads(1)
    if world > 1:
        store = distributed.FileStore(f"{folder}/store{world}{double}", world)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    if not double:
        values = _values(rank, world, steps)
    else:
        with in_float64():
            values = _values(rank, world, steps)
    if rank == 0:
        Path(folder, f"{world}{double}.json").write_text(json.dumps(values))


def _values(rank: int, world: int, steps: int) -> list[list[float]]:
    config = small_config(steps=steps)
    learner = PretrainLearner(config, steps, DistInfo(rank, world, torch.device("cpu")))
    for tensor in (*learner.method.parameters(), *learner.method.buffers()):
        if tensor.is_floating_point():  # the optimiser keeps its parameters
            tensor.data = tensor.data.to(torch.get_default_dtype())
    batch = share(small_batch(config), rank, world)
    learnt = (learner.learn(batch, step).read() for step in range(steps))
    return [[values[name] for name in VALUES] for values in learnt]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=12)
    steps = parser.parse_args().steps
    print(f"| ranks | dtype | value | {' | '.join(map(str, range(steps)))} |")
    print("| ---: | --- | --- |" + " ---: |" * steps)
    with tempfile.TemporaryDirectory() as folder:
        for double in (False, True):
            for world in WORLDS:
                multiprocessing.start_processes(
                    train, (world, steps, double, folder), nprocs=world, start_method="spawn"
                )
                values = json.loads(Path(folder, f"{world}{double}.json").read_text())
                found = torch.tensor(values, dtype=torch.float64)
                if world == 1:
                    alone = found
                    continue
                for name, off in zip(VALUES, ((found - alone) / alone).abs().T, strict=True):
                    row = " | ".join(f"{x:.0e}" for x in off.tolist())
                    print(f"| {world} | float{32 << double} | {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()

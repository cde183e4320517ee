"""Probes and monitors on two ranks of B samples are those of one rank of 2 B samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing
from torch.testing import assert_close

from lemumo_core.methods.lemumo.monitors import Monitors
from lemumo_core.methods.lemumo.projector import Projector
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.variants import build_encoder
from lemumo_core.train.parallel import leave_group
from lemumo_core.train.pretrain.online_probes import OnlineProbes
from tests.helpers.random_views import CLASSES, CONFIG, random_view

WORLD, VIEWS, SAMPLES = 2, 2, 6
DIM = 8


def networks() -> tuple[Encoder, Projector]:
    torch.manual_seed(0)
    return build_encoder(CONFIG), Projector(CONFIG.token_dim)


def whole_batch() -> dict[str, Tensor]:
    """View and outputs of an encoder; the second half knows fewer depths and lacks companions."""
    g, rows = torch.Generator().manual_seed(0), VIEWS * SAMPLES
    view = random_view(rows)
    second_half = torch.arange(rows) % SAMPLES >= SAMPLES // 2
    assert view.labels is not None
    view.labels.depth_m[second_half, 4:] = torch.nan
    view.present[second_half & (torch.arange(rows) % 2 == 0), 1] = 0.0
    tokens = view.image.shape[1] * view.image.shape[2] // 256
    return {
        "image": view.image,
        "companion": view.companion,
        "present": view.present,
        "label_map": view.labels.label_map,
        "depth_m": view.labels.depth_m,
        "tokens": torch.randn(rows, tokens, DIM, generator=g),
        "embeddings": torch.randn(rows, 512, generator=g),
        "projections": torch.randn(rows, 128, generator=g),
    }


def outcome(rank: int, world: int) -> dict[str, Tensor]:
    """Return one rank's share of every view."""
    share = slice(rank * SAMPLES // world, (rank + 1) * SAMPLES // world)
    x = {
        name: value.unflatten(0, (VIEWS, SAMPLES))[:, share].flatten(0, 1)
        for name, value in whole_batch().items()
    }
    blank = random_view(len(x["image"]))
    assert blank.labels is not None
    labels = replace(blank.labels, label_map=x["label_map"], depth_m=x["depth_m"])
    view = replace(blank, labels=labels, **{n: x[n] for n in ("image", "companion", "present")})
    probes = OnlineProbes(DIM, CLASSES)
    scalars = {}
    for step in range(2):
        scalars |= {f"{n} {step}": v for n, v in probes.step(x["tokens"], view).items()}
    seen = Monitors(*networks(), VIEWS).observe(3, view, x["embeddings"], x["projections"])
    scalars |= {name: torch.tensor(value) for name, value in seen.items()}
    return {**scalars, **probes.state_dict()}


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", WORLD)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
    torch.save(outcome(rank, WORLD), f"{folder}/{rank}.pt")
    leave_group()


def test_two_ranks_watch_as_one(tmp_path: Path):
    multiprocessing.start_processes(run_rank, (str(tmp_path),), WORLD, start_method="forkserver")
    expected = outcome(0, 1)
    assert {"rankme", "share_image", "depth.0.weight"} <= expected.keys()
    for rank in range(WORLD):
        ours = torch.load(tmp_path / f"{rank}.pt")
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")

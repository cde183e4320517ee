"""A whole training step on W ranks is that of one rank: loss and every gradient.

Real processes over gloo, with stochastic depth, modality dropout and the unimodal passes; DDP, and
``fully_shard``. Weights and optimiser come back from shards as they were.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from lemumo_core.train.checkpoint import model_tensors, optimizer_tensors, save
from lemumo_core.train.checkpoint import open_checkpoint as opened
from lemumo_core.train.parallel import DistInfo, full
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import Pretrainer
from lemumo_core.train.run_config import ScaleConfig
from tests.helpers.small_run import share, small_batch, small_config, small_method

STEP = 3
CASES = (
    ("ddp", 4, "pruned"),
    ("ddp", 2, "pruned"),
    ("fsdp", 2, "pruned"),
    ("fsdp", 2, "persistent"),
)
"""Sharding, ranks and encoder."""
CPU = torch.device("cpu")


def config_of(sharding: str = "ddp", variant: str = "pruned") -> PretrainConfig:
    return small_config(
        model=replace(small_config().model, variant=variant),
        seed=2,  # no activation lies so near a ReLU's kink that rounding decides its side
        method=small_method(modality_dropout=0.5, aux_unimodal=True, mask_returns=1.0),
        scale=ScaleConfig(sharding=sharding, workers=0),  # type: ignore[arg-type]
    )


def outcome(dist: DistInfo, config: PretrainConfig) -> dict[str, torch.Tensor]:
    """Loss, its terms, gradients and batch norm statistics of one step."""
    learner = Pretrainer(config, 10, dist)
    batch = share(small_batch(config), dist.rank, dist.world)
    total, terms = learner.forward(learner.views(batch, STEP), STEP).loss
    total.backward()
    gradients = {f"gradient {name}": full(p.grad) for name, p in learner.method.named_parameters()}
    return {"loss": total.detach(), **terms, **gradients, **dict(learner.method.named_buffers())}


def keeps_state(dist: DistInfo, folder: Path) -> bool:
    """Whether a learner with shards restores what another one saved."""
    config = config_of("fsdp")
    one, other = Pretrainer(config, 10, dist), Pretrainer(config, 10, dist)
    batch = share(small_batch(config), dist.rank, dist.world)
    one.learn(batch, STEP)
    tensors = one.tensors()
    if dist.first:
        save(folder, tensors, {"step": 1})
    distributed.barrier()
    other.restore(opened(folder))
    restored = {"model": model_tensors(other.method)}
    restored["optimizer"] = optimizer_tensors(other.method, other.optimizer)
    return all(
        torch.equal(value, tensors[kind][name])
        for kind, values in restored.items()
        for name, value in values.items()
    ) and all(restored[kind].keys() == tensors[kind].keys() for kind in restored)


def run_rank(rank: int, folder: str) -> None:
    """Rank of a world of four, and then of one of two."""
    torch.set_num_threads(1)
    for world in (4, 2):
        if rank >= world:
            return
        store = distributed.FileStore(f"{folder}/store{world}", world)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
        dist = DistInfo(rank, world, CPU)
        for sharding, ranks, variant in CASES:
            if ranks == world:
                result = outcome(dist, config_of(sharding, variant))
                torch.save(result, f"{folder}/{sharding}-{world}-{variant}-{rank}.pt")
        if world == 2:
            same = keeps_state(dist, Path(folder, "shards"))
            torch.save(same, f"{folder}/state-{rank}.pt")
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where all ranks have left their outcomes."""
    path = tmp_path_factory.mktemp("ranks")
    multiprocessing.set_forkserver_preload(
        ["torch._dynamo", "pytest", "lemumo_core.train.pretrain.learner"]
    )
    multiprocessing.start_processes(run_rank, (str(path),), nprocs=4, start_method="forkserver")
    return path


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, torch.Tensor]]:
    """The outcomes on one rank, by encoder."""
    variants = {variant for _, _, variant in CASES}
    return {name: outcome(DistInfo(0, 1, CPU), config_of(variant=name)) for name in variants}


@pytest.mark.parametrize(("sharding", "world", "variant"), CASES)
def test_ranks_equal_one_rank(folder, alone, sharding, world, variant) -> None:
    expected = alone[variant]
    assert {
        "loss",
        "sigreg_image",
        "returns",
        "gradient depth_branch.neck.enter.weight",
        "gradient encoder.stems.absent",
        "projector.layers.1.running_var",
    } <= expected.keys()
    for rank in range(world):
        ours = torch.load(folder / f"{sharding}-{world}-{variant}-{rank}.pt")
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            error = (ours[name] - value).abs().max().item()
            assert error <= 2e-4 * max(value.abs().max().item(), 1e-3), (rank, name, error)


def test_gradients_depend_on_what_is_shared_out(alone) -> None:
    """The comparison sees other samples, views and dropped paths."""
    other = outcome(DistInfo(0, 1, CPU), replace(config_of(), seed=1))
    assert not torch.allclose(other["loss"], alone["pruned"]["loss"], rtol=1e-3)


def test_shards_are_saved_whole_and_restored(folder) -> None:
    assert torch.load(folder / "state-0.pt") and torch.load(folder / "state-1.pt")

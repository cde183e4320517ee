"""W ranks of B samples are one rank of W B samples: loss, gradients and batch norm statistics.

Real processes over gloo; the model is wrapped in DDP as in training.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from lemumo_core.distributed import BatchNorm1d
from lemumo_core.losses.decur import DecurLoss
from lemumo_core.losses.lejepa import LeJepa
from lemumo_core.losses.vicreg import VicReg
from lemumo_core.train.parallel import leave_group

SAMPLES, GLOBAL, LOCAL, WIDTH = 8, 2, 4, 12
STEP = 3
OBJECTIVES = {
    "lejepa": LeJepa(),
    "auxiliary": LeJepa(aux_unimodal=True),
    "vicreg": VicReg(),
    "visreg": LeJepa(regularizer="visreg"),
    "decur": DecurLoss(0.5, gram=False),
    "decur by samples": DecurLoss(0.5, gram=True),
    "decur as reference": DecurLoss(0.5, repo_grad_scale=True),
}


class Step(nn.Module):
    """A small projector under an objective; global and local views go through it apart."""

    def __init__(self, objective: str):
        super().__init__()
        torch.manual_seed(0)
        self.projector = nn.Sequential(
            *(nn.Linear(WIDTH, 24), BatchNorm1d(24), nn.ReLU()),
            *(nn.Linear(24, 24), BatchNorm1d(24), nn.ReLU()),
            nn.Linear(24, 8),
        ).double()
        self.objective = OBJECTIVES[objective]

    def forward(self, cls: torch.Tensor) -> torch.Tensor:
        """cls: (modes, V, B, D), modes joint, image, companion."""
        modes = [self._project(mode) for mode in cls]
        if isinstance(self.objective, DecurLoss):
            return self.objective(torch.stack(modes[1:])[:, :2]).total
        if isinstance(self.objective, LeJepa) and self.objective.aux_unimodal:
            return self.objective(modes[0], STEP, modes[1:]).total
        return self.objective(modes[0], STEP).total

    def _project(self, cls: torch.Tensor) -> torch.Tensor:
        groups = cls.split([GLOBAL, LOCAL])
        parts = [self.projector(g.flatten(0, 1)) for g in groups]
        return torch.cat([p.unflatten(0, g.shape[:2]) for p, g in zip(parts, groups, strict=True)])


def features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, GLOBAL + LOCAL, SAMPLES, WIDTH, generator=generator, dtype=torch.float64)


def outcome(model: nn.Module, cls: torch.Tensor) -> dict[str, torch.Tensor]:
    """Loss, gradients of the weights, and statistics of the batch norms after one step."""
    model.train()
    loss = model(cls)
    loss.backward()
    step = model.module if isinstance(model, DistributedDataParallel) else model
    gradients = {f"grad {name}": p.grad for name, p in step.named_parameters()}
    return {"loss": loss.detach(), **gradients, **dict(step.named_buffers())}


def run_rank(rank: int, folder: str) -> None:
    """Rank of a world of four, and then of one of two."""
    torch.set_num_threads(1)
    for world in (4, 2):
        if rank >= world:
            return
        steps = {name: Step(name) for name in OBJECTIVES}  # built before the group exists
        store = distributed.FileStore(f"{folder}/store{world}", world)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
        share = slice(rank * SAMPLES // world, (rank + 1) * SAMPLES // world)
        for name, step in steps.items():
            result = outcome(DistributedDataParallel(step), features()[:, :, share].contiguous())
            torch.save(result, f"{folder}/{name}-{world}-{rank}.pt")
        leave_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where all ranks have left their outcomes."""
    path = tmp_path_factory.mktemp("ranks")
    multiprocessing.start_processes(run_rank, (str(path),), nprocs=4, start_method="forkserver")
    return path


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ranks_equal_one_rank(folder, objective, world) -> None:
    expected = outcome(Step(objective), features())
    assert {"loss", "grad projector.0.weight", "projector.1.running_var"} <= expected.keys()
    for rank in range(world):
        ours = torch.load(folder / f"{objective}-{world}-{rank}.pt")
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            if objective == "decur as reference" and name.startswith("grad"):
                value = value / world
            atol = 1e-10 * max(1.0, value.abs().max().item())
            torch.testing.assert_close(ours[name], value, atol=atol, rtol=0, msg=f"{rank} {name}")


def test_alone_it_is_torchs_batch_norm() -> None:
    ours, peer = BatchNorm1d(5), nn.BatchNorm1d(5)
    assert ours.state_dict().keys() == peer.state_dict().keys()
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x), peer(x))
    assert torch.equal(ours.eval()(x), peer.eval()(x))

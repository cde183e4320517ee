"""A step that is not finite changes no weight, on one rank and on two, without a wait."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from lemumo_core.distributed import mean_over_ranks
from lemumo_core.methods.method import ParameterGroup
from lemumo_core.signals import stop_request
from lemumo_core.train.learner import FiniteUpdates, NonFinite, StepValues
from lemumo_core.train.optim import build_optimizer, set_learning_rate
from lemumo_core.train.parallel import any_rank, leave_group
from lemumo_core.train.run_config import OptimizerConfig

WORLD = 2


class Learner:
    """A linear map that learns by one of the optimisers."""

    def __init__(self, name: str = "adamw", parallel: bool = False):
        torch.manual_seed(0)
        self.network = nn.Linear(3, 2)
        self.model = DistributedDataParallel(self.network) if parallel else self.network
        config = OptimizerConfig(name=name, lr=0.1)  # type: ignore[arg-type]
        groups = [ParameterGroup(list(self.network.named_parameters()))]
        self.optimizer = build_optimizer(self.network, groups, config)
        self.updates = FiniteUpdates(self.optimizer, config.clip)

    def learn(self, step: int, x: Tensor) -> StepValues:
        set_learning_rate(self.optimizer, 0.1)
        self.optimizer.zero_grad()
        loss = mean_over_ranks(self.model(x).square().mean())
        values = self.updates.backward(
            step, loss, {"term": loss.detach()}, self.network.parameters()
        )
        self.optimizer.step()
        return values

    def state(self) -> list[Tensor]:
        """Weights and state of the optimiser."""
        states = self.optimizer.state.values()
        held = [value for state in states for value in state.values()]
        return [x.detach().clone() for x in (*self.network.parameters(), *held)]


def spoil_gradient(gradient: Tensor) -> Tensor:
    return gradient * torch.inf


def test_float64_learns_too() -> None:
    """A fused optimiser takes ``found_inf`` in float32, whatever the weights are."""
    learner = Learner()
    learner.network.double()
    before = learner.state()
    learner.learn(0, torch.arange(12.0, dtype=torch.float64).view(4, 3))
    assert not torch.equal(before[0], learner.network.weight)


@pytest.mark.parametrize("name", ["adamw", "lars"])
@pytest.mark.parametrize("wrong", ["loss", "gradient_norm"])
def test_a_step_that_is_not_finite_changes_nothing(name, wrong) -> None:
    learner, good = Learner(name), torch.arange(12.0).view(4, 3) / 6
    first = learner.learn(0, good)
    before = learner.state()
    if wrong == "loss":
        bad = learner.learn(1, good * torch.inf)
    else:
        hook = learner.network.weight.register_hook(spoil_gradient)
        bad = learner.learn(1, good)
        hook.remove()
    assert all(map(torch.equal, before, learner.state()))
    with pytest.raises(NonFinite, match=rf"step 2 is not finite: .*{wrong}") as raised:
        learner.learn(2, good)
    assert raised.value.step == 1
    assert ("loss" in str(raised.value)) == (wrong == "loss")
    assert all(map(torch.equal, before, learner.state()))
    with pytest.raises(NonFinite):
        bad.read()
    assert first.read()["gradient_norm"] > 0


def test_finite_steps_are_those_of_the_optimizer_alone() -> None:
    guarded, alone = Learner(), Learner()
    for step in range(3):
        x = torch.full((4, 3), step + 0.5)
        values = guarded.learn(step, x)
        values.known["lr"] = 0.1
        loss = alone.network(x).square().mean()
        alone.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(alone.network.parameters(), 1.0)
        alone.optimizer.step()
        assert list(values.read()) == ["loss", "term", "gradient_norm", "lr"]
        assert values.read()["loss"] == loss.item()
    assert all(map(torch.equal, guarded.state(), alone.state()))


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", WORLD)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
    learner, good = Learner(parallel=True), torch.arange(6.0).view(2, 3) + rank
    learner.learn(0, good)
    before, found = learner.state(), ""
    learner.learn(1, good * torch.inf if rank == 1 else good)
    try:
        learner.learn(2, good)
    except NonFinite as trouble:
        found = str(trouble)
    same = all(map(torch.equal, before, learner.state()))
    stopping = []
    with stop_request() as stop, stop.deferred(), torch.device("meta"):  # no device but the CPU
        stopping.append(any_rank(bool(stop)))
        distributed.barrier()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        stopping.append(any_rank(bool(stop)))
        stopping.append(bool(stop))
    torch.save((found, same, stopping), f"{folder}/{rank}.pt")
    distributed.barrier()  # neither closes its connections while the other still reads
    del learner
    leave_group()


def test_ranks_agree_on_what_is_not_finite_and_when_to_stop(tmp_path: Path) -> None:
    """Both ranks learn at the same step of infinity or a signal that only one of them saw."""
    multiprocessing.start_processes(run_rank, (str(tmp_path),), WORLD, start_method="forkserver")
    for rank in range(WORLD):
        found, same, stopping = torch.load(tmp_path / f"{rank}.pt")
        assert found == "step 2 is not finite: loss, term, gradient_norm"
        assert same
        assert stopping == [False, True, rank == 1]

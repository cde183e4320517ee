"""A checkpoint is whole or refused, whatever happened to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from lemumo_core.faults import Fault
from lemumo_core.train import checkpoint
from lemumo_core.train.checkpoint import checkpoint_folder, newest, open_checkpoint, prune, save

TENSORS = {"model": {"a": torch.arange(3.0), "n": torch.tensor(7)}, "optimizer": {}}


def saved(root: Path, *steps: int) -> None:
    for step in steps:
        save(checkpoint_folder(root, step), TENSORS, {"step": step})


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    saved(tmp_path, 3, 20)
    found = newest(tmp_path)
    assert found is not None and found.state["step"] == 20
    assert found.names == ["model", "optimizer"]
    tensors = found.tensors("model")
    assert tensors.keys() == TENSORS["model"].keys()
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS["model"].items())


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimizer.safetensors"])
def test_cut_off_at_any_byte_it_is_refused_and_the_one_before_is_used(
    tmp_path: Path, name: str, caplog
) -> None:
    saved(tmp_path, 1, 2)
    path = checkpoint_folder(tmp_path, 2) / name
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(Fault, match=name):
            open_checkpoint(path.parent)
    found = newest(tmp_path)
    assert found is not None and found.state["step"] == 1
    assert name in caplog.text and "before it" in caplog.text


def test_changed_at_any_byte_it_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    for name in ("state.json", "model.safetensors"):
        path = checkpoint_folder(tmp_path, 2) / name
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(Fault, match="damaged"):
                open_checkpoint(path.parent)
        path.write_bytes(whole)
    assert open_checkpoint(path.parent).state["step"] == 2


def test_missing_files_and_no_checkpoint(tmp_path: Path) -> None:
    assert newest(tmp_path / "nowhere") is None
    saved(tmp_path, 2)
    (checkpoint_folder(tmp_path, 2) / "model.safetensors").unlink()
    with pytest.raises(Fault, match=r"model\.safetensors"):
        open_checkpoint(checkpoint_folder(tmp_path, 2))
    assert newest(tmp_path) is None


def test_killed_at_any_point_of_saving_the_old_one_stays(tmp_path: Path) -> None:
    """A process that dies at its n-th call of fsync or rename, for every n."""
    points = 0
    while True:
        root = tmp_path / str(points)
        saved(root, 1)
        if (child := os.fork()) == 0:
            left = points

            def dies(function):
                def call(*arguments, **options):
                    nonlocal left
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1
                    return function(*arguments, **options)

                return call

            os.fsync, os.rename, Path.replace = dies(os.fsync), dies(os.rename), dies(Path.replace)
            saved(root, 2)
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        found = newest(root)
        assert found is not None and found.state["step"] in ((1, 2) if killed else (2,))
        prune(root, keep=3)
        assert not list(root.glob("*.part"))
        if not killed:
            break
        points += 1
    assert points == 6  # two files of tensors, the state, both folders and the rename


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3, 10)
    (tmp_path / "step-00000011.part").mkdir()
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000010"]


def test_saving_over_a_damaged_one(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    (checkpoint_folder(tmp_path, 2) / "state.json").write_text("{")
    saved(tmp_path, 2)
    assert open_checkpoint(checkpoint_folder(tmp_path, 2)).state["step"] == 2


def test_nothing_is_pickled(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    folder = checkpoint_folder(tmp_path, 2)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    json.loads((folder / "state.json").read_text())
    shutil.rmtree(folder)


def test_an_optimizer_goes_on_where_it_was() -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        # In another order than the model's parameters.
        groups = [{"params": list(model[1].parameters())}, {"params": list(model[0].parameters())}]
        return model, torch.optim.AdamW(groups, lr=0.1)

    def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(5, 3)).square().sum().backward()
            optimizer.step()

    one, first = start()
    learn(one, first, 3)
    other, second = start()
    checkpoint.load_model_tensors(other, checkpoint.model_tensors(one), "here")
    state = checkpoint.optimizer_tensors(one, first)
    assert state["0.weight.step"] == 3
    copied = {name: value.clone() for name, value in state.items()}
    checkpoint.load_optimizer_tensors(other, second, copied)
    learn(one, first, 2)
    learn(other, second, 2)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_weights_that_do_not_fit_are_named() -> None:
    model = nn.Linear(3, 2)
    for wrong in ({"weight": torch.zeros(2, 3)}, {**model.state_dict(), "bias": torch.zeros(3)}):
        with pytest.raises(Fault, match=r"the file does not fit.*1 tensors.*bias"):
            checkpoint.load_model_tensors(model, wrong, "the file")

"""The study's one command, on a world of a few frames: every stage is real."""

from __future__ import annotations

import sys

import pytest
import yaml

from benchmarks import _runs, study
from benchmarks._study_rows import OTHERS, ROWS, SCALES, TRANSFER_ROWS, Scale
from lemumo_core.signals import REQUEUE
from tests.helpers.program import run_here


@pytest.mark.parametrize("option", ["--runs", "--seeds"])
@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_number_that_is_none_is_refused(option, number, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["study", option, number])
    with pytest.raises(SystemExit):
        study.main()
    assert f"argument {option}: {number} is no whole number" in capsys.readouterr().err


def test_rows_are_pretrained_probed_and_compared(tmp_path, monkeypatch) -> None:
    views = {"global_size": [32, 48], "local_views": 0}
    small = Scale("nano", 64, 96, 12, 4, 4, 1e6, 4, 0, views)  # --seconds says how long
    monkeypatch.setitem(SCALES, "cpu", small)
    monkeypatch.setattr(study, "run", run_here)  # PyTorch has been imported here
    monkeypatch.setattr(_runs, "run", run_here)
    command = ["study", "--rows", "raw patches", "untrained", "lemumo", "--seeds", "1"]
    command += ["--seconds", "0.3", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*command, "--runs", "1"])
    assert study.main() == REQUEUE
    assert not (tmp_path / "lemumo").exists()
    monkeypatch.setattr(sys, "argv", command)
    assert study.main() == 0
    text = (tmp_path / "results.md").read_text()
    table = [
        [c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line
    ]
    assert [line[0] for line in table[2:5]] == ["raw patches", "untrained", "lemumo"]
    for line in table[2:5]:
        assert all("±" in cell and "nan" not in cell for cell in line[2:9])
    assert 0.02 < float(table[4][9]) < 1.0  # 24 patches of four blocks
    assert int(table[4][10]) >= 1 and float(table[4][11]) > 0
    page = (tmp_path / "results.html").read_text()
    assert page.count("<svg") == 3 and 'href="lemumo/0/pretrain/run.html"' in page
    assert (tmp_path / "lemumo" / "0" / "pretrain" / "run.html").exists()
    assert [line[0] for line in table[5:]] == ["lemumo beats raw patches", "lemumo beats untrained"]

    monkeypatch.setattr(_runs, "run", lambda *_: pytest.fail("a finished run was repeated"))
    monkeypatch.setattr(study, "prepare", lambda *_: tmp_path / "frames")
    assert study.main() == 0
    assert (tmp_path / "results.md").read_text() == text


def test_a_thermal_camera_goes_on_from_the_weights_of_a_lidars_study(tmp_path, monkeypatch) -> None:
    views = {"global_size": [32, 48], "local_views": 0}
    monkeypatch.setitem(SCALES, "cpu", Scale("nano", 64, 96, 12, 4, 4, 9.0, 4, 0, views))
    monkeypatch.setattr(study, "run", run_here)
    monkeypatch.setattr(_runs, "run", run_here)
    command = ["study", "--seeds", "1", "--seconds", "0.3"]
    lidar = ["--out", str(tmp_path / "lidar"), "--rows", "pruned"]
    monkeypatch.setattr(sys, "argv", [*command, *lidar])
    assert study.main() == 0
    thermal = ["--companion", "thermal", "--lidar", str(tmp_path / "lidar")]
    thermal += ["--out", str(tmp_path / "thermal"), "--rows", "untrained", "pruned, from LiDAR"]
    monkeypatch.setattr(sys, "argv", [*command, *thermal])
    assert study.main() == 0
    text = (tmp_path / "thermal" / "results.md").read_text()
    assert "thermal: depth MAE, m" in text and "0.3 s of steps" in text
    assert [line.split(" | ")[0] for line in text.splitlines()[-2:]] == [
        "| untrained",
        "| pruned, from LiDAR",
    ]
    run = yaml.safe_load(
        (tmp_path / "thermal/pruned-from-LiDAR/0/pretrain/config.yaml").read_text()
    )
    assert run["weights"] == str(tmp_path / "lidar/pruned/0/pretrain")
    assert run["model"]["companion"] == "thermal"


def test_rows_are_options_that_parse() -> None:
    for row in (ROWS | TRANSFER_ROWS).values():
        size = SCALES["cpu"]
        options = {"model.size": size.size, "model.height": size.height, "model.width": size.width}
        config = study.config_of({**options, **row.options(size)})
        assert type(config.method).__name__ == row.method and config.optimizer.lr == row.lr


def test_rows_of_le_mumo_have_the_papers_loss_unless_they_say_otherwise() -> None:
    """What the method's defaults add to it must not slip into the rows that it is compared with."""
    added = {"masked_weight", "mask_returns", "tokens"}
    for name, row in ROWS.items():
        if row.learns and row.method == "LeMuMo":
            options = study.config_of(row.options(SCALES["cpu"])).method
            assert name.startswith("lemumo") == any(getattr(options, one) for one in added), name
            if name in ("pruned", *OTHERS):
                assert (options.objective, options.joint_objective().weight) == ("lejepa", 0.1)

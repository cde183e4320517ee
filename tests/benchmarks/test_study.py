"""The study's one command, on a world of a few frames: every stage is real."""

from __future__ import annotations

import sys

import pytest

from benchmarks import _runs, study


@pytest.mark.parametrize("option", ["--jobs", "--seeds"])
@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_a_number_that_is_none_is_refused(option, number, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["study", option, number])
    with pytest.raises(SystemExit):
        study.main()
    assert f"argument {option}: {number} is no whole number" in capsys.readouterr().err


def test_rows_are_pretrained_probed_and_compared(tmp_path, monkeypatch) -> None:
    views = {"method.views.global_size": [32, 48], "method.views.local_views": 0}
    small = study.Scale("nano", 64, 96, 12, 4, 4, 2, 1e-4, 2, 2, 1e-3, views)
    monkeypatch.setitem(study.SCALES, "cpu", small)
    command = ["study", "--rows", "untrained", "lemumo", "--seeds", "1", "--jobs", "2"]
    command += ["--out", str(tmp_path)]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which main() sets, and must not outlive the test
    monkeypatch.setattr(sys, "argv", command)
    study.main()
    text = (tmp_path / "results.md").read_text()
    table = [line.split("|") for line in text.splitlines() if line.startswith("|")]
    assert [line[1].strip() for line in table[2:]] == ["untrained", "lemumo"]
    for line in table[2:]:
        assert all("±" in cell and "nan" not in cell for cell in line[2:5])
        assert 0.05 < float(line[5]) < 1.0  # 24 patches of a tiny encoder
    assert float(table[3][7]) > 0.1

    monkeypatch.setattr(_runs, "run", lambda *_: pytest.fail("a finished run was repeated"))
    monkeypatch.setattr(study, "prepare", lambda *_: tmp_path / "frames")
    study.main()
    assert (tmp_path / "results.md").read_text() == text

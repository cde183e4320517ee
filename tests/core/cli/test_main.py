"""``lemumo`` loads a command when it is called; every command shows its help."""

from __future__ import annotations

import re
import runpy
import signal
import subprocess
import sys

import pytest

from lemumo_core import extras
from lemumo_core.cli import main as cli
from tests.helpers.paths import ROOT

OWN_HELP = ("make-bag", "prepare", "label")  # these take a source, or what to do, first
HEAVY = ("torch", "cv2", "numpy", "onnxruntime", "jsonargparse", "yaml", "rosbags")
PROGRAMS = {
    "training": ("pretrain", "finetune", "evaluate", "prepare"),
    "export": ("to_onnx", "to_trt", "verify"),
}


def test_the_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from lemumo_core.cli.main import main\n"
        "assert main(['--help']) == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1] == "[]"
    assert all(any(line.split()[:1] == [name] for line in lines) for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_shows_its_help(name, capsys) -> None:
    if name in OWN_HELP:
        assert cli.main([name, "--help"]) == 0
    else:
        with pytest.raises(SystemExit) as stopped:
            cli.main([name, "--help"])
        assert stopped.value.code == 0
    assert f"lemumo {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "path", [f"{folder}/{name}.py" for folder, names in PROGRAMS.items() for name in names]
)
def test_programs_of_the_clone_are_commands(path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", [path, "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / path), run_name="__main__")
    assert stopped.value.code == 0 and "lemumo " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "number", "code"),
    [
        ("pretrain", signal.SIGTERM, 85),
        ("prepare", signal.SIGINT, 85),
        ("bench", signal.SIGTERM, 143),
    ],
)
def test_signals_end_a_command_that_is_still_imported(
    name, number, code, monkeypatch, tmp_path, capsys
) -> None:
    module = f"imported_{name}_{number}"
    (tmp_path / f"{module}.py").write_text(
        f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(600)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.run_command(module, name, []) == code
    assert f"lemumo {name}: stopped by {number.name}" in capsys.readouterr().err


def test_unknown_commands_are_named(capsys) -> None:
    assert cli.main(["pretain"]) == 2
    assert "did you mean 'lemumo pretrain'?" in capsys.readouterr().err
    assert cli.main([]) == 2
    assert "usage: lemumo COMMAND" in capsys.readouterr().err


def test_another_package_adds_a_command(monkeypatch, tmp_path, capsys) -> None:
    """By its installed metadata, as pip writes it."""
    (tmp_path / "other_command.py").write_text(
        '"""Greet people.\n\nOnce."""\ndef main(arguments):\n    print(arguments)\n'
    )
    metadata = tmp_path / "other-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[lemumo.commands]\ngreet = other_command:main\nlost = lost_package.command:main\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(["greet", "--loud"]) == 0
    assert capsys.readouterr().out == "['--loud']\n"
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "  greet         Greet people" in shown
    assert "  lost          from lost_package, which is not installed" in shown


def test_a_missing_package_names_the_line_that_installs_it(monkeypatch, capsys) -> None:
    declared = ["numpy", 'torch<3,>=2.5; extra == "train"', "onnx<2; extra == 'train'"]
    monkeypatch.setattr(extras, "requires", lambda name: declared)
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [module for module in sys.modules if module.startswith("lemumo_core.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "lemumo_core.cli.pretrain", raising=False)
    assert cli.main(["pretrain"]) == 1
    shown = capsys.readouterr().err
    assert shown == "lemumo pretrain: torch is missing: pip install 'torch<3,>=2.5' 'onnx<2'\n"


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("vision_msgs.msg", "sudo apt install ros-jazzy-vision-msgs; .*interfaces/build.py"),
        ("onnxruntime", "pip install 'onnxruntime"),
        ("jsonargparse.typing", r"pip install 'jsonargparse\[signatures\]"),
        ("rclpy.node", r"pip install '\.\[ros\]'|pip install 'ros-rclpy"),
        ("who_knows", "No module named 'who_knows'"),
    ],
)
def test_what_is_missing_is_named_with_its_cure(monkeypatch, module, words) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    error = ModuleNotFoundError(f"No module named '{module}'", name=module)
    assert re.search(words, extras.missing_package(error))


def test_without_metadata_the_line_is_of_the_clone(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise extras.PackageNotFoundError

    monkeypatch.setattr(extras, "requires", absent)
    assert extras.install_line("bags") == "pip install '.[bags]'"

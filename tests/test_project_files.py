"""Files about the project: of GitHub by their schemas, and one version in all of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from tests.helpers.paths import ROOT

SCHEMAS = {
    ".github/workflows/*.yml": "vendor.github-workflows",
    ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
    ".github/ISSUE_TEMPLATE/[!c]*.yml": "vendor.github-issue-forms",
    ".github/dependabot.yml": "vendor.dependabot",
    "CITATION.cff": "vendor.citation-file-format",
}
"""Schemas that the package check-jsonschema brings along, by the files that follow them."""


def check(schema: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Hold files against a schema."""
    pytest.importorskip("check_jsonschema", reason="it needs Python 3.11 and: pip install '.[dev]'")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, text=True)


@pytest.mark.parametrize("pattern", SCHEMAS)
def test_files_follow_their_schema(pattern: str) -> None:
    paths = sorted(ROOT.glob(pattern))
    assert paths
    result = check(SCHEMAS[pattern], *paths)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_broken_workflow_is_found(tmp_path: Path) -> None:
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    broken = tmp_path / "tests.yml"
    broken.write_text(text.replace("runs-on:", "run-on:"))
    assert broken.read_text() != text
    assert check("vendor.github-workflows", broken).returncode != 0


def test_every_supported_python_is_tested() -> None:
    """Those of the workflow are the oldest that setup.py allows, and all up to the newest."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    versions = workflow["jobs"]["tests"]["strategy"]["matrix"]["python-version"]
    oldest = re.search(r'python_requires=">=3\.(\d+)', (ROOT / "setup.py").read_text())
    assert oldest
    minors = [int(version.split(".")[1]) for version in versions]
    assert minors == list(range(int(oldest[1]), 14))


def test_one_version() -> None:
    """The changelog's newest release and the citation are of the version in package.xml."""
    version = ElementTree.parse(ROOT / "package.xml").getroot().findtext("version")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(r"^## \[?(\d[\w.]*)\]?", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert released[0] == citation["version"] == version


def test_commit_hooks_are_the_lint() -> None:
    """Each hook runs a tool that `make lint` runs, from the same environment."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    makefile = (ROOT / "Makefile").read_text()
    for repository in config["repos"]:
        assert repository["repo"] == "local", "hooks download nothing"
        for hook in repository["hooks"]:
            tool = re.match(r"\.venv/bin/python -m (\w+)", hook["entry"])
            assert tool and f"-m {tool[1]}" in makefile, hook["entry"]


@pytest.mark.parametrize("file", sorted(path.name for path in ROOT.glob("docker/*.Dockerfile")))
def test_container_files_are_linted(file: str) -> None:
    """None has been built where this was written; what hadolint finds is an error all the same."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint is not installed: pip install '.[dev]'")
    path = ROOT / "docker" / file
    result = subprocess.run([program, str(path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    named = re.findall(r"'\.\[([\w,-]+)\]'", path.read_text())
    extras = re.findall(r'^    "([\w-]+)": \[', (ROOT / "setup.py").read_text(), re.M)
    assert named and all(set(one.split(",")) <= set(extras) for one in named)


def test_containers_start_the_node() -> None:
    script = ROOT / "docker" / "entrypoint.sh"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert "make setup" in made["postCreateCommand"]


@pytest.mark.parametrize(
    ("array", "code", "ended", "started"),
    [
        ({"ID": "7", "MIN": "5", "COUNT": "16"}, 0, 0, "replay b --part 3/16"),
        ({}, 3, 3, "replay b"),
        ({}, 85, 0, "requeue 42"),
        ({}, 138, 0, "requeue 42"),
    ],
)
def test_jobs_of_many_bags_do_their_parts(array, code, ended, started, tmp_path) -> None:
    """The script of SLURM, with its programs replaced by notes of how they were called."""
    log = tmp_path / "log"
    for name, status in (("srun", code), ("scontrol", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexit {status}\n')
        program.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "42",
        **{f"SLURM_ARRAY_TASK_{key}": value for key, value in array.items()},
    }
    script = ROOT / "training" / "slurm" / "bags.sbatch"
    done = subprocess.run(["bash", str(script), "replay", "b"], env=environment)
    assert done.returncode == ended
    assert log.read_text().splitlines()[-1].endswith(started)

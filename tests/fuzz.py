"""Fuzz the message converters under coverage guidance: ``make fuzz [SECONDS=60]``.

CI runs the same tests with a fixed set of hypothesis examples; here libFuzzer, through atheris,
looks for inputs that reach new code. Exit code 1 on the first that raises
anything but Fault; hypothesis keeps it in .hypothesis/, and the test then fails with it too.
"""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers.paths import ROOT

TARGETS = {
    "PointCloud2": "tests.core.messages.test_points:test_corrupt_clouds",
    "Image": "tests.core.messages.test_images:test_corrupt_images",
    "CompressedImage": "tests.core.messages.test_images:test_corrupt_compressed_images",
    "CameraInfo": "tests.core.messages.test_camera_info:test_corrupt_camera_infos",
    "camera and cloud": "tests.core.messages.test_fuzz_frames:test_any_camera_and_cloud",
    "two cameras": "tests.core.messages.test_fuzz_frames:test_any_two_cameras",
}
"""Target of the fuzzing, and the hypothesis test that builds its input and checks the result."""
LENGTH, SEEDS = 4096, 32
"""Bytes of an input. Hypothesis rejects one that ends before its example does, so that short ones,
with which libFuzzer would begin, lead nowhere."""


def fuzz(target: str, seconds: str) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["lemumo_core"]):
        module, _, test = TARGETS[target].partition(":")
        one_input = getattr(importlib.import_module(module), test).hypothesis.fuzz_one_input
    corpus = Path(tempfile.mkdtemp(prefix="lemumo_fuzz_"))
    for seed in range(SEEDS):
        (corpus / str(seed)).write_bytes(random.Random(seed).randbytes(LENGTH))
    options = [f"-max_total_time={seconds}", f"-max_len={LENGTH}", "-len_control=0"]
    options += ["-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={corpus}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


def main(seconds: str) -> int:
    """Fuzz every target, each in a process of its own; 1 if one of them failed."""
    failed = []
    for target in TARGETS:
        print(f"== {target}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", seconds, target]
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(target)
    print(f"failed: {', '.join(failed)}" if failed else "nothing but Faults")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) == 3:
        fuzz(sys.argv[2], sys.argv[1])
    else:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "60"))

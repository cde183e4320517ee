"""Compare two backends of a package, number by number.

    lemumo parity PACKAGE                                  # torch against onnxruntime
    lemumo parity PACKAGE --candidate onnxruntime:int8 --frames bags:/data/my_bag
    lemumo parity PACKAGE --candidate openvino --out out/parity

Prints a table, and writes parity.json and index.html with --out.

Exit codes: 0 equal within the limits, 1 an error, 3 a limit is exceeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lemumo_core.command_line import run_function
from lemumo_core.export.parity_inputs import random_samples, source_samples
from lemumo_core.export.parity_report import as_text, write_report
from lemumo_core.export.verify import FRAMES, RANDOM_SEEDS, verify
from lemumo_core.files import check_output
from lemumo_core.inference.backends import split_name
from lemumo_core.inference.package import load_package

LIMIT_EXCEEDED = 3


def parity(
    package: Path,
    *,
    reference: str = "torch",
    candidate: str = "onnxruntime",
    out: Path | None = None,
    frames: str = "synthetic",
    count: int = FRAMES,
) -> int:
    """Compare two backends of a package.

    Args:
        package: folder of the model package.
        reference: RUNTIME[:PRECISION] that is right.
        candidate: RUNTIME[:PRECISION] to be compared with it.
        out: folder for parity.json and index.html.
        frames: SOURCE[:PATH] of real frames beside random ones, e.g. bags:/data/my_bag.
        count: how many of them at most.

    Returns:
        The exit code.

    Raises:
        Fault: ``unknown_backend``; as ``check_output``, ``load_package``, ``source_samples`` and
            ``verify``.
    """
    for name in (reference, candidate):
        split_name(name)
    if out is not None:
        check_output(out)
    loaded = load_package(package)
    spec = loaded.manifest.input
    samples = [*random_samples(spec, RANDOM_SEEDS), *source_samples(frames, spec, count)]
    found, limits = verify(loaded, candidate, samples, reference)
    title = f"{loaded.manifest.name}: {candidate} against {reference}"
    print(as_text(title, found, limits))
    if out is not None:
        source, _, path = frames.partition(":")
        shown = f"{source} {Path(path).name}" if path else source  # folders are nobody's business
        write_report(out, title, found, limits, {"frames": shown})
    return LIMIT_EXCEEDED if found.failures(limits) else 0


def main(arguments: Sequence[str]) -> int:
    """Run ``lemumo parity``; return its exit code."""
    return run_function("lemumo parity", parity, arguments, __doc__)

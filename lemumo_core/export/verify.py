"""Compare two backends of a package on frames, within the limits of their precisions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lemumo_core.export.outputs import outputs_of
from lemumo_core.export.parity import EXACT, MEASURES, REDUCED, Limits, Parity, add_truth, compare
from lemumo_core.export.parity_inputs import Sample
from lemumo_core.frame import PUBLISHED_SCORE
from lemumo_core.inference.backends import load_backend, split_name
from lemumo_core.inference.package import Package
from lemumo_core.inference.selection import resolve_backend
from lemumo_core.preprocess import Inputs

RANDOM_SEEDS = 2
FRAMES = 16


def verify(
    package: Package,
    candidate: str,
    samples: Sequence[Sample],
    reference: str = "torch",
) -> tuple[Parity, Limits]:
    """Compare two backends of a package.

    Args:
        package: verified.
        candidate: ``RUNTIME[:PRECISION]``.
        samples: to run both on.
        reference: ``RUNTIME[:PRECISION]``.

    Returns:
        The differences, and the limits for the candidate's precision.
    """
    precisions = {split_name(name)[1] or "fp32" for name in (reference, candidate)}
    limits = EXACT if precisions == {"fp32"} else REDUCED
    # An untrained model's scores all lie near its prior: compare them all, or none would be.
    least_score = 0.0 if limits is EXACT and not package.manifest.trained else PUBLISHED_SCORE
    expected = outputs_of(package, reference, samples)
    got = outputs_of(package, candidate, samples)
    parity = compare(samples, expected, got, limits, least_score)
    add_truth(parity, samples, expected, got, package.manifest)
    return parity, limits


def verify_batch(
    package: Package, candidate: str, samples: Sequence[Sample], reference: str
) -> tuple[Parity, Limits]:
    """Compare the dynamic graph, all samples in one batch, with a reference on each of them.

    Below float32 a difference in the last digit can round to another step, and ``int8-cpu`` finds
    the ranges of its activations over the whole batch: those must only stay as near as a lower
    precision must.

    Args and returns as ``verify``; at least two samples.
    """
    limits = EXACT if split_name(candidate)[1] in (None, "fp32") else REDUCED
    backend = load_backend(package, resolve_backend(package, candidate).backend, len(samples))
    together = {key: np.empty(spec.shape, spec.dtype) for key, spec in backend.outputs.items()}
    joined = zip(*(sample.inputs for sample in samples), strict=True)
    backend.infer(Inputs(*map(np.concatenate, joined)), together)
    backend.close()
    rows = [{k: a[i : i + 1] for k, a in together.items()} for i in range(len(samples))]
    expected = outputs_of(package, reference, samples)
    alone = [{k: a for k, a in out.items() if k in together} for out in expected]
    return compare(samples, alone, rows, limits), limits


def losses(parity: Parity) -> dict[str, float]:
    """Return the numbers of a comparison for the manifest, the truth's where there was any."""
    names = [name for name in MEASURES if name.endswith("_loss")]
    names += ["mean_depth", "labels", "unmatched"]
    values = {name: float(getattr(parity, name)) for name in names}
    return {name: value for name, value in values.items() if value == value}

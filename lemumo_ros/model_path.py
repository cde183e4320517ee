"""Find what the parameters ``model`` and ``points_model`` name."""

from __future__ import annotations

from pathlib import Path

from lemumo_core.faults import Fault
from lemumo_core.inference.point_labeler import PointLabeler
from lemumo_ros.share import SCHEME, resolve, share_folders


def model_folder(model: str) -> Path:
    """Return the folder that a model's name means.

    Args:
        model: path, of which ``~`` is the home; ``package://PACKAGE/PATH``, a path below the share
            folder of a ROS package; or the name of a model that comes with lemumo.

    Raises:
        Fault: ``no_model``, naming those that come with lemumo; as ``resolve``.
    """
    shipped = _shipped()
    listing = ", ".join(sorted(shipped)) or "none"
    if not model:
        raise Fault(
            "no_model",
            "the parameter model is not set: give the folder of a package, or the name of one that "
            f"comes with lemumo ({listing})",
        )
    if model.startswith(SCHEME):
        return resolve(model)
    path_given = Path(model).expanduser()
    if not path_given.exists() and len(path_given.parts) == 1:
        if model not in shipped:
            raise Fault(
                "no_model",
                f"there is no folder {path_given.resolve()}, and no model {model} comes with "
                f"lemumo (those that do: {listing})",
            )
        return shipped[model]
    return path_given


def point_labeler(run: str) -> PointLabeler | None:
    """Load the 3D network of a run of fine-tuning on points; None where none is named.

    Args:
        run: its folder, as a path or ``package://PACKAGE/PATH``.

    Raises:
        Fault, ImportError: as ``PointLabeler`` and ``resolve``.
    """
    if not run:
        return None
    return PointLabeler(resolve(run) if run.startswith(SCHEME) else Path(run).expanduser())


def _shipped() -> dict[str, Path]:
    """Return the models that come with lemumo, by name."""
    found: dict[str, Path] = {}
    for folder in share_folders():
        for manifest in sorted((folder / "models").glob("*/manifest.json")):
            found.setdefault(manifest.parent.name, manifest.parent)
    return found

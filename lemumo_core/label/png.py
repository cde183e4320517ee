"""Label maps as PNG files: ``labels/NAME.png`` of ids beside ``images/NAME.png``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from lemumo_core.data.sources.files import existing, read_gray
from lemumo_core.faults import Fault
from lemumo_core.files import contents_of, read_yaml, write_whole
from lemumo_core.frame import UNLABELLED, Frame, Labels
from lemumo_core.label.boxes_2d import names_of_ids
from lemumo_core.label.formats import LabelsOf, NamedFrame
from lemumo_core.label.frame_names import encode_png, write_image

NAMES = "label_ids.yaml"
"""Names of the ids, as ``label_ids`` of a class file."""


def write(frames: Iterable[NamedFrame], out: Path) -> None:
    """Write images, label maps and the names of their ids.

    Raises:
        Fault: ``several_legends`` where frames name their ids differently.
    """
    names: tuple[str, ...] = ()
    (out / "labels").mkdir(parents=True, exist_ok=True)
    for name, frame in frames:
        write_image(frame, out / "images" / f"{name}.png")
        labels = frame.labels or Labels()
        if labels.label_map is None:
            continue
        own = names_of_ids(labels)
        if names and own != names:
            raise Fault("several_legends", f"{name} names its label ids unlike the frames before")
        names = own
        (out / "labels" / f"{name}.png").write_bytes(encode_png(labels.label_map))
    ids = {number: name for number, name in enumerate(names) if name}
    write_whole(out / NAMES, yaml.safe_dump(ids, allow_unicode=True).encode())


def read(path: Path) -> Mapping[str, LabelsOf]:
    """Read the label maps of a folder, or of its subfolder ``labels``.

    ``label_ids.yaml`` beside them names the ids; without it the class file of a training does.

    Raises:
        FileNotFoundError: there is no such folder, or no PNG file in it.
        Fault: ``bad_labels`` for names that are no mapping of ids.
    """
    folder = path / "labels" if (path / "labels").is_dir() else existing(path, "a folder of PNG")
    files = sorted(folder.glob("*.png"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no PNG file")
    names = _names(path / NAMES)
    return {file.stem: partial(_labels, file, names) for file in files}


def _names(file: Path) -> tuple[str, ...]:
    if not file.exists():
        return ()
    with contents_of(file, "bad_labels", "write a mapping of ids to names"):
        ids = read_yaml(file)
    if not isinstance(ids, dict) or not all(type(i) is int and 0 <= i < UNLABELLED for i in ids):
        raise Fault("bad_labels", f"{file} must be a mapping of ids, 0 to 254, to names")
    return tuple(str(ids.get(i, "")) for i in range(max(ids, default=-1) + 1))


def _labels(file: Path, names: tuple[str, ...], frame: Frame) -> dict[str, Any]:
    found, camera = read_gray(file), frame.camera
    if found.shape != (camera.height, camera.width) or found.dtype != "uint8":
        raise Fault(
            "bad_labels",
            f"{file} is {found.dtype} {found.shape}, expected uint8 "
            f"{(camera.height, camera.width)} as its image",
        )
    return {"label_map": found, "label_names": names}

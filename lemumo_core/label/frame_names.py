"""Names of the files of a frame, and the frame that a file is of."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.truth_by_stamp import stamps_of
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame

log = logging.getLogger(__name__)

STAMP = re.compile(r"(\d+)\D*$")


def name_of(frame: Frame) -> str:
    """Return the stem of a frame's files: its camera and its stamp, ns."""
    camera = re.sub(r"[^\w.-]+", "_", frame.camera_name)
    return f"{camera}_{frame.stamp_ns}"


def frames_of(names: Iterable[str], source: FrameSource, origin: Path) -> dict[int, str]:
    """Return which frame each file is of: index of the frame to the stem of the file.

    A stem ends in the stamp of its frame; where several cameras have it, the whole stem decides.

    Args:
        names: stems of the files.
        source: of the frames.
        origin: where the names come from, for messages.

    Raises:
        Fault: ``no_frames`` where no file is of a frame; ``ambiguous_frame``.
    """
    by_stamp: dict[int, list[int]] = defaultdict(list)
    for index, stamp_ns in enumerate(stamps_of(source).tolist()):
        by_stamp[stamp_ns].append(index)
    found: dict[int, str] = {}
    lost = []
    for name in names:
        stamp = STAMP.search(name)
        fits = by_stamp.get(int(stamp[1]), []) if stamp else []
        if len(fits) > 1:
            fits = [i for i in fits if name.endswith(name_of(source[i]))]
            if len(fits) != 1:
                raise Fault(
                    "ambiguous_frame",
                    f"{origin}: {name} is of one of several cameras of that stamp: name files as "
                    "lemumo label export does, CAMERA_STAMP",
                )
        if fits:
            found[fits[0]] = name
        else:
            lost.append(name)
    if not found:
        raise Fault(
            "no_frames",
            f"{origin}: none of {len(lost)} files ({', '.join(lost[:3]) or 'there are none'}) is "
            "of a frame: names must end in the stamp of their frame in ns, as those that lemumo "
            "label export writes",
        )
    if lost:
        log.warning("%s: %d files are of no frame, the first %s", origin, len(lost), lost[0])
    return found


def write_image(frame: Frame, path: Path) -> None:
    """Write the image of a frame as PNG, with its folder.

    Raises:
        Fault: ``no_image``.
    """
    if frame.image is None:
        raise Fault("no_image", f"the frame of {frame.stamp_ns} ns has no image to be labelled")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(frame.image[..., ::-1]))


def encode_png(picture: np.ndarray) -> bytes:
    """Encode a picture, uint8 (H, W) or (H, W, 3) BGR, as PNG."""
    data: bytes = cv2.imencode(".png", picture)[1].tobytes()
    return data

"""Frames as rows of Arrow tables: everything a Frame holds, exactly, and nothing else.

Arrays are stored raw, in a row with their dtype and shape, and zstd-compressed by the file. On
photographs that was 1.4 to 1.7 times the bytes of PNG, decoded seven to ten times as fast; camera
logs, which come as JPEG anyway, are better kept as JPEG, a tenth of the bytes.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import cv2
import numpy as np

from lemumo_core.data.arrow import pa
from lemumo_core.data.reduction import (
    reduced_camera,
    reduced_image,
    reduced_labels,
    reduction_factor,
)
from lemumo_core.faults import Fault
from lemumo_core.frame import Companion, Frame, Labels, LidarScan, RasterImage, ThermalImage
from lemumo_core.geometry.camera import Camera

ARRAY = pa.struct(
    [("dtype", pa.string()), ("shape", pa.list_(pa.int64())), ("data", pa.large_binary())]
)
"""An ndarray in C order; dtype as numpy's ``dtype.str``."""
CAMERA = pa.struct(
    [
        *((name, pa.int64()) for name in ("width", "height")),
        *((name, pa.float64()) for name in ("fx", "fy", "cx", "cy")),
        ("model", pa.string()),
        ("distortion", pa.list_(pa.float64())),
    ]
)
LIDAR = pa.struct([("points", ARRAY), ("T_camera_lidar", ARRAY), ("stamp_ns", pa.int64())])
THERMAL = pa.struct(
    [
        ("image", ARRAY),
        ("camera", CAMERA),
        ("T_camera_thermal", ARRAY),
        ("stamp_ns", pa.int64()),
    ]
)
LABELS = pa.struct(
    [
        ("boxes_3d", ARRAY),
        ("boxes_2d", ARRAY),
        ("class_names", pa.list_(pa.string())),
        ("visibility", ARRAY),
        ("num_points", ARRAY),
        ("label_map", ARRAY),
        ("instance_map", ARRAY),
        ("depth_m", ARRAY),
        ("point_labels", ARRAY),
        ("ignore", ARRAY),
        ("track_ids", pa.list_(pa.string())),
        ("label_names", pa.list_(pa.string())),
        ("point_confidence", ARRAY),
        ("box_confidence", ARRAY),
    ]
)
SCHEMA = pa.schema(
    [
        ("stamp_ns", pa.int64()),
        ("camera_name", pa.string()),
        ("camera", CAMERA),
        ("image", ARRAY),
        ("jpeg", pa.large_binary()),
        ("lidar", LIDAR),
        ("thermal", THERMAL),
        ("labels", LABELS),
        ("T_fixed_camera", ARRAY),
    ]
)
"""One row a Frame. Its image is in ``image`` or ``jpeg``, its companion in ``lidar`` or
``thermal``, where a raster is an image (H, W, C); what is missing is null."""
ADDED = {
    **{2: "ignore", 3: "track_ids", 4: "label_names", 5: "point_confidence", 6: "box_confidence"},
    7: "T_fixed_camera",
}
"""Fields of the labels, and from 7 on of the rows, that came with a version of the shards."""


def _schema(version: int) -> pa.Schema:
    newer = {name for since, name in ADDED.items() if since > version}
    labels = pa.struct([field for field in LABELS if field.name not in newer])
    columns = pa.schema([field for field in SCHEMA if field.name not in newer])
    return columns.set(columns.get_field_index("labels"), pa.field("labels", labels))


SCHEMAS = {version: _schema(version) for version in (1, *ADDED)}
"""Schemas of shards by their version."""
VERSION = max(SCHEMAS)
"""Version of the shards that are written."""


def record_from_frame(frame: Frame, jpeg: int | None = None) -> pa.RecordBatch:
    """Convert a Frame to one row of ``SCHEMA``.

    Args:
        frame: any.
        jpeg: quality, 1 to 100, of a lossy image; None keeps it exact.
    """
    scan = frame.companion if isinstance(frame.companion, LidarScan) else None
    thermal = frame.companion if isinstance(frame.companion, ThermalImage) else None
    if isinstance(frame.companion, RasterImage):
        raster = frame.companion
        thermal = ThermalImage(raster.bands, raster.camera, np.eye(4), raster.stamp_ns)
    row = {
        "stamp_ns": frame.stamp_ns,
        "camera_name": frame.camera_name,
        "camera": _to_arrow(frame.camera),
        "image": _to_arrow(frame.image) if jpeg is None else None,
        "jpeg": None if jpeg is None or frame.image is None else _encode_jpeg(frame.image, jpeg),
        "lidar": _to_arrow(scan),
        "thermal": _to_arrow(thermal),
        "labels": _to_arrow(frame.labels),
        "T_fixed_camera": _to_arrow(frame.T_fixed_camera),
    }
    return pa.RecordBatch.from_pylist([row], schema=SCHEMA)


def frame_from_record(record: pa.RecordBatch, at_least: tuple[int, int] | None = None) -> Frame:
    """Convert a row to a Frame; its arrays are its own and writable.

    Args:
        record: one row of ``SCHEMA``.
        at_least: height, width, pixels; the image and everything on its pixel grid are halved
            (``reduction``), up to three times, as long as they stay at least this large.
    """
    row = {name: record.column(name)[0] for name in record.schema.names}
    camera = _camera(row["camera"])
    factor = 1 if at_least is None else reduction_factor(camera, at_least)
    image = _array(row["image"])
    if row["jpeg"].is_valid:
        image = _decode_jpeg(row["jpeg"].as_buffer(), factor)
    elif image is not None:
        image = reduced_image(image, factor)
    companion: Companion | None = None
    if row["lidar"].is_valid:
        companion = LidarScan(**_from_arrow(row["lidar"]))
    elif row["thermal"].is_valid:
        picture = ThermalImage(**_from_arrow(row["thermal"]))
        companion = picture
        if picture.image.ndim == 3:
            companion = RasterImage(picture.image, picture.camera, picture.stamp_ns)
    labels = Labels(**_from_arrow(row["labels"])) if row["labels"].is_valid else None
    return Frame(
        stamp_ns=row["stamp_ns"].as_py(),
        camera_name=row["camera_name"].as_py(),
        camera=reduced_camera(camera, factor),
        image=image,
        companion=companion,
        labels=None if labels is None else reduced_labels(labels, factor),
        T_fixed_camera=_array(row["T_fixed_camera"]) if "T_fixed_camera" in row else None,
    )


def _to_arrow(value: Any) -> Any:
    """Convert a part of a Frame to what pyarrow takes."""
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "shape": value.shape, "data": value.tobytes()}
    if is_dataclass(value):
        return {field.name: _to_arrow(getattr(value, field.name)) for field in fields(value)}
    return value


def _from_arrow(struct: pa.StructScalar) -> dict[str, Any]:
    """Invert ``_to_arrow`` for a companion or labels, by attribute."""
    return {field.name: _value(struct[field.name], field.type) for field in struct.type}


def _value(scalar: pa.Scalar, kind: pa.DataType) -> Any:
    if kind == ARRAY:
        return _array(scalar)
    if kind == CAMERA:
        return _camera(scalar)
    return tuple(scalar.as_py()) if pa.types.is_list(kind) else scalar.as_py()


def _array(scalar: pa.StructScalar) -> np.ndarray | None:
    if not scalar.is_valid:
        return None
    shape, dtype = scalar["shape"].as_py(), scalar["dtype"].as_py()
    stored: np.ndarray = np.ndarray(shape, dtype, scalar["data"].as_buffer())
    return stored.copy()


def _camera(scalar: pa.StructScalar) -> Camera:
    values = scalar.as_py()
    return Camera(**{**values, "distortion": tuple(values["distortion"])})


def _encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def _decode_jpeg(data: pa.Buffer, factor: int) -> np.ndarray:
    flags = {
        1: cv2.IMREAD_COLOR,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }
    image = cv2.imdecode(
        np.frombuffer(data, np.uint8), flags[factor] | cv2.IMREAD_IGNORE_ORIENTATION
    )
    if image is None:
        raise Fault("bad_image", "a JPEG image in a shard is damaged")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

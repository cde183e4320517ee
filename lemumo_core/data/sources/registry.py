"""Sources by name, as commands and recipes write them.

Importing this imports none of them, so that each needs its own optional dependencies only.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from lemumo_core.bags.metadata import BAG_SUFFIXES
from lemumo_core.data.mixture import Mixture
from lemumo_core.data.sources import FrameSource
from lemumo_core.data.sources.files import VIDEO_SUFFIXES
from lemumo_core.data.sources.members import Data, Member, members_of
from lemumo_core.data.sources.options import typed_options
from lemumo_core.faults import Fault, known_names

SOURCES: dict[str, str] = {
    "argoverse2": "lemumo_core.data.sources.argoverse2:Argoverse2",
    "bags": "lemumo_core.data.sources.bags:Bags",
    "clouds": "lemumo_core.data.sources.cloud_folder:CloudFolder",
    "flir": "lemumo_core.data.sources.flir:Flir",
    "geonrw": "lemumo_core.data.sources.raster_layouts:GeoNrw",
    "images": "lemumo_core.data.sources.image_folder:ImageFolder",
    "kitti": "lemumo_core.data.sources.kitti:KittiObject",
    "kitti-raw": "lemumo_core.data.sources.kitti_raw:KittiRaw",
    "nuscenes": "lemumo_core.data.sources.nuscenes:NuScenes",
    "nyu": "lemumo_core.data.sources.raster_layouts:NyuDepth",
    "pandaset": "lemumo_core.data.sources.pandaset:PandaSet",
    "rasters": "lemumo_core.data.sources.rasters:AlignedRasters",
    "rgb-thermal": "lemumo_core.data.sources.pairs:RgbThermalPairs",
    "semantic-kitti": "lemumo_core.data.sources.semantic_kitti:SemanticKitti",
    "shards": "lemumo_core.data.shards:Shards",
    "ssl4eo-s12": "lemumo_core.data.sources.raster_layouts:Ssl4EoS12",
    "sunrgbd": "lemumo_core.data.sources.raster_layouts:SunRgbd",
    "synthetic": "lemumo_core.data.sources.synthetic:SyntheticStreet",
    "t4": "lemumo_core.data.sources.t4:T4",
    "videos": "lemumo_core.data.sources.video_files:VideoFiles",
    "waymo": "lemumo_core.data.sources.waymo:Waymo",
    "zod": "lemumo_core.data.sources.zod:Zod",
}
"""Name to ``module:Class``."""


def source_class(name: str) -> type[FrameSource]:
    """Return the class of a source; its constructor's signature is the source's options.

    Raises:
        Fault: ``unknown_source``.
        ImportError: its module needs a library that is not installed.
    """
    if name not in SOURCES:
        raise Fault("unknown_source", f"unknown source {name!r}{known_names(name, SOURCES)}")
    module, _, attribute = SOURCES[name].partition(":")
    found: type[FrameSource] = getattr(import_module(module), attribute)
    return found


def open_source(name: str, **options: Any) -> FrameSource:
    """Open a source.

    Args:
        name: a key of ``SOURCES``.
        options: what its constructor takes, e.g. ``root``; words are read by its signature's
            types (``typed_options``).

    Raises:
        Fault: ``unknown_source``; ``unknown_option``, ``missing_option`` or ``bad_option``, naming
            it; or as the source.
        FileNotFoundError, ImportError: as the source.
    """
    return source_class(name)(**read_options(name, options))


def read_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a source as its constructor takes them; as ``open_source``."""
    opened = source_class(name)
    parameters = inspect.signature(opened).parameters
    for option in options.keys() - parameters.keys():
        raise Fault(
            "unknown_option", f"{name} has no option {option!r}{known_names(option, parameters)}"
        )
    for option, parameter in parameters.items():
        if parameter.default is parameter.empty and option not in options:
            raise Fault("missing_option", f"{name} needs {option}")
    return typed_options(opened, options)


def source_of(data: Data, **options: Any) -> FrameSource:
    """Open what programs take as ``--data``.

    Args:
        data: a key of ``SOURCES``; a bag or a folder of bags; a video; a folder or URI of shards;
            or a list of such, whose frames follow one another (``members.Data``).
        options: of a single source; where it is comes from ``data``, unless they say it.

    Raises:
        Fault: as ``members_of`` and ``open_members``.
        FileNotFoundError, ImportError: as the source.
    """
    return open_members(members_of(data, options))


def open_members(members: Sequence[Member]) -> FrameSource:
    """Open sources as one, the frames of each after those of the one before.

    Raises:
        Fault: as ``refuse_weights`` and ``open_member``.
        FileNotFoundError, ImportError: as the source.
    """
    refuse_weights(members)
    return open_mixture(members)


def open_mixture(members: Sequence[Member]) -> FrameSource:
    """Open sources as one, as ``open_members``, whose frames are drawn by weight.

    Raises:
        Fault, FileNotFoundError, ImportError: as ``open_member``.
    """
    return mixture_of(members, [open_member(member, len(members) > 1) for member in members])


def refuse_weights(members: Sequence[Member]) -> None:
    """Refuse weights where nothing is drawn.

    Raises:
        Fault: ``bad_option``, naming the member.
    """
    for member in members:
        if member.weight != 1:
            raise Fault(
                "bad_option",
                f"--data {member.name} has a weight, which only training takes: leave it out",
            )


def open_member(member: Member, is_named: bool, **defaults: Any) -> FrameSource:
    """Open one of the sources that ``--data`` names.

    Args:
        member: which.
        is_named: whether errors begin with its name.
        defaults: options that the source has unless the member's say otherwise.

    Raises:
        Fault, FileNotFoundError, ImportError: as ``open_source`` and ``named_source``.
    """
    try:
        name, location = named_source(member.data)
        return open_source(name, **{**defaults, **location, **member.options})
    except (Fault, FileNotFoundError) as error:
        if not is_named:
            raise
        words = f"--data {member.name}: {error}"
        if isinstance(error, Fault):
            raise Fault(error.reason, words) from error
        raise FileNotFoundError(words) from error


def mixture_of(members: Sequence[Member], sources: Sequence[FrameSource]) -> FrameSource:
    """Return opened members as one source; a single one without a weight as it is."""
    if len(sources) == 1 and members[0].weight == 1:
        return sources[0]
    names = [member.name for member in members]
    counts = [names[: i + 1].count(name) for i, name in enumerate(names)]
    unique = [f"{name} ({n})" if n > 1 else name for name, n in zip(names, counts, strict=True)]
    return Mixture(sources, unique, [member.weight for member in members])


def named_source(data: str) -> tuple[str, dict[str, str]]:
    """Return the source that ``--data`` means, by name, and the option that says where it is.

    Raises:
        Fault: ``unknown_source`` for a name that is neither a source nor a folder.
    """
    if data in SOURCES:
        return data, {}
    if "/" not in data and not Path(data).exists():
        raise Fault(
            "unknown_source",
            f"unknown source {data!r}, and no file or folder has this name"
            f"{known_names(data, SOURCES)}",
        )
    if _is_bag(Path(data)):
        return "bags", {"path": data}
    if data.lower().endswith(VIDEO_SUFFIXES) and Path(data).is_file():
        return "videos", {"root": data}
    return "shards", {"root": data}


def _is_bag(path: Path) -> bool:
    """Return whether a path is a bag, or a folder that holds bags at any depth and no shards."""
    if path.is_dir() and not (path / "index.json").exists():
        return any(file.name.endswith(BAG_SUFFIXES) for file in path.rglob("*"))
    return path.is_file() and path.name.endswith(BAG_SUFFIXES)

"""Reader of what only ``metadata.yaml`` of a bag folder says, and not its storage files."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from lemumo_core.faults import Fault

log = logging.getLogger(__name__)

METADATA = "metadata.yaml"
COMPRESSED_SUFFIX = ".zstd"
BAG_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd", ".bag")
"""How the names of storage files end, of ROS 2 and of ROS 1."""
TRANSIENT_LOCAL = ("transient_local", 1)
"""The durability as rosbag2 writes it: by name from Jazzy on, by number before."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's is many times faster; PyYAML can be built without it."""


@dataclass(frozen=True)
class Metadata:
    """Facts about a recorded folder; the defaults are those of a folder without the file.

    Attributes:
        files: names of its storage files, in order.
        count: number of messages that were recorded, None where it is not known.
        latched: topics offered transient local.
    """

    files: tuple[str, ...] = ()
    count: int | None = None
    latched: frozenset[str] = frozenset()


def read_metadata(folder: Path) -> Metadata:
    """Read the metadata of a bag folder; of any version, since only lasting fields are taken.

    A file that is missing or cannot be parsed, which is logged, gives no facts.

    Raises:
        Fault: ``bad_bag`` for a compression other than zstd, or messages other than CDR.
    """
    file = folder / METADATA
    if not file.exists():
        return Metadata()
    try:
        about = yaml.load(file.read_text("utf-8"), LOADER)["rosbag2_bagfile_information"]
        topics = about.get("topics_with_message_count") or []
        metadata = Metadata(
            tuple(PurePath(name).name for name in about.get("relative_file_paths") or ()),
            about.get("message_count"),
            frozenset(t["topic_metadata"]["name"] for t in topics if _latched(t)),
        )
        mode = str(about.get("compression_mode") or "none").lower()
        kind = str(about.get("compression_format") or "")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        of_yaml = isinstance(error, yaml.YAMLError | UnicodeDecodeError)
        cause = " ".join(str(error).split()) if of_yaml else "it is no metadata of rosbag2"
        log.warning("%s cannot be read and is passed over: %s", file, cause)
        return Metadata()
    if mode != "none" and kind != "zstd":
        raise Fault("bad_bag", f"{folder} is compressed as '{kind}', which is not read: only zstd")
    return metadata


def storage_files(folder: Path, metadata: Metadata) -> list[Path]:
    """Return the storage files of a folder, in order.

    They are those that the metadata names. Where one of these is missing, renamed for instance,
    or none is named, all that lie in the folder.
    """
    named = [folder / name for name in metadata.files]
    if named and all(file.exists() for file in named):
        return named
    return sorted(file for file in folder.iterdir() if file.name.endswith(BAG_SUFFIXES))


def bag_stem(file: Path) -> str:
    """Return the name of a storage file without its suffixes."""
    suffix = next((s for s in BAG_SUFFIXES if file.name.endswith(s)), "")
    return file.name.removesuffix(suffix)


def _latched(topic: dict[str, Any]) -> bool:
    profiles = topic["topic_metadata"].get("offered_qos_profiles") or []
    if isinstance(profiles, str):
        profiles = yaml.load(profiles, LOADER) or []
    return any(profile.get("durability") in TRANSIENT_LOCAL for profile in profiles)

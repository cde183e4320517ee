"""Message types of bags; needs rosbags."""

from __future__ import annotations

import functools
from typing import Any

from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from lemumo_core.bags.sensor_types import DEFINITIONS

IDL_SEPARATOR = "=" * 80 + "\n"


@functools.lru_cache(maxsize=8)
def typestore_of(definitions: frozenset[tuple[str, str, str]]) -> Typestore:
    """Return ROS 2 Kilted's types and ``DEFINITIONS``, replaced by those that a bag has itself.

    Results are cached, because parsing and compiling the types takes most of the time of opening
    a bag, and the bags of one vehicle define the same types.

    Args:
        definitions: type, format (``MSG`` or ``IDL``) and text of each. Definitions that
            cannot be parsed are ignored, so that they do not hide the other topics.
    """
    store = sensor_typestore()
    for msgtype, kind, text in sorted(definitions):
        try:
            if kind == "MSG":
                types = get_types_from_msg(text, msgtype)
            elif kind == "IDL":
                types = {}
                for part in text.split(IDL_SEPARATOR):
                    types |= get_types_from_idl(
                        part.partition("\n")[2] if part[:4] == "IDL:" else part
                    )
            else:
                continue
            for name in types:
                if store.fielddefs.get(name, types[name])[1] != types[name][1]:
                    del store.fielddefs[name]
            store.register(types)
        except Exception:  # the library fails in many ways on odd definitions
            continue
    return store


def sensor_typestore() -> Typestore:
    """Return the types of ROS 2 Kilted and ``DEFINITIONS``."""
    store = get_typestore(Stores.ROS2_KILTED)
    types: dict[str, Any] = {}
    for msgtype, text in DEFINITIONS.items():
        types |= get_types_from_msg(text, msgtype)
    store.register(types)
    return store

"""Build the messages that the node publishes, of rclpy's classes, without wasting time on them.

rclpy's constructors create a default of every field, even of those that they are given: 50 us for a
Detection3D instead of 3. And a NumPy array assigned to a sequence field is copied number by number:
half a second for the ``data`` of a 1080p image, where an ``array.array`` takes 0.5 ms.
"""

from __future__ import annotations

import array
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from lemumo_core.messages.builder import MessageBuilder

CONVERTED = array.array, np.ndarray
"""Types of fields whose setters convert what they are given."""


class RclpyBuilder(MessageBuilder):
    """Builds messages of the installed message packages."""

    def __init__(self) -> None:
        self._constructors: dict[str, Callable[..., Any]] = {}

    def new(self, kind: str, **fields: Any) -> Any:
        """Return a message of type ``package/Name``; every field must be given.

        Raises:
            TypeError: fields are missing, or unknown.
        """
        if kind not in self._constructors:
            self._constructors[kind] = _constructor(kind)
        return self._constructors[kind](**fields)

    def sequence(self, values: np.ndarray) -> array.array:
        """Copy an array (N,) to an ``array.array`` of its type."""
        copied = array.array(values.dtype.char)
        copied.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
        return copied


def _constructor(kind: str) -> Callable[..., Any]:
    """Return a function that assigns the fields and does nothing else.

    It is written out, as those of dataclasses are: a loop over names of fields takes twice as long.
    """
    package, _, name = kind.partition("/")
    message_class = getattr(importlib.import_module(f"{package}.msg"), name)
    fields, default = message_class.get_fields_and_field_types(), message_class()
    # Where fields are not checked (from Jazzy on, by default) a setter only assigns, but for
    # arrays of numbers, which it converts.
    by_setter = object if getattr(default, "_check_fields", True) else CONVERTED
    # No field begins with "_", so that none is taken for one of these names.
    names = {"_new": message_class.__new__, "_class": message_class, "_default": default}
    lines = [f"def {name}(*, {', '.join(fields)}):", "_message = _new(_class)"]
    for slot in message_class.__slots__:
        if slot.removeprefix("_") not in fields:
            lines.append(f"_message.{slot} = _default.{slot}")
    for field in fields:
        attribute = field if isinstance(getattr(default, field), by_setter) else f"_{field}"
        lines.append(f"_message.{attribute} = {field}")
    exec("\n ".join([*lines, "return _message"]), names)
    constructor: Callable[..., Any] = names[name]
    return constructor


build = RclpyBuilder()
"""The builder of the process; it has no state but the classes it has loaded."""

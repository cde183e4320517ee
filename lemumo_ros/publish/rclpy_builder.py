"""Build the messages that the node publishes, of rclpy's classes, without wasting time on them.

rclpy's constructors create a default of every field, even of those that they are given: 50 us for a
Detection3D instead of 3. And a NumPy array assigned to a sequence field is copied number by number:
half a second for the ``data`` of a 1080p image, where an ``array.array`` takes 0.5 ms.
"""

from __future__ import annotations

import array
import importlib
from typing import Any, NamedTuple

import numpy as np

from lemumo_core.messages.builder import MessageBuilder

CONVERTED = array.array, np.ndarray
"""Types of fields whose setters convert what they are given."""


class _Kind(NamedTuple):
    """A message class, to each field what is assigned to, and the values of other slots."""

    message_class: Any
    attributes: dict[str, str]
    others: list[tuple[str, Any]]


class RclpyBuilder(MessageBuilder):
    """Builds messages of the installed message packages."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def new(self, kind: str, **fields: Any) -> Any:
        """Return a message of type ``package/Name``; every field must be given.

        Raises:
            TypeError: fields are missing.
        """
        if kind not in self._kinds:
            self._kinds[kind] = _load(kind)
        message_class, attributes, others = self._kinds[kind]
        message = message_class.__new__(message_class)
        for name, value in others:
            setattr(message, name, value)
        for name, value in fields.items():
            setattr(message, attributes.get(name, name), value)
        if len(fields) != len(attributes):
            missing = attributes.keys() - fields.keys()
            raise TypeError(f"{kind} lacks {', '.join(sorted(missing))}")
        return message

    def sequence(self, values: np.ndarray) -> array.array:
        """Copy an array (N,) to an ``array.array`` of its type."""
        copied = array.array(values.dtype.char)
        copied.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
        return copied


def _load(kind: str) -> _Kind:
    package, _, name = kind.partition("/")
    message_class = getattr(importlib.import_module(f"{package}.msg"), name)
    fields, default = message_class.get_fields_and_field_types(), message_class()
    slots = [slot for slot in message_class.__slots__ if slot.removeprefix("_") not in fields]
    # Where fields are not checked (from Jazzy on, by default) a setter only assigns, but for
    # arrays of numbers, which it converts.
    by_setter = object if getattr(default, "_check_fields", True) else CONVERTED
    attributes = {
        field: field if isinstance(getattr(default, field), by_setter) else f"_{field}"
        for field in fields
    }
    return _Kind(message_class, attributes, [(slot, getattr(default, slot)) for slot in slots])


build = RclpyBuilder()
"""The builder of the process; it has no state but the classes it has loaded."""

"""The parameters of an rclpy node: what was given at start, what is declared, what may change."""

from __future__ import annotations

import difflib
from dataclasses import Field, replace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.parameter import Parameter

from lemumo_ros.parameters import (
    ON_CONFIGURE,
    CameraParameters,
    Parameters,
    parameter_fields,
    range_of,
)

RENAMED = {"companion_offset_ms": "companion_offset, in seconds"}
OF_ANY_TYPE = ("rectified",)
"""Parameters that are a boolean or a word, as YAML reads them."""
LISTS_OF_WORDS = ("cameras", "lidars")
OF_RCLPY = ("use_sim_time", "start_type_description_service")
QOS_OVERRIDES = "qos_overrides."
"""Parameters that rclpy declares by itself."""


class ParameterServer:
    """Declares our parameters on a node, reads them, and judges changes.

    Whole numbers are taken where numbers are meant, and an empty list for any list, which rclpy
    refuses both. Parameters that were given at start and do not exist are found by ``read``.

    Args:
        node: rclpy node on which none of them is declared yet.

    Raises:
        ValueError: for a parameter of an earlier version that has another name now.
        rclpy.exceptions.ParameterException: for a value of the wrong type.
    """

    def __init__(self, node: Any):
        self._node = node
        # rclpy shows what was given only by declaring all of it, which fails for an empty list.
        self._given = {
            name: parameter.value
            for name, parameter in node._parameter_overrides.items()
            if name not in OF_RCLPY and not name.startswith(QOS_OVERRIDES)
        }
        self._entries: dict[str, Field] = {}
        self._refuse_renamed("")
        for entry in parameter_fields(Parameters):
            self._declare(entry.name, entry, entry.default)
        if hasattr(node, "add_pre_set_parameters_callback"):  # from Iron on
            node.add_pre_set_parameters_callback(self._convert_all)

    def read(self, changes: dict[str, Any] | None = None) -> Parameters:
        """Return the current values, and declare the parameters of the cameras in the list.

        Args:
            changes: values by name, which replace the current ones.

        Raises:
            ValueError: naming the parameter that is invalid.
        """

        def value_of(name: str, entry: Field) -> Any:
            value = (changes or {}).get(name, self._node.get_parameter_or(name).value)
            return tuple(value or ()) if isinstance(entry.default, tuple) else value

        values = {entry.name: value_of(entry.name, entry) for entry in parameter_fields(Parameters)}
        settings = Parameters(**values)
        by_camera: dict[str, CameraParameters] = {}
        own = parameter_fields(CameraParameters)
        for camera in settings.cameras or (settings.camera_name,):
            prefix = f"{camera}." if settings.cameras else ""
            if prefix:
                self._refuse_renamed(prefix)
            for entry in own:
                if prefix + entry.name not in self._entries:
                    self._declare(prefix + entry.name, entry, values[entry.name])
            of_camera = {entry.name: value_of(prefix + entry.name, entry) for entry in own}
            try:
                by_camera[camera] = CameraParameters(**of_camera)
            except ValueError as error:
                raise ValueError(f"{prefix}{error}") from error
        return replace(settings, by_camera=by_camera)

    def changed(self, parameters: list[Any], configured: bool) -> Parameters | None:
        """Return the values of all parameters after a request to set some of them.

        Args:
            parameters: rclpy parameters to be set.
            configured: whether the node is configured, when some may not change.

        Returns:
            The values, or None where the request holds none of our parameters.

        Raises:
            ValueError: naming why the whole request must be refused.
        """
        changes = {}
        for parameter in parameters:
            entry = self._entries.get(parameter.name)
            if entry is None:
                continue
            if configured and entry.metadata["effective"] == ON_CONFIGURE:
                raise ValueError(
                    f"{parameter.name} takes effect with configure: clean up the node first"
                )
            changes[parameter.name] = parameter.value
        return self.read(changes) if changes else None

    def unknown(self) -> list[str]:
        """Return what to say of each parameter that was given at start and does not exist."""
        texts = []
        for name in sorted(self._given.keys() - self._entries.keys()):
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f", did you mean {near[0]}?" if near else " (ros2 param list names those)"
            texts.append(f"there is no parameter {name}{hint}")
        return texts

    def _refuse_renamed(self, prefix: str) -> None:
        for old, new in RENAMED.items():
            if prefix + old in self._given:
                raise ValueError(f"{prefix}{old} is now {prefix}{new}: set that instead")

    def _declare(self, name: str, entry: Field, default: Any) -> None:
        text = f"{entry.metadata['text']} (takes effect {entry.metadata['effective']})"
        descriptor = ParameterDescriptor(description=text)
        descriptor.dynamic_typing = entry.name in OF_ANY_TYPE
        low, high = range_of(entry)
        if low is not None:
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        given = self._given.get(name)  # None for an empty list, too
        value = _converted(entry, default if given is None else given)
        if isinstance(entry.default, tuple):
            if isinstance(value, str):
                raise ValueError(f"{name} is {value!r}, must be a list")
            kind = _list_type(entry)  # which rclpy cannot tell of an empty list
            self._node.declare_parameter(name, kind, descriptor, ignore_override=True)
            # While one has no value, GetParameters answers nothing at all, for no parameter.
            (result,) = self._node.set_parameters([Parameter(name, kind, list(value))])
            if not result.successful:
                raise ValueError(result.reason)
        else:
            wanted: type = type(entry.default)
            if entry.name not in OF_ANY_TYPE and type(value) is not wanted:
                raise ValueError(f"{name} is {value!r}, must be a {wanted.__name__}")
            self._node.declare_parameter(name, value, descriptor, ignore_override=True)
        self._entries[name] = entry

    def _convert_all(self, parameters: list[Parameter]) -> list[Parameter]:
        """Return the parameters of a request, as ``_converted`` takes their values."""
        converted = []
        for parameter in parameters:
            entry = self._entries.get(parameter.name)
            if entry is not None:
                value = _converted(entry, parameter.value)
                if isinstance(entry.default, tuple) and not len(value or ()):
                    parameter = Parameter(parameter.name, _list_type(entry), [])
                elif value is not parameter.value:
                    parameter = Parameter(parameter.name, value=value)
            converted.append(parameter)
        return converted


def _list_type(entry: Field) -> Parameter.Type:
    of_words = entry.name in LISTS_OF_WORDS
    return Parameter.Type.STRING_ARRAY if of_words else Parameter.Type.DOUBLE_ARRAY


def _converted(entry: Field, value: Any) -> Any:
    """Return a value with whole numbers as floats, where the parameter is one or a list of them."""
    if isinstance(entry.default, float) and type(value) is int:
        return float(value)
    numbers = isinstance(entry.default, tuple) and entry.name not in LISTS_OF_WORDS
    if numbers and any(type(number) is int for number in value or ()):
        return [float(number) for number in value]
    return value

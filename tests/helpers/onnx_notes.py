"""Search of ONNX messages for what exporters note beside the network."""

from __future__ import annotations

from typing import Any

import onnx

NOTES = ("doc_string", "metadata_props")


def exporter_notes(message: Any) -> list[tuple[str, Any]]:
    """Return every note of a message and of all that it holds, by the field's name.

    The metadata of a whole model are no such notes: lemumo writes them.
    """
    found = []
    for field, value in message.ListFields():
        if field.name in NOTES:
            if not isinstance(message, onnx.ModelProto):
                found.append((field.name, value))
        elif field.message_type is not None:
            parts = value if field.is_repeated else [value]
            found += [note for part in parts for note in exporter_notes(part)]
    return found

"""Channels, which the storage files of bags have in common, whatever their kind."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

EMPTY_CDR = b"\x00\x01\x00\x00"
"""An encapsulation header without content, which no type of ours can be deserialised from: it
stands for a message that is damaged."""


@dataclass(frozen=True)
class Channel:
    """Messages of one topic and type in one storage file.

    Attributes:
        id: number of the channel in its file.
        topic, type: names, the type in the form ``package/msg/Name``.
        definition: format (``MSG``, ``IDL`` or ``NONE``) and text of the type's definition.
        count: number of messages.
        latched: whether the publisher offered transient local durability.
    """

    id: int
    topic: str
    type: str
    definition: tuple[str, str]
    count: int
    latched: bool


class Storage(Protocol):
    """One open storage file.

    Attributes:
        path: of the file.
        channels: all that it holds.
        start_ns, end_ns: log times of its first and last message; 0 without any.
    """

    path: Path
    channels: list[Channel]
    start_ns: int
    end_ns: int

    def messages(
        self, channels: Collection[Channel], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """Yield channel, log time and CDR of the messages in [start_ns, stop_ns), by log time."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...

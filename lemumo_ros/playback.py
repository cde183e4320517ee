"""Schedule of the player: which messages of a bag it publishes, and when."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from lemumo_core.bags.reader import BagReader, RawMessage
from lemumo_core.messages.stamps import duration

LONGEST_GAP_S = 10.0
SHORTENED_GAP_S = 1.0


def cut_gaps(messages: Iterable[RawMessage]) -> Iterator[tuple[int, RawMessage]]:
    """Yield messages with the time since the first one (ns), without long gaps.

    A gap of more than ``LONGEST_GAP_S`` between log times, as between the drives of a bag or after
    messages that were logged at time 0, becomes one of ``SHORTENED_GAP_S``, which is printed.
    """
    elapsed_ns, previous_ns = 0, None
    for message in messages:
        gap_ns = 0 if previous_ns is None else message.stamp_ns - previous_ns
        if gap_ns > LONGEST_GAP_S * 1e9:
            print(
                f"play: skipped {duration(gap_ns / 1e9)} without messages, after "
                f"{duration(elapsed_ns / 1e9)} of playing",
                file=sys.stderr,
                flush=True,
            )
            gap_ns = round(SHORTENED_GAP_S * 1e9)
        elapsed_ns += gap_ns
        previous_ns = message.stamp_ns
        yield elapsed_ns, message


def merge_transforms(reader: BagReader, topic: str) -> bytes:
    """Return all transforms of a static topic as one TFMessage, CDR: the last of each child frame.

    A subscriber that comes late gets only as many latched messages as it asks for; one message
    with all transforms, as one broadcaster sends them, reaches it whatever their number.

    Raises:
        Fault: ``damaged_bag``, ``bad_message``.
    """
    transforms: dict[str, Any] = {}
    kind = "tf2_msgs/msg/TFMessage"
    for message in reader.messages([topic]):
        transforms |= {one.child_frame_id: one for one in message.msg.transforms}
    merged = reader.typestore.types[kind](transforms=list(transforms.values()))
    return bytes(reader.typestore.serialize_cdr(merged, kind))

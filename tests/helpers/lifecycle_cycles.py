"""A node that goes through its lifecycle again and again; prints what the process holds, as JSON.

python lifecycle_cycles.py CYCLES --ros-args -p model:=...
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time

import rclpy
from rclpy.lifecycle import TransitionCallbackReturn

from lemumo_core.inference.measure import resident_mb
from lemumo_ros.node import PerceptionNode
from lemumo_ros.transport import keep_large_blocks

LIMIT_S = 60.0
"""After this time a thread has leaked."""


def held() -> dict[str, float]:
    """Threads of Python and of the process, open files, memory."""
    gc.collect()
    return {
        "python_threads": threading.active_count(),
        "threads": len(os.listdir("/proc/self/task")),
        "files": len(os.listdir("/proc/self/fd")),
        "memory_mb": resident_mb(),
    }


def main() -> None:
    keep_large_blocks()
    rclpy.init(args=sys.argv)
    node = PerceptionNode()
    cycles = int(sys.argv[1])
    for cycle in range(cycles):
        for transition in ("configure", "activate", "deactivate", "cleanup"):
            result = getattr(node, f"trigger_{transition}")()
            assert result == TransitionCallbackReturn.SUCCESS, (cycle, transition)
        if cycle + 1 == cycles // 4:
            early = held()
    # Threads of the last cycle end in their own time; those that leaked do not.
    ended = time.monotonic() + LIMIT_S
    while (late := held())["threads"] > early["threads"] and time.monotonic() < ended:
        time.sleep(0.1)
    node.destroy_node()
    rclpy.shutdown()
    print(json.dumps([early, late]))


if __name__ == "__main__":
    main()

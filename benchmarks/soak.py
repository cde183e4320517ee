"""Soak the node: ten times the input rate for minutes, over DDS, from a process of its own.

    python -m benchmarks.soak --minutes 10

A camera (1280x720) and a LiDAR (60 000 points) at 100 Hz each, which is ten times what they have,
and an engine whose inference takes 50 ms, so that most frames must be passed over. Watched are the
memory of the node's process and the latency: at the node, from an image's arrival to its result,
which for the newest frame is at most two rounds of its worker (the one that is under way and its
own), and here, from stamp to result over DDS. Exit code 0 if it passes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.helpers.paths import ROOT

RATE_HZ = 100.0
INFERENCE_S = 0.05
WARM_UP_SHARE = 0.2
MAX_SLOPE_MB_PER_MIN = 1.0
MAX_P99_GROWTH = 1.5
WIDTH, HEIGHT, POINTS = 1280, 720, 60_000


def start(folder: Path):
    """The node with an engine of ``INFERENCE_S``, and sensors for it."""
    from tests.helpers import rig as rigs
    from tests.helpers.node_process import NodeUnderTest
    from tests.helpers.toy_package import write_toy_package

    fault = folder / "fault"
    fault.write_text(f"sleep {INFERENCE_S}")
    rigs.WIDTH, rigs.HEIGHT, rigs.PERIOD_S = WIDTH, HEIGHT, 1.0 / RATE_HZ
    under_test = NodeUnderTest(
        folder / "node.log",
        [str(ROOT / "tests" / "helpers" / "faulty_node.py")],
        {"LEMUMO_FAULT": str(fault)},
        model=write_toy_package(folder / "toy"),
        backend="onnxruntime",
        extrinsics=[float(i % 5 == 0) for i in range(16)],
    )
    rig = rigs.Rig(under_test)
    rig.points = rig.rng.uniform((-40, -3, 1), (40, 3, 60), (POINTS, 3)).astype(np.float32)
    rig.connect()
    rig.run_until(rig.results)
    return rig


def own_mb(process: int) -> float:
    """Memory of a process that it shares with no file and no other process, MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


class Watch:
    """Recording of memory by time, and of every result's latency by time."""

    def __init__(self, rig) -> None:
        self.rig = rig
        self.began = time.monotonic()
        self.memory: list[tuple[float, float, float]] = []
        self.latency: list[tuple[float, float]] = []
        self._next = 0.0

    def __call__(self) -> bool:
        from lemumo_core.inference.measure import resident_mb
        from lemumo_core.messages.stamps import stamp_to_ns

        messages, now_s = self.rig.under_test.messages, time.monotonic() - self.began
        for message in messages["depth/image_raw"]:
            age_ns = self.rig.now_ns() - stamp_to_ns(message.header.stamp)
            self.latency.append((now_s, age_ns / 1e6))
        for of_one in messages.values():
            of_one.clear()  # what piles up here would slow the sender
        if now_s >= self._next:
            self._next = now_s + 1.0
            process = self.rig.under_test.process.pid
            self.memory.append((now_s, resident_mb(process), own_mb(process)))
        return False

    def verdict(self) -> bool:
        """Print the figures; whether they pass."""
        memory, latency = np.array(self.memory), np.array(self.latency)
        end = memory[-1, 0]
        warm = memory[:, 0] > WARM_UP_SHARE * end
        slope, own = 60 * np.polyfit(memory[warm, 0], memory[warm, 1:], 1)[0]
        fifths = [
            latency[(latency[:, 0] > k * end / 5) & (latency[:, 0] <= (k + 1) * end / 5), 1]
            for k in range(5)
        ]
        p99 = [float(np.percentile(fifth, 99)) for fifth in fifths]
        values = self.rig.under_test.values
        total, cyclic = (
            [float(values[f"latency_ms/{stage}/p{q}"]) for q in (50, 99)]
            for stage in ("total", "cyclic")
        )
        print(f"{end / 60:.1f} min, {values['frames_in']} images received, {len(latency)} results")
        print(f"memory      {memory[0, 1]:.1f} MB, {memory[-1, 1]:.1f} MB at the end")
        print(f"slope       {slope:+.3f} MB/min after the first {WARM_UP_SHARE:.0%}")
        print(f"            {own:+.3f} MB/min of memory that it shares with nobody")
        print(f"at the node latency p50 {total[0]:.0f} ms, p99 {total[1]:.0f} ms")
        print(f"            between results p50 {cyclic[0]:.0f} ms, p99 {cyclic[1]:.0f} ms")
        print(f"over DDS    latency p50 {np.median(latency[:, 1]):.0f} ms")
        print(f"            p99 by fifths {[round(p) for p in p99]} ms")
        print(f"drops       { ({k: v for k, v in values.items() if k.startswith('drops/')}) }")
        checks = {
            "memory is flat": slope < MAX_SLOPE_MB_PER_MIN,
            "p99 is flat": p99[-1] < MAX_P99_GROWTH * float(np.median(p99[1:])),
            "newest frame served: p50 and p99 within two inferences": all(
                t < 2 * c for t, c in zip(total, cyclic, strict=True)
            ),
            "the process lives": self.rig.under_test.process.poll() is None,
        }
        for name, holds in checks.items():
            print(f"{'ok' if holds else 'NOT':4} {name}")
        return all(checks.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    args = parser.parse_args()
    from tests.helpers.ros_domain import free_domain

    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(free_domain()))
    os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(ROOT / "config" / "fastdds.xml")
    with tempfile.TemporaryDirectory(prefix="lemumo_soak_") as folder:
        rig = start(Path(folder))
        watch = Watch(rig)
        end = time.monotonic() + 60 * args.minutes
        rig.run_until(lambda: watch() or time.monotonic() > end, timeout_s=60 * args.minutes + 60)
        rig.under_test.spin(1.5)
        passed = watch.verdict()
        code = rig.under_test.close()
        print(f"{'ok' if code == 0 else 'NOT':4} it stops cleanly")
    return 0 if passed and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

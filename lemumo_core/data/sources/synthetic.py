"""The rendered street as a source: drives along endless streets, rendered on demand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from lemumo_core.extras import install_line

try:
    import torch
except ImportError as error:
    raise ImportError(f"the synthetic world needs PyTorch: {install_line('train')}") from error

from lemumo_core.frame import Frame, LidarScan, ThermalImage
from lemumo_core.geometry.camera import Camera
from lemumo_core.geometry.se3 import inverse, transform
from lemumo_core.preprocess import COMPANIONS
from lemumo_core.world.labels import measured_depth_m, render_labels
from lemumo_core.world.lidar import Sweep, sweeps
from lemumo_core.world.light import shade
from lemumo_core.world.objects import SPLITS
from lemumo_core.world.pixels import camera_rays, to_images
from lemumo_core.world.rig import Rig, rig
from lemumo_core.world.sensor import develop
from lemumo_core.world.street import Drive, Scene
from lemumo_core.world.surface import Surface, cast_views
from lemumo_core.world.thermal import record, temperatures
from lemumo_core.world.weather import Weather

CAMERA_HZ, LIDAR_HZ = 30.0, 10.0
START_NS = 1_700_000_000_000_000_000
DRIVE_GAP_NS = 3_600_000_000_000
NIGHT_GAIN = 4.0
LEAST_PIXELS_SEEN = 1.2
"""Solids smaller than so many pixels are not drawn."""
DESCRIBED = (
    *("seed", "frames", "width", "height", "split", "companion", "rate_hz"),
    *("frames_per_drive", "moving_sweeps"),
)
"""Options that change the frames."""
IMAGE, THERMAL, LIDAR = range(3)
"""Sensors, as they enter the seeds of noise."""
T = TypeVar("T")


class SyntheticStreet:
    """Drives along procedural streets: image, LiDAR or thermal companion, full labels.

    A drive has its own street, weather and light, traffic and sensor rig (focal length,
    distortion, pose, 16 to 64 beams). The camera takes 30 pictures a second, the LiDAR turns ten
    times a second by its own clock; a Frame holds the sweep nearest in time, with the vehicle's
    motion between the two in ``T_camera_lidar``. Labels: boxes with visibility and point counts,
    label map, instances, dense depth (NaN in the sky), point labels; classes are those of
    ``taxonomy``.

    Args:
        seed: of the world; drives of different seeds have nothing in common.
        frames: how many.
        width: of the image, pixels. The thermal camera has half of it.
        height: likewise.
        split: ``train``, ``val`` or ``test``: other streets, other rigs and other models of cars
            and people.
        companion: ``lidar`` or ``thermal``.
        rate_hz: frames taken of a second of driving, at most 30.
        frames_per_drive: after so many the next drive begins.
        moving_sweeps: the vehicle moves while the LiDAR turns, and points are left as measured.
        varied: more of what real streets and rigs have and the usual ones of this world lack, to
            learn from: the roadside is full of things that are no road users, the ground is of
            all sorts of materials, returns scatter in foliage or come through the windows of cars
            (where dense depth is then that of what is behind), sensors stand lower, higher and
            more askew, and LiDARs have up to 128 beams.
        device: where to render; ``cuda`` renders a whole drive at once.

    Raises:
        ValueError: for an option outside the range given here.
    """

    def __init__(
        self,
        seed: int = 0,
        frames: int = 1000,
        width: int = 704,
        height: int = 256,
        split: str = "train",
        companion: str = "lidar",
        rate_hz: float = 2.0,
        frames_per_drive: int = 20,
        moving_sweeps: bool = False,
        varied: bool = False,
        device: str = "cpu",
    ):
        for name, value, known in (("split", split, SPLITS), ("companion", companion, COMPANIONS)):
            if value not in known:
                raise ValueError(f"unknown {name} '{value}'; known: {', '.join(known)}")
        if min(frames, frames_per_drive, width, height) < 1:
            raise ValueError("frames, frames_per_drive, width and height must be positive")
        if seed < 0:
            raise ValueError(f"seed is {seed}, must not be negative")
        if not 0 < rate_hz <= CAMERA_HZ:
            raise ValueError(f"rate_hz is {rate_hz}, must be above 0 and at most {CAMERA_HZ:g}")
        self.seed, self.frames, self.split, self.companion = seed, frames, split, companion
        self.width, self.height = width, height
        self.rate_hz, self.stride = rate_hz, round(CAMERA_HZ / rate_hz)
        self.frames_per_drive, self.moving_sweeps = frames_per_drive, moving_sweeps
        self.varied = varied
        self.device = torch.device(device)
        self.batch = 1 if self.device.type == "cpu" else frames_per_drive
        self._kept: dict[str, OrderedDict[Any, Any]] = {}

    def __len__(self) -> int:
        return self.frames

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    def describe(self) -> dict[str, Any]:
        """Describe as ``FrameSource``; the device does not change what is seen."""
        described = {name: getattr(self, name) for name in DESCRIBED}
        return {"source": "synthetic", **described, **({"varied": True} if self.varied else {})}

    def weather(self, index: int) -> Weather:
        """Return the weather of the drive that a frame is of."""
        return self._drive(range(self.frames)[index] // self.frames_per_drive).weather

    def __getitem__(self, index: int) -> Frame:
        number, at = divmod(range(self.frames)[index], self.frames_per_drive)
        first = at - at % self.batch
        return self._keep("frames", (number, first), 1, lambda: self._render(number, first))[
            at - first
        ]

    def _keep(self, kind: str, key: Any, most: int, make: Callable[[], T]) -> T:
        """Return what was made for a key, or make it; the latest few are kept."""
        kept = self._kept.setdefault(kind, OrderedDict())
        if key not in kept:
            kept[key] = make()
            if len(kept) > most:
                kept.popitem(last=False)
        return kept[key]

    def _drive(self, number: int) -> Drive:
        return self._keep(
            "drive",
            number,
            2,
            lambda: Drive(self.seed * 1_000_003 + number, self.split, self.varied),
        )

    def _render(self, number: int, first: int) -> list[Frame]:
        """Render frames first to first + batch of a drive."""
        drive = self._drive(number)
        clock = np.random.default_rng([self.seed, number])
        camera_clock, lidar_clock = clock.uniform(0, (1 / CAMERA_HZ, 1 / LIDAR_HZ))
        mounted = int(clock.integers(1 << 30))
        sensors = rig(self.split, mounted, self.width, self.height, self.varied)
        last = min(first + self.batch, self.frames_per_drive)
        numbers = np.arange(first, last) * self.stride
        seconds = camera_clock + numbers / CAMERA_HZ
        scenes = [drive.scene(t) for t in seconds]
        T_world_ego = [drive.T_world_ego(t) for t in seconds]
        T_world_camera = np.stack([T @ sensors.T_ego_camera for T in T_world_ego])
        seeds = [(self.seed, SPLITS.index(self.split), number, int(k)) for k in numbers]

        seen = self._cast_views(drive, scenes, T_world_camera, sensors.camera)
        light = to_images(shade(seen, drive, scenes), sensors.camera)
        grain = self._grain(seeds, IMAGE, (3, self.height, self.width)).transpose(0, 1)
        gain = NIGHT_GAIN if drive.weather.night else 1.0
        images = develop(light, drive.weather.exposure, gain, grain).cpu().numpy()
        start_ns = START_NS + DRIVE_GAP_NS * number
        stamps = [start_ns + round(t * 1e9) for t in seconds]
        companions: list[LidarScan | ThermalImage] = []
        points: list[Any] = [(None, None)] * len(stamps)
        if self.companion == "thermal":
            companions += self._thermal(drive, scenes, T_world_ego, sensors, seeds, stamps)
        else:
            turns = np.rint((seconds - lidar_clock) * LIDAR_HZ).astype(int)
            scans = self._scans(drive, number, sensors, lidar_clock, turns)
            for k, turn in enumerate(turns):
                t = lidar_clock + turn / LIDAR_HZ
                T_world_lidar = drive.T_world_ego(t) @ sensors.T_ego_lidar
                T_camera_lidar = inverse(T_world_camera[k]) @ T_world_lidar
                stamp_ns = start_ns + round(t * 1e9)
                companions.append(LidarScan(scans[turn].points, T_camera_lidar, stamp_ns))
                in_camera = transform(T_camera_lidar, scans[turn].points[:, :3])
                points[k] = in_camera, scans[turn].labels
        depth_m = measured_depth_m(seen, scenes, sensors.camera)
        return [
            Frame(
                stamp_ns=stamps[k],
                camera_name=sensors.camera_name,
                camera=sensors.camera,
                image=images[k],
                companion=companions[k],
                labels=render_labels(
                    seen, k, scenes[k], sensors.camera, T_world_camera[k], depth_m[k], *points[k]
                ),
                T_fixed_camera=T_world_camera[k],
            )
            for k in range(len(stamps))
        ]

    def _cast_views(
        self, drive: Drive, scenes: list[Scene], T: np.ndarray, camera: Camera
    ) -> Surface:
        rays = camera_rays(camera, self.device)
        return cast_views(drive, scenes, T, rays, LEAST_PIXELS_SEEN / camera.fx)

    def _thermal(
        self,
        drive: Drive,
        scenes: list[Scene],
        T_world_ego: list[np.ndarray],
        sensors: Rig,
        seeds: Sequence[tuple[int, ...]],
        stamps: list[int],
    ) -> list[ThermalImage]:
        camera = sensors.thermal
        T_world_thermal = np.stack([T @ sensors.T_ego_thermal for T in T_world_ego])
        seen = self._cast_views(drive, scenes, T_world_thermal, camera)
        grain = self._grain(seeds, THERMAL, (camera.height, camera.width))
        counts = record(to_images(temperatures(seen, drive.weather), camera), grain)
        T_camera_thermal = inverse(sensors.T_ego_camera) @ sensors.T_ego_thermal
        return [
            ThermalImage(image.astype(np.uint16), camera, T_camera_thermal, stamp_ns)
            for image, stamp_ns in zip(counts.cpu().numpy(), stamps, strict=True)
        ]

    def _scans(
        self, drive: Drive, number: int, sensors: Rig, clock: float, turns: np.ndarray
    ) -> dict[int, Sweep]:
        """Return the sweeps of some turns; a camera at 30 Hz sees each of them three times."""
        kept: dict[int, Sweep] = self._keep("sweeps", number, 1, dict)
        new = sorted(set(turns.tolist()) - set(kept))
        if new:
            for old in [turn for turn in kept if turn < new[0] - 1]:
                del kept[old]
            seeds = [(self.seed, SPLITS.index(self.split), number, turn + 1, LIDAR) for turn in new]
            made = sweeps(
                drive,
                sensors.beams,
                sensors.T_ego_lidar,
                [clock + turn / LIDAR_HZ for turn in new],
                seeds,
                self.device,
                self.moving_sweeps,
            )
            kept.update(zip(new, made, strict=True))
        return kept

    def _grain(
        self, seeds: Sequence[tuple[int, ...]], sensor: int, shape: tuple[int, ...]
    ) -> torch.Tensor:
        """Draw standard normal noise (V, *shape), the same on every device."""
        made = [
            np.random.default_rng((*seed, sensor)).standard_normal(shape, np.float32)
            for seed in seeds
        ]
        return torch.from_numpy(np.stack(made)).to(self.device)

"""Image folders and videos, which a camera alone recorded."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from lemumo_core.data.sources import video_file
from lemumo_core.data.sources.image_folder import ImageFolder
from lemumo_core.data.sources.registry import named_source, open_source
from lemumo_core.faults import Fault
from tests.helpers.calibration import CALIBRATION

SECOND_NS = 1_000_000_000


def write_image(path: Path, gray: int, width: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((32, width, 3), gray, np.uint8))


def gray_of(number: int) -> int:
    """Return the gray of an image of a video by its number."""
    return 40 + 16 * (number % 13)


def write_video(path: Path, images: int, codec: str, b_frames: int = 0, fps: int = 10) -> None:
    """Write a video by FFmpeg, a key frame every 8 images."""
    av = pytest.importorskip("av", reason="videos need: pip install '.[video]'")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.width, stream.height, stream.gop_size = 48, 32, 8
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"crf": "10", "x264-params": "scenecut=0:b-adapt=0:open-gop=1"}
        for number in range(images):
            pixels = np.full((32, 48, 3), gray_of(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def position_of(path: Path, number: int) -> int:
    """Return where the packet of an image begins in a file."""
    import av

    with av.open(str(path)) as container:
        return [packet.pos for packet in container.demux(video=0) if packet.size][number]


def test_each_folder_of_images_is_a_recording(tmp_path: Path) -> None:
    for name in ("a/9.png", "a/10.png", "a/.hidden.png", "b/c/1.JPG"):
        write_image(tmp_path / name, 10 * int(Path(name).stem[-1] if "h" not in name else 5))
    (tmp_path / "a" / "notes.txt").touch()
    source = pickle.loads(pickle.dumps(open_source("images", root=tmp_path, rate_hz="5")))
    assert [frame.image[0, 0, 0] // 9 for frame in source] == [10, 0, 1]
    stamps = [frame.stamp_ns for frame in source]
    assert stamps[1] - stamps[0] == SECOND_NS // 5 and stamps[2] - stamps[1] > 600 * SECOND_NS
    frame = source[-1]
    assert frame.companion is None and frame.labels is None
    assert frame.camera.fx == pytest.approx(24 / np.tan(np.radians(35)))
    with pytest.raises(IndexError):
        source[3]
    with pytest.raises(FileNotFoundError, match="holds no images; expected a folder of images"):
        (tmp_path / "empty").mkdir()
        ImageFolder(tmp_path / "empty")


def test_a_calibration_is_of_all_images(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "0.png", 9)
    write_image(tmp_path / "images" / "1.png", 9, width=64)
    file = tmp_path / "camera.yaml"
    file.write_text(CALIBRATION)
    source = ImageFolder(tmp_path / "images", calibration=str(file))
    camera = source[0].camera
    assert (camera.fy, camera.model, camera.distortion[0]) == (41, "plumb_bob", -0.1)
    with pytest.raises(Fault, match=r"64x32, but .*camera.yaml is of 48x32"):
        source[1]
    assert source.describe()["calibration"] == str(file)
    with pytest.raises(Fault, match="fov_deg is 180"):
        ImageFolder(tmp_path / "images", fov_deg=180.0)


@pytest.mark.parametrize(
    ("suffix", "codec", "b_frames"),
    [("mp4", "libx264", 0), ("mkv", "libx264", 2), ("ts", "libx264", 2), ("avi", "mjpeg", 0)],
)
def test_images_of_videos_in_any_order(tmp_path: Path, suffix, codec, b_frames) -> None:
    write_video(tmp_path / f"drive.{suffix}", 30, codec, b_frames)
    source = open_source("videos", root=tmp_path / f"drive.{suffix}", rate_hz=None)
    assert len(source) == 30
    order = [*range(30), *np.random.default_rng(0).permutation(30)[:15].tolist(), 29, 0]
    for number in order:
        frame = source[number]
        assert np.abs(frame.image.astype(int) - gray_of(number)).max() < 8, number
        assert frame.stamp_ns - SECOND_NS == pytest.approx(number * 1e8, abs=1e6)


def test_videos_of_a_folder_are_recordings_at_a_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "a" / "one.mp4", 20, "libx264", fps=30)
    write_video(tmp_path / "two.mp4", 12, "libx264", fps=10)
    source = pickle.loads(pickle.dumps(open_source("videos", root=tmp_path, rate_hz=5)))
    numbers = [(0, 6, 12, 18), (0, 2, 4, 6, 8, 10)]
    found = [int(frame.image[0, 0, 0]) for frame in source]
    expected = [gray_of(number) for video in numbers for number in video]
    assert np.abs(np.subtract(found, expected)).max() < 8
    stamps = np.diff([frame.stamp_ns for frame in source]) / SECOND_NS
    np.testing.assert_allclose(np.delete(stamps, 3), 0.2, atol=1e-6)
    assert stamps[3] > 600
    assert source.describe() == {
        **{"source": "videos", "root": str(tmp_path), "videos": 2, "frames": 10},
        **{"rate_hz": 5.0, "fov_deg": 70.0},
    }


def test_broken_videos_are_named(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mkv", 30, "libx264")
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    assert len(video_file.index_video(tmp_path / "a.mkv").key_pts) == 4
    tenth = position_of(tmp_path / "a.mkv", 10)
    (tmp_path / "a.mkv").write_bytes(data[: tenth + 8] + b"\xff" * 12 + data[tenth + 20 :])
    source = open_source("videos", root=tmp_path, rate_hz=None)
    for number in (10, 13):
        with pytest.raises(Fault, match=rf"a\.mkv: its image at 1\.{number % 10}00 s is damaged"):
            source[number]
    for number in (9, 16, 8):
        assert np.abs(source[number].image.astype(int) - gray_of(number)).max() < 8
    (tmp_path / "a.mkv").write_bytes(data[: data.rfind(b"\0\0\0", 0, -600)])
    source = open_source("videos", root=tmp_path, rate_hz=None)
    assert 8 < len(source) < 30 and source[8].image is not None
    (tmp_path / "a.mkv").write_bytes(b"\0" * 4000)
    with pytest.raises(Fault, match=r"a\.mkv cannot be read as a video") as caught:
        open_source("videos", root=tmp_path)
    assert caught.value.reason == "broken_video"
    with pytest.raises(FileNotFoundError, match="expected a video or a folder of videos"):
        open_source("videos", root=tmp_path / "nothing")


def test_a_video_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "ride.MP4").touch()
    assert named_source(str(tmp_path / "ride.MP4")) == ("videos", {"root": f"{tmp_path}/ride.MP4"})

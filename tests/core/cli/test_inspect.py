"""``lemumo inspect`` says what replay would take of a bag, and why not."""

from __future__ import annotations

from dataclasses import replace

from lemumo_core.bags.mcap_recovery import recover_mcap
from lemumo_core.bags.writer import write_bag
from lemumo_core.cli import main as cli
from tests.helpers.small_frames import CAMERA, small_frames
from tests.helpers.toy_package import write_toy_package
from tests.helpers.two_cameras import with_rear_camera


def shown(path, capsys, code: int = 0) -> str:
    assert cli.main(["inspect", str(path)]) == code
    return " ".join(capsys.readouterr().out.split())


def test_a_bag_shows_rates_pairs_and_calibration(tmp_path, capsys) -> None:
    write_bag(small_frames(6), tmp_path / "Straße 1")
    text = shown(tmp_path, capsys)
    assert "/camera/image_raw sensor_msgs/msg/Image 6 10.0 camera_optical" in text
    assert "6 of 6 images have a lidar message within 60 ms, at 0.0 ms in the median" in text
    assert f"{CAMERA.width}x{CAMERA.height} pixels, fx 117.0, fy 118.0" in text
    assert "/tf_static has lidar in camera_optical: at (0.05, -0.40, -0.30) m" in text


def test_a_bag_that_was_cut_off_is_shown_as_replay_reads_it(tmp_path, capsys) -> None:
    write_bag(small_frames(6), tmp_path / "bag")
    file = next((tmp_path / "bag").glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: int(0.6 * file.stat().st_size)])
    text = shown(tmp_path / "bag", capsys, 3)
    assert "lost: bag.mcap: " in text and "are no whole records" in text
    assert "/camera/image_raw sensor_msgs/msg/Image" in text and "images have a lidar" in text
    assert "mcap recover" not in text and str(tmp_path / "bag: ") in text


def test_a_damaged_bag_of_two_cameras_is_recovered_once(
    small_bag, tmp_path, capsys, monkeypatch
) -> None:
    """Neither the topics nor each trial of what could be taken recovers it again."""
    bag = with_rear_camera(small_bag, tmp_path / "two")
    file = next(bag.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[: int(0.6 * file.stat().st_size)])
    recovered = []

    def counted(path, out):
        recovered.append(path)
        return recover_mcap(path, out)

    monkeypatch.setattr("lemumo_core.bags.recovery.recover_mcap", counted)
    text = shown(bag, capsys, 3)
    assert recovered == [file]
    assert "are no whole records" in text and "camera rear: image /rear/image_raw" in text
    assert text.count("images have a lidar message") == 2


def test_a_database_that_cannot_be_read_has_an_exit_code(tmp_path, capsys) -> None:
    write_bag(small_frames(6), tmp_path / "bag", storage="sqlite3")
    file = next((tmp_path / "bag").glob("*.db3"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    file.write_bytes(data)
    assert cli.main(["inspect", str(tmp_path / "bag")]) == 1
    assert "is damaged or was not closed" in capsys.readouterr().err


def test_metadata_of_another_kind_is_passed_over(tmp_path, capsys, caplog) -> None:
    write_bag(small_frames(6), tmp_path / "bag")
    for text in ("", "- 1", "rosbag2_bagfile_information: {relative_file_paths: 3}"):
        (tmp_path / "bag" / "metadata.yaml").write_text(text)
        assert "6 of 6 images" in shown(tmp_path / "bag", capsys)
        assert "is passed over: it is no metadata of rosbag2" in caplog.text
        caplog.clear()


def test_a_clock_of_its_own_is_shown(tmp_path, capsys) -> None:
    late = 37_000_000_000
    frames = [
        replace(f, companion=replace(f.companion, stamp_ns=f.companion.stamp_ns + late))
        for f in small_frames(3)
    ]
    write_bag(frames, tmp_path / "bag")
    text = shown(tmp_path / "bag", capsys)
    assert "0 of 3 images" in text and "+37.000 s from the camera's" in text


def test_each_camera_of_several_is_shown(small_bag, tmp_path, capsys) -> None:
    text = shown(with_rear_camera(small_bag, tmp_path / "two"), capsys)
    assert "with --image all, or the topic of one of the cameras: camera camera: image" in text
    assert "camera rear: image /rear/image_raw" in text and "nothing can be taken" not in text
    assert text.count("6 of 6 images have a lidar message") == 2


def test_a_camera_alone_is_shown_as_such(tmp_path, capsys) -> None:
    frames = [replace(f, companion=None) for f in small_frames(2)]
    write_bag(frames, tmp_path / "bag")
    assert "results are of the camera alone" in shown(tmp_path / "bag", capsys)


def test_a_bag_without_a_camera_says_why_nothing_is_taken(shared_data, capsys) -> None:
    folder = next((shared_data / "nebula_rosbag2" / "vlp16").glob("*/"))
    assert "nothing can be taken:" in (text := shown(folder, capsys))
    assert "no colour camera image" in text


def test_a_package_is_a_table(tmp_path, capsys) -> None:
    text = shown(write_toy_package(tmp_path / "toy"), capsys)
    assert "input 96x64 pixels and lidar" in text and "detection car, cyclist" in text


def test_runs_that_were_killed_and_damaged_files(tmp_path, capsys) -> None:
    (tmp_path / "config.yaml").write_text("method: LeMuMo\n")
    (tmp_path / "run.json").write_text("[{}, {}]")
    (tmp_path / "metrics.jsonl").write_text('{"step": 7, "loss": 1.5}\n{"step": 8, "lo')
    text = shown(tmp_path, capsys)
    assert "starts 2" in text and "last step 7" in text and "loss 1.5" in text
    (tmp_path / "metrics.jsonl").unlink()  # before the first step
    assert "last step none" in shown(tmp_path, capsys)
    (tmp_path / "run.json").write_text("[{}")
    assert cli.main(["inspect", str(tmp_path)]) == 1
    assert f"{tmp_path}/run.json is damaged" in capsys.readouterr().err


def test_other_paths_are_refused(tmp_path, capsys) -> None:
    for path in (tmp_path, tmp_path / "none"):
        assert cli.main(["inspect", str(path)]) == 1
        assert "is no bag, package, run or folder of shards" in capsys.readouterr().err

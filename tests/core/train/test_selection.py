"""Which frames a run learns from and is validated on, of data as logs really are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import FrameSource
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.train.finetune.config import FinetuneConfig
from lemumo_core.train.finetune.recipe import check as check_finetuning
from lemumo_core.train.pretrain.recipe import check as check_pretraining
from lemumo_core.train.selection import describe_data, has_labels, recordings, select_frames
from tests.helpers.small_frames import small_frames
from tests.helpers.small_run import small_config

SECOND_NS = 1_000_000_000
RIDES = [range(0, 7), range(7, 12), range(12, 30)]


class Log:
    """Frames of three rides, an hour apart; labels only where they are asked for."""

    def __init__(self, labelled: Sequence[int]):
        frames = small_frames(RIDES[-1].stop)
        self.frames = [
            replace(
                frame,
                stamp_ns=frame.stamp_ns + 3600 * SECOND_NS * ride,
                labels=frame.labels if index in labelled else None,
            )
            for ride, indices in enumerate(RIDES)
            for index, frame in zip(indices, frames[: len(indices)], strict=True)
        ]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[index]

    def describe(self) -> dict[str, object]:
        return {"source": "log", "frames": len(self)}


@pytest.fixture(params=["source", "shards"])
def opened(request, tmp_path: Path):
    """A function that opens a log as it is, and as shards."""

    def open_log(labelled: Sequence[int]) -> FrameSource:
        log = Log(labelled)
        if request.param == "source":
            return log
        write_shards(log, tmp_path, frames_per_shard=4, workers=1)
        return Shards(tmp_path)

    return open_log


def finetuning(**changes) -> FinetuneConfig:
    return FinetuneConfig(**{"data": "the log", "val_frames": 3, **changes})


def test_a_share_is_one_of_the_labelled_frames(opened) -> None:
    labelled = [1, 4, 9, 10, 17, 20, 28]  # 28 is for validation
    source = opened(labelled)
    assert [i for i in range(30) if has_labels(source, i)] == labelled
    half = select_frames(source, finetuning(fraction=0.5))
    assert len(half.trained) == 3 and set(half.trained) < set(labelled[:-1])
    assert half.validation == [27, 28, 29]
    assert len(select_frames(source, finetuning()).trained) == 27
    assert len(select_frames(source, small_config(val_frames=3, fraction=0.5)).trained) == 14


def test_data_without_labels_is_not_fine_tuned_on(opened) -> None:
    source = opened([29])  # the only one is for validation
    with pytest.raises(Fault, match="no frame of the log that is trained on has labels"):
        select_frames(source, finetuning(fraction=0.5))
    with pytest.raises(Fault, match="no frame of the log that is trained on has labels"):
        check_finetuning(finetuning(), source)


def test_unlabelled_validation_is_warned_of() -> None:
    config = finetuning()
    _, (warning,) = check_finetuning(config, Log([3]))
    assert "none of the 3 validation frames has labels" in warning
    assert check_finetuning(config, Log([3, 28])) == (config, [])


def test_a_3d_head_on_2d_boxes_alone_is_warned_of() -> None:
    class Flat(Log):
        def __getitem__(self, index: int) -> Frame:
            frame = super().__getitem__(index)
            labels = frame.labels and replace(frame.labels, boxes_3d=None)
            return replace(frame, labels=labels)

    config = finetuning()
    assert check_finetuning(config, Log(range(30))) == (config, [])
    (warning,) = check_finetuning(config, Flat(range(30)))[1]
    assert "--model.detection 2d" in warning
    in_2d = replace(config, model=replace(config.model, detection="2d"))
    assert check_finetuning(in_2d, Flat(range(30))) == (in_2d, [])


def test_whole_recordings_validate(opened) -> None:
    source = opened([])
    assert recordings(source) == [list(ride) for ride in RIDES]
    drawn = set()
    for seed in range(8):
        trained, validation = select_frames(source, finetuning(val="recordings", seed=seed))
        assert len(validation) == 3
        validated = [ride for ride in RIDES if set(ride) & set(validation)]
        assert len(validated) == 1 and not set(trained) & set(validated[0])
        assert trained == [i for i in range(30) if i not in validated[0]]
        drawn.add(validated[0].start)
    assert len(drawn) > 1
    with pytest.raises(Fault, match="holds 3 recordings"):
        select_frames(source, finetuning(val="recordings", val_frames=29))


def test_a_single_recording_is_not_divided() -> None:
    source = Log([])
    source.frames = source.frames[12:]
    with pytest.raises(Fault, match="all of them: take --val end"):
        select_frames(source, finetuning(val="recordings"))


def test_cameras_of_one_ride_are_one_recording() -> None:
    log = Log([])
    log.frames = [*log.frames[12:], *log.frames[12:]]
    assert recordings(log) == [list(range(36))]


def test_the_split_is_described() -> None:
    source = Log([])
    text = describe_data(finetuning(), source)
    assert text.startswith("27 frames to train on and 3 for validation, of 160 x 96 pixels")
    assert "seen at 192 x 96" in text and "--val recordings" in text
    assert "more validate" not in text
    source.frames = source.frames[:12]
    assert "--val recordings" not in describe_data(finetuning(val_frames=5), source)
    text = describe_data(finetuning(val_frames=7), source)
    assert "more validate than are trained on: lower --val_frames 7" in text


def test_probes_are_left_out_where_nothing_can_be_probed() -> None:
    source, config = Log([]), small_config()
    assert check_pretraining(config, source) == (config, [])  # LiDAR is truth
    source.frames = [replace(frame, companion=None) for frame in source.frames]
    checked, (note,) = check_pretraining(config, source)
    assert not checked.log.probes and note.startswith("no probes: none of 16 frames")
    labels = small_frames(1)[0].labels
    source.frames[29] = replace(source.frames[29], labels=labels)
    assert check_pretraining(config, source) == (config, [])

"""Which frames an adaptation learns from: half of them own, a part of the own ones kept apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lemumo_core.bags.writer import write_bag
from lemumo_core.data.sources.origins import origins
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.model.config import ModelConfig
from lemumo_core.train.adapt.config import AdaptConfig
from lemumo_core.train.adapt.frames import (
    AdaptationFrames,
    HalfLabelled,
    open_frames,
    sampler_of,
    split_own,
)
from lemumo_core.train.batch_sampler import BatchSampler
from lemumo_core.train.loader import FRAMES_PER_DRIVE
from lemumo_core.train.selection import GAP_NS, Selection, describe_data
from tests.helpers.small_frames import small_frames


class Recordings:
    """Recordings of so many small frames each, with gaps between them."""

    def __init__(self, *lengths: int):
        self.frames: list[Frame] = []
        for length in lengths:
            gap_ns = len(self.frames) * GAP_NS
            for frame in small_frames(length):
                self.frames.append(Frame(**{**vars(frame), "stamp_ns": frame.stamp_ns + gap_ns}))

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[index]

    def describe(self) -> dict[str, object]:
        return {"source": "recordings", "frames": len(self)}


@pytest.mark.parametrize(
    ("lengths", "trained", "validation"),
    [
        ((20,), range(16), [16, 17, 18, 19]),
        ((8, 6), range(8), [8, 10, 11, 13]),  # a whole recording, evenly spaced
        ((3, 3, 3, 3, 3, 3), range(12), [12, 14, 15, 17]),  # a fifth of six is two
    ],
)
def test_the_end_or_whole_recordings_are_kept_apart(lengths, trained, validation) -> None:
    assert split_own(Recordings(*lengths), 4) == (list(trained), validation)


def half_labelled(own: int, labelled: int, batch: int, seed: int) -> HalfLabelled:
    return HalfLabelled(*(BatchSampler(frames, batch // 2, seed) for frames in (own, labelled)))


def test_half_of_every_batch_is_labelled_and_every_frame_has_its_turn() -> None:
    own, labelled, batch = 6, 9, 4
    sampler = half_labelled(own, labelled, batch, seed=3)
    rows = np.array([sampler[step] for step in range(18)])
    assert (rows[:, ::2] < own).all() and (rows[:, 1::2] >= own).all()
    assert (np.bincount(rows[:, ::2].ravel()) == 6).all()
    assert (np.bincount(rows[:, 1::2].ravel() - own) == 4).all()
    again = half_labelled(own, labelled, batch, seed=3)
    assert again[7] == sampler[7] != half_labelled(own, labelled, batch, seed=4)[7]


def test_a_list_is_drawn_by_weight_and_each_member_gives_its_end(
    small_bag, street_shards, tmp_path
) -> None:
    config = AdaptConfig(
        data=[str(small_bag), f"{street_shards},weight=2"],
        labelled=[str(street_shards), str(small_bag)],
        batch=8,
        val_frames=4,
        val_labelled=3,
    )
    frames = open_frames(config, tmp_path)
    assert len(frames.own) == 5 + 12 and len(frames.labelled) == 17
    kept = [frames[i] for i in frames.own_val]
    assert [frame.camera_name for frame in kept] == ["camera", "front", "front"]
    assert len(frames.labelled_val) == 3 and frames[0].labels is None
    assert all(frames[i].labels is not None for i in (*frames.own_val, *frames.labelled_val))
    learnt = replace(config, val_frames=len(frames.own_val) + len(frames.labelled_val))
    text = describe_data(learnt, frames)
    assert f"12 and 0 of 64 x 48 pixels from own frames of {street_shards} (weight 2)" in text
    assert origins(frames.describe()) == ["bags", "synthetic"]
    sampler = sampler_of(config, frames)
    assert (sampler.frames, sampler.draws) == (34, 5 + 24 + 17)
    rows = np.array([sampler[step] for step in range(29)])  # four passes over the own frames
    own, labelled = (np.bincount(rows[:, k::2].ravel()) for k in (0, 1))
    assert (own[:5] == 4).all() and (own[5:] == 8).all() and len(own) == 17
    assert (labelled[:17] == 0).all() and len(labelled) == 34
    few = AdaptConfig(data=[str(street_shards), f"{small_bag},image=/camera/image_raw"], batch=8)
    assert len(open_frames(replace(few, labelled=str(street_shards)), tmp_path).own) == 17
    write_bag(small_frames(3), tmp_path / "short")
    short = replace(few, data=[str(street_shards), str(tmp_path / "short")])
    with pytest.raises(Fault, match="short has 3 frames, and a part of them is kept apart"):
        open_frames(short, tmp_path)


def test_labels_of_own_frames_are_not_learnt_but_judged_on() -> None:
    own, labelled = Recordings(5), Recordings(4)
    split = Selection([0, 1, 2], [3])
    frames = AdaptationFrames(own, Selection([0, 1, 2], [4]), labelled, split)
    assert [frame.labels is not None for frame in frames] == [False] * 3 + [True] * 5
    assert [frames[i].stamp_ns for i in (*frames.own_val, *frames.labelled_val)] == [
        own[4].stamp_ns,
        labelled[3].stamp_ns,
    ]
    with pytest.raises(IndexError):
        frames[8]


def test_frames_without_a_lidar_are_refused_before_streets_are_rendered(tmp_path) -> None:
    write_bag([replace(one, companion=None) for one in small_frames(6)], tmp_path / "camera")
    paths = [str(tmp_path / "camera")]
    for data, options in ((paths[0], {}), ("bags", {"path": paths})):  # the latter of lemumo adapt
        config = AdaptConfig(data=data, data_options=options, batch=8)
        with pytest.raises(Fault, match=f"no frame of {paths[0]} has LiDAR points"):
            open_frames(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_streets_that_validate_are_of_another_split_than_those_that_train(tmp_path) -> None:
    write_bag(small_frames(6), tmp_path / "bag")
    config = AdaptConfig(
        data=str(tmp_path / "bag"),
        model=ModelConfig(size="nano", height=48, width=64, refine_depth=True),
        labelled_frames=3,
        val_labelled=2,
    )
    frames = open_frames(config, tmp_path / "out")
    assert len(frames.labelled) == 3 and len(frames.labelled_val) == 2
    canvas = config.canvas_spec
    size = {"height": canvas.height, "width": canvas.width}
    for split, found in (("train", frames.labelled[0]), ("val", frames[frames.labelled_val[0]])):
        street = SyntheticStreet(split=split, frames=3, frames_per_drive=FRAMES_PER_DRIVE, **size)
        np.testing.assert_array_equal(found.image, street[0].image)
        assert found.labels is not None

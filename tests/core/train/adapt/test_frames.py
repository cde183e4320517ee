"""Which frames an adaptation learns from: half of them own, a part of the own ones kept apart."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.frame import Frame
from lemumo_core.train.adapt.frames import AdaptationFrames, HalfLabelled, split_own
from lemumo_core.train.selection import GAP_NS, Selection
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


def test_half_of_every_batch_is_labelled_and_every_frame_has_its_turn() -> None:
    own, labelled, batch = 6, 9, 4
    sampler = HalfLabelled(own, labelled, batch, seed=3)
    rows = np.array([sampler[step] for step in range(18)])
    assert (rows[:, ::2] < own).all() and (rows[:, 1::2] >= own).all()
    assert (np.bincount(rows[:, ::2].ravel()) == 6).all()
    assert (np.bincount(rows[:, 1::2].ravel() - own) == 4).all()
    again = HalfLabelled(own, labelled, batch, seed=3)
    assert again[7] == sampler[7] != HalfLabelled(own, labelled, batch, seed=4)[7]


def test_labels_of_own_frames_are_not_learnt_but_judged_on() -> None:
    own, labelled = Recordings(5), Recordings(4)
    frames = AdaptationFrames(own, Selection([0, 1, 2], [4]), labelled, 1)
    assert [frame.labels is not None for frame in frames] == [False] * 3 + [True] * 5
    assert [frames[i].stamp_ns for i in (*frames.own_val, *frames.labelled_val)] == [
        own[4].stamp_ns,
        labelled[3].stamp_ns,
    ]
    with pytest.raises(IndexError):
        frames[8]

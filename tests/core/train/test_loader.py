"""Which frames and views a step takes depends on the seed and the step, on nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lemumo_core.data.mixture import Subset
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.train.batch_sampler import BatchSampler
from lemumo_core.train.loader import (
    Samples,
    open_data,
    samples_of,
    training_batches,
)
from lemumo_core.train.pretrain.learner import seeded_method
from lemumo_core.train.run_config import ScaleConfig
from lemumo_core.train.seeds import generator
from lemumo_core.train.selection import subset_indices
from tests.helpers.small_frames import small_frames
from tests.helpers.small_run import share, small_batch, small_config, small_method


class Small:
    """Twenty small Frames as a source."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Frame:
        return small_frames(20)[index]

    def describe(self) -> dict[str, object]:
        return {"source": "small", "frames": 20}


def test_each_pass_takes_every_frame_once_in_another_order() -> None:
    order = BatchSampler(frames=10, batch=4, seed=3)
    taken = [frame for step in range(5) for frame in order[step]]
    assert Counter(taken[:10]) == Counter(taken[10:]) == Counter(range(10))
    assert taken[:10] != taken[10:] and taken[:10] != list(range(10))


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    order = BatchSampler(frames=10, batch=4, seed=3)
    late = order[57]
    assert order[2] == BatchSampler(10, 4, 3)[2] and order[57] == late
    assert BatchSampler(10, 4, 4)[57] != late


def test_groups_are_left_one_after_the_other() -> None:
    order = BatchSampler(frames=12, batch=4, seed=0, groups=[0, 4, 8, 12])
    passes = [[set(order[3 * p + i]) for i in range(3)] for p in range(20)]
    groups = [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}]
    assert all(sorted(p, key=min) == groups for p in passes)
    assert len({tuple(map(min, p)) for p in passes}) > 1


def equal(one: object, other: object) -> bool:
    if is_dataclass(one):
        return all(equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        return torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))
    return one == other


def views_of(config, batch, step, rank=0, world=1):
    def draw(purpose: str) -> torch.Generator:
        return generator(config.seed, step, purpose)

    return seeded_method(config).views(batch, draw, rank, world).joint


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_cut_the_views_of_one_rank(world: int) -> None:
    config = small_config(method=small_method(modality_dropout=0.7))
    batch = small_batch(config)
    whole = views_of(config, batch, step=5)
    assert 0 < int((whole[0].present == 0).sum()) < 2 * config.batch
    for rank in range(world):
        ours = views_of(config, share(batch, rank, world), 5, rank, world)
        for view, expected in zip(ours, whole, strict=True):
            for name in ("image", "companion", "intrinsics", "present"):
                rows = getattr(expected, name).unflatten(0, (2, world, -1))[:, rank].flatten(0, 1)
                assert torch.equal(getattr(view, name), rows), name


def test_views_differ_from_step_to_step() -> None:
    config = small_config()
    batch = small_batch(config)
    one, again, other = (views_of(config, batch, step)[0].image for step in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_dropout_takes_one_modality_from_each_view() -> None:
    config = small_config(method=small_method(modality_dropout=1.0))
    batch = small_batch(config)
    batch.present[3] = torch.tensor([1.0, 0.0])  # the only one it has
    views = [view.present.unflatten(0, (2, -1)) for view in views_of(config, batch, 0)]
    for present in views:
        assert (present.sum(-1) == 1).all()
        assert (present[:, 3] == torch.tensor([1.0, 0.0])).all()
        assert not torch.equal(present[0], present[1]), "views of a sample lose it independently"
    assert not torch.equal(*views)


def test_workers_and_ranks_do_not_change_what_comes() -> None:
    config = small_config(steps=3)
    order = BatchSampler(16, config.batch, config.seed)
    samples = samples_of(config, Small())
    with training_batches(config, samples, order, 1, 0, 1) as coming:
        plain = list(coming)
    assert len(plain) == 2
    working = replace(config, scale=ScaleConfig(workers=2))
    halves = []
    with training_batches(working, samples, order, 1, 0, 1) as coming:
        assert equal(next(coming), plain[0])
    for rank in range(2):
        with training_batches(config, samples, order, 1, rank, 2) as coming:
            halves.append(next(coming))
    whole = torch.cat([half.image for half in halves])
    assert torch.equal(whole, plain[0].image)


def test_labels_are_read_for_probes_only() -> None:
    config = small_config()
    assert samples_of(config, Small())[0].labels is not None
    bare = replace(config, log=replace(config.log, probes=False))
    assert samples_of(bare, Small())[0].labels is None


def test_a_bad_frame_is_named() -> None:
    config = small_config()

    class Broken(Small):
        def __getitem__(self, index: int) -> Frame:
            raise Fault("bad_image", "a torn image")

    with pytest.raises(Fault, match="frame 7: a torn image"):
        Samples(Broken(), config.canvas_spec, None)[7]


def test_data_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="did you mean 'synthetic'"):
        open_data(small_config(data="syntetic"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"index\.json"):
        open_data(small_config(data=str(tmp_path)), tmp_path)
    with pytest.raises(Fault, match="'wdth'"):
        open_data(small_config(data_options={"wdth": 3}), tmp_path)


def test_a_smaller_share_of_the_frames_is_part_of_a_larger_one() -> None:
    shares = [set(subset_indices(200, fraction, seed=3)) for fraction in (0.01, 0.1, 0.5, 1.0)]
    assert [len(share) for share in shares] == [2, 20, 100, 200]
    assert all(small < large for small, large in pairwise(shares))
    assert (
        subset_indices(200, 0.1, 3) != subset_indices(200, 0.1, 4)
        and len(subset_indices(5, 0.01, 0)) == 1
    )


def test_a_share_keeps_the_frames_held_out(tmp_path: Path) -> None:
    options = {"frames": 14, "frames_per_drive": 14, "width": 64, "height": 48}
    config = small_config(data_options=options, frame_cache=str(tmp_path / "frames"))
    whole, part = (open_data(replace(config, fraction=f), tmp_path) for f in (1.0, 0.4))
    assert isinstance(part, Subset) and len(part) == 4 + config.val_frames
    stamps = [frame.stamp_ns for frame in whole]
    ours = [frame.stamp_ns for frame in part]
    assert ours[4:] == stamps[-config.val_frames :] and set(ours[:4]) < set(stamps[:10])
    assert part.describe() == {**whole.describe(), "frames": 8}

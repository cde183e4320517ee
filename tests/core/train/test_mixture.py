"""Several sources in one training: how they are named, split, drawn and told apart in errors."""

from __future__ import annotations

import pickle
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from lemumo_core.data.mixture import Mixture, by_member, found_in
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources.members import members_of
from lemumo_core.data.sources.origins import origins
from lemumo_core.data.sources.registry import source_of
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame
from lemumo_core.train.batch_sampler import BatchSampler, MixtureSampler, batch_sampler
from lemumo_core.train.finetune.config import FinetuneConfig
from lemumo_core.train.loader import open_data, samples_of, training_batches
from lemumo_core.train.run_config import (
    ScaleConfig,
    command_line,
    from_dict,
    from_namespace,
    to_dict,
)
from lemumo_core.train.run_folder import read_metrics
from lemumo_core.train.selection import describe_data, select_frames
from tests.helpers.program import Program
from tests.helpers.small_frames import small_frames
from tests.helpers.small_run import small_config


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Two folders of images, of 5 and 3, in two sizes, without LiDAR and labels."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for folder, count, size in (("a", 5, (60, 80)), ("b", 3, (40, 100))):
        (root / folder).mkdir()
        for number in range(count):
            pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
            assert cv2.imwrite(str(root / folder / f"{number}.png"), pixels)
    return root


@pytest.mark.parametrize("given", ["words", "yaml"])
def test_a_list_is_the_same_in_words_and_in_yaml(given, tmp_path: Path) -> None:
    parser = command_line(FinetuneConfig)
    if given == "words":
        words = ["--data", "data/mine", "kitti,root=/data/0009,split=training,weight=2"]
        options = [*words, "rasters,root=/r,bands=VV,VH,kind=raster", "--steps", "3"]
    else:
        file = tmp_path / "run.yaml"
        listed = [
            "data/mine",
            {"data": "kitti", "root": "/data/0009", "split": "training", "weight": 2},
            {"data": "rasters", "root": "/r", "bands": "VV,VH", "kind": "raster"},
        ]
        file.write_text(yaml.safe_dump({"data": listed, "steps": 3}))
        options = ["--config", str(file)]
    config = from_namespace(FinetuneConfig, parser, parser.parse_args(options))
    assert config.steps == 3
    members = members_of(from_dict(FinetuneConfig, to_dict(config)).data, {})
    assert [(one.data, one.options, one.weight) for one in members] == [
        ("data/mine", {}, 1),
        ("kitti", {"root": "/data/0009", "split": "training"}, 2),
        ("rasters", {"root": "/r", "bands": "VV,VH", "kind": "raster"}, 1),
    ]
    alone = parser.parse_args(["--data", "2011_09_26"])
    assert from_namespace(FinetuneConfig, parser, alone).data == "2011_09_26"


def test_a_path_with_commas_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "rain,speed=30"
    folder.mkdir()
    assert members_of(str(folder), {"image": "/front"}) == [(str(folder), {"image": "/front"}, 1)]


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (["a", "b"], {"split": "val"}, r"--data names 2: write options .*, a,split="),
        ([], {}, "empty list"),
        (["a", {"root": "x"}], {}, "member 2 of --data, .*names no source"),
        (["a", "kitti,root=/k,weight=0"], {}, "member 2 of --data, kitti /k, has weight '0'"),
        (
            ["a", "b,image=x,image=y"],
            {},
            "member 2 of --data, b,image=x,image=y, has an option twice",
        ),
        (["a", {"data": "b", "weight": "half"}], {}, "b, has weight 'half'"),
    ],
)
def test_lists_that_cannot_be_read_are_named(data, options, words) -> None:
    with pytest.raises(Fault, match=words) as caught:
        members_of(data, options)
    assert caught.value.reason == "bad_option"


def test_what_is_wrong_with_a_member_names_it(pictures, street_shards, tmp_path) -> None:
    street = str(street_shards)
    with pytest.raises(Fault, match=r"--data images /p: images has no option 'rot'"):
        source_of([street, "images,root=/p,rot=1"])
    with pytest.raises(FileNotFoundError, match=rf"--data {tmp_path}/no: .* does not exist"):
        source_of([street, f"{tmp_path}/no"])
    with pytest.raises(Fault, match="has a weight, which only training takes"):
        source_of([street, f"images,root={pictures},weight=2"])
    warm = tmp_path / "warm"
    for suffix in ("visible", "lwir"):
        (warm / suffix).mkdir(parents=True)
        assert cv2.imwrite(str(warm / suffix / "1.png"), np.full((48, 64), 90, np.uint8))
    mixed = small_config(data=[street, f"rgb-thermal,root={warm}"])
    with pytest.raises(Fault, match=f"--data rgb-thermal {warm}: the model takes lidar"):
        open_data(mixed, tmp_path)
    images = tmp_path / "torn"
    images.mkdir()
    (images / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(Fault, match=rf"^images {images}: .*1\.png"):
        source_of([street, f"images,root={images}"])[14]


def test_evaluation_reads_lists_in_order(pictures, street_shards) -> None:
    source = source_of([str(street_shards), f"images,root={pictures}"])
    assert len(source) == 22 and source[-1].image.shape == (40, 100, 3)
    street = Shards(street_shards)
    assert [source[i].stamp_ns for i in (0, 13)] == [street[i].stamp_ns for i in (0, 13)]
    assert origins(source.describe()) == ["synthetic", "images"]
    with pytest.raises(IndexError):
        source[22]


class Rides:
    """Frames of rides of some lengths, an hour apart."""

    def __init__(self, *lengths: int, labelled: bool = False):
        frames = small_frames(max(lengths))
        self.frames = [
            replace(
                frame,
                stamp_ns=frame.stamp_ns + 3_600_000_000_000 * ride,
                labels=frame.labels if labelled else None,
            )
            for ride, length in enumerate(lengths)
            for frame in frames[:length]
        ]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[index]

    def describe(self) -> dict[str, object]:
        return {"source": "rides", "frames": len(self)}


def mixture(weights=(1.0, 1.0)) -> Mixture:
    return Mixture([Rides(6, 6, 6), Rides(3, 3, labelled=True)], ["many", "few"], weights)


@pytest.mark.parametrize("val", ["end", "recordings"])
def test_each_member_is_split_by_itself(val) -> None:
    found = select_frames(mixture(), small_config(val=val, val_frames=8))
    assert [sum(i < 18 for i in found.validation), len(found.validation)] == [6, 8]
    assert found.trained == sorted(found.trained) and not {*found.trained} & {*found.validation}
    rides = [*[0] * 6, *[1] * 6, *[2] * 6, *[3] * 3, *[4] * 3]
    if val == "recordings":
        assert not {rides[i] for i in found.trained} & {rides[i] for i in found.validation}
        with pytest.raises(Fault, match="many holds 3 recordings"):
            select_frames(mixture(), small_config(val=val, val_frames=20))
    else:
        assert found.validation == [*range(12, 18), 22, 23]


def test_a_share_of_labelled_frames_is_of_the_members_that_have_some() -> None:
    config = FinetuneConfig(val_frames=4, fraction=0.5, batch=2)
    found = select_frames(mixture(), config)
    assert len(found.trained) == 2 and all(18 <= i < 23 for i in found.trained)
    unlabelled = Mixture([Rides(9), Rides(9)], ["one", "other"], [1, 1])
    with pytest.raises(Fault, match="no frame of one, other that is trained on has labels"):
        select_frames(unlabelled, config)


@pytest.mark.parametrize("weights", [(1, 1), (0.5, 2.5), (1 / 3, 1)])
def test_members_are_drawn_by_weight_in_random_turns(weights) -> None:
    lengths = 12, 30
    members = [BatchSampler(length, 1, 5) for length in lengths]
    sampler = MixtureSampler(members, weights, batch=4, seed=5)
    draws = [round(w * n) for w, n in zip(weights, lengths, strict=True)]
    assert sampler.draws == sum(draws) and sampler.frames == 42
    passes = 6
    taken = [sampler.frame(p) for p in range(passes * sampler.draws)]
    for first, n, count in ((0, 12, draws[0]), (12, 30, draws[1])):
        of_member = Counter(i for i in taken if first <= i < first + n)
        assert of_member.total() == passes * count
        whole, rest = divmod(passes * count, n)
        assert {*of_member.values()} <= {whole, whole + (rest > 0)}
    half = sampler.draws // 2
    assert min(taken[:half]) < 12 and min(taken[half : sampler.draws]) < 12
    again = MixtureSampler([BatchSampler(n, 1, 5) for n in lengths], weights, 4, 5)
    assert again[17] == taken[68:72]
    assert [sampler[step] for step in (20, 3)] == [taken[80:84], taken[12:16]]
    other = MixtureSampler(members, weights, 4, 6)
    assert [other[step] for step in range(3)] != [sampler[step] for step in range(3)]


def test_streamed_shards_keep_their_groups_in_a_mixture(street_shards) -> None:
    config = small_config(batch=2, val_frames=0, shuffle_shards=2)
    plain = batch_sampler(config, Shards(street_shards))
    assert [len(group) for group in plain.groups] == [4, 4, 4, 2]
    both = Mixture([Rides(5), Shards(street_shards)], ["rides", "street"], [1, 2])
    sampler = batch_sampler(config, both)
    assert isinstance(sampler, MixtureSampler) and sampler.draws == 5 + 28
    assert [len(group) for group in sampler.members[1].groups] == [4, 4, 4, 2]
    street = [i - 5 for i in map(sampler.frame, range(33)) if i >= 5]
    groups = [{i // 4 for i in street[k : k + 2]} for k in range(0, 4, 2)]
    assert sorted(street) == sorted([*range(14), *range(14)]) and all(len(g) == 1 for g in groups)


def test_mixed_frames_train_with_and_without_lidar_and_labels(
    pictures, street_shards, tmp_path
) -> None:
    data = [str(street_shards), {"data": "images", "root": str(pictures), "weight": 2}]
    config = small_config(data=data, val_frames=5, steps=2, batch=8)
    source = open_data(config, tmp_path)
    assert len(source) == 22
    parts = by_member(source)
    assert [part.name for part in parts] == [str(street_shards), f"images {pictures}"]
    assert [len(part.frames) for part in parts] == [14, 8]
    assert found_in(source, 21)[0].describe()["source"] == "images"
    assert "11 and 3 of 64 x 48 pixels from" in (text := describe_data(config, source))
    assert f"6 and 2 of 80 x 60 pixels from images {pictures} (weight 2)" in text
    sampler = batch_sampler(config, source)
    assert (sampler.frames, sampler.draws) == (17, 11 + 12)
    samples = pickle.loads(pickle.dumps(samples_of(config, source)))
    found = {}
    for workers in (0, 1):
        config = replace(config, scale=ScaleConfig(workers=workers))
        with training_batches(config, samples, sampler, 1, 0, 1) as coming:
            found[workers] = next(coming)
    batch = found[0]
    assert (batch.image == found[1].image).all() and (batch.present == found[1].present).all()
    alone = batch.present[:, 1] == 0
    assert 0 < int(alone.sum()) < 8
    assert (batch.labels.boxes.known_3d == ~alone).all()
    assert bool(batch.returns[alone].isinf().all())


def test_killed_in_the_middle_it_learns_the_same(pictures, street_shards, tmp_path) -> None:
    """From the same frames in the same order: losses and weights are those of a run to the end."""
    data = ["--data", street_shards, f"images,root={pictures},weight=2"]
    options = [
        *("--steps", 6, "--batch", 4, "--val_frames", 4, "--scale.workers", 0),
        *("--model.size", "nano", "--model.height", 48, "--model.width", 64),
        *("--log.tensorboard", "false", "--log.progress_every", 1, "--log.probes", "false"),
        *("--log.checkpoint_every", 2, "--resume", "auto"),
    ]
    outs = [tmp_path / "whole", tmp_path / "killed"]
    programs = [
        Program(tmp_path / f"{out.name}.log", "pretrain", *data, *options, "--out", out)
        for out in outs
    ]
    programs[1].wait_for("step 3/")
    programs[1].signal(signal.SIGKILL, everyone=True)
    assert programs[1].end()[0] == -signal.SIGKILL
    assert not (outs[1] / "summary.json").exists() and programs[0].end()[0] == 0
    again = Program(tmp_path / "again.log", "pretrain", *data, *options, "--out", outs[1])
    code, printed = again.end()
    assert code == 0 and "step 3/" in printed and "step 1/" not in printed, printed
    whole, resumed = (read_metrics(out) for out in outs)
    assert [row["step"] for row in whole] == [row["step"] for row in resumed] == [*range(6)]
    assert [row["loss"] for row in whole] == [row["loss"] for row in resumed]
    for name in ("model", "optimizer"):
        last = "checkpoints", "step-00000006", f"{name}.safetensors"
        ours, theirs = (load_file(out.joinpath(*last)) for out in outs)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours | theirs)

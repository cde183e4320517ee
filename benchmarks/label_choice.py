"""How many labels chosen by ``lemumo label choose`` are worth how many taken otherwise?

    python -m benchmarks.label_choice [--seeds 3] [--counts 2 4 8 16 32]

Each seed has a log of its own, of rendered streets of the varied kind. Of its frames some are
labelled: those that are chosen, those that the model is most unsure of, some evenly spaced, or some
drawn at random. On these a linear probe of the shipped model's frozen tokens learns the classes of
patches, to convergence; all probes are evaluated on the same frames of other streets. So a score
depends on which frames are labelled, and not on the length of a training. Features that are there
are not computed again. The table goes to OUT/results.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from benchmarks._runs import ROOT, mean_and_deviation, positive
from benchmarks._timing import machine
from lemumo_core.data.shard_writer import write_shards
from lemumo_core.data.shards import Shards
from lemumo_core.data.sources import evenly_spaced
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.frame import UNLABELLED
from lemumo_core.geometry.view_transfer import look_up
from lemumo_core.inference.package import WEIGHTS_NAME, load_package
from lemumo_core.label.choose import choose, similar
from lemumo_core.label.frame_features import FrameFeatures
from lemumo_core.label.frame_table import FrameTable, read_tables, write_table
from lemumo_core.metrics.segmentation import SegmentationMetric
from lemumo_core.model.config import PATCH, ModelConfig
from lemumo_core.model.perception import load_model
from lemumo_core.preprocess import Inputs, network_view, preprocess
from lemumo_core.progress import track

MODEL = ROOT / "models" / "lemumo-tiny"
ARMS = "chosen", "most unsure", "evenly spaced", "random"
DRAWS = 10
"""Random draws of each seed."""
SIZE = {"width": 352, "height": 128, "varied": True}
TEST_FRAMES, TEST_SEED = 48, 90
DECAY, ITERATIONS = 1e-3, 60


class Patches:
    """Tokens float32 (F, N, D) and classes uint8 (F, N) of the patches of F frames."""

    def __init__(self, shards: Path):
        file = shards.with_suffix(".npz")
        if not file.exists():
            np.savez(
                file, **dict(zip(("tokens", "classes"), computed(Shards(shards)), strict=True))
            )
        with np.load(file) as found:
            self.tokens, self.classes = found["tokens"], found["classes"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--counts", type=positive, nargs="+", default=[2, 4, 8, 16, 32])
    parser.add_argument("--drives", type=positive, default=20, help="of a log")
    parser.add_argument("--frames_per_drive", type=positive, default=6)
    parser.add_argument("--out", type=Path, default=Path("out", "label-choice"))
    args = parser.parse_args()
    frames = args.drives * args.frames_per_drive
    test = street(args.out / "test", TEST_SEED, "test", TEST_FRAMES, 3)
    scores: dict[tuple[int, str], list[float]] = {}
    whole = []
    for seed in range(args.seeds):
        log = street(
            args.out / f"seed-{seed}" / "log", seed, "train", frames, args.frames_per_drive
        )
        table, patches = embedded(log), Patches(log)
        whole.append(probe(patches, list(range(frames)), Patches(test)))
        for count in track(args.counts, f"seed {seed}"):
            for arm in ARMS:
                found = [
                    probe(patches, rows, Patches(test)) for rows in sets(arm, table, count, seed)
                ]
                scores.setdefault((count, arm), []).append(float(np.mean(found)))
    lines = [
        f"{machine()}; logs of {frames} frames of {args.drives} drives, {TEST_FRAMES} frames of "
        f"evaluation; {args.seeds} seeds, each with {DRAWS} random draws: mean ± standard "
        f"deviation of the probe's mIoU over seeds. With all {frames} frames labelled it is "
        f"{mean_and_deviation(whole)}.",
        "",
        f"| labelled frames | {' | '.join(ARMS)} | chosen beats random |",
        f"| ---: |{' ---: |' * (len(ARMS) + 1)}",
    ]
    for count in args.counts:
        cells = [mean_and_deviation(scores[count, arm]) for arm in ARMS]
        pairs = zip(scores[count, "chosen"], scores[count, "random"], strict=True)
        wins = f"{sum(ours > theirs for ours, theirs in pairs)} of {args.seeds}"
        lines.append(f"| {count} | {' | '.join(cells)} | {wins} |")
    logs = [args.out / f"seed-{seed}" / "log" for seed in range(args.seeds)]
    lines += ["", retrieval([embedded(log) for log in logs], args.frames_per_drive)]
    (args.out / "results.md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


def street(folder: Path, seed: int, split: str, frames: int, per_drive: int) -> Path:
    """Return the shards of a log, which are rendered where they are missing."""
    if not (folder / "index.json").exists():
        source = SyntheticStreet(
            seed, frames, split=split, frames_per_drive=per_drive, rate_hz=1.0, **SIZE
        )
        write_shards(source, folder, workers=1)
    return folder


def embedded(log: Path) -> FrameTable:
    """Return the table of a log, whose labels are not known to the choice."""
    file = log.with_suffix(".parquet")
    if not file.exists():
        features, shards = FrameFeatures(MODEL), Shards(log)
        origins = [(str(log), index) for index in range(len(shards))]
        table = features.table(shards, list(range(len(shards))), origins)
        write_table(table, file, features.about)
    table = read_tables([file])
    return replace(table, labelled=np.zeros(len(table), bool))


def computed(frames: Shards) -> tuple[np.ndarray, np.ndarray]:
    """Return what ``Patches`` holds; the class of a patch is that of its middle."""
    package = load_package(MODEL)
    config = ModelConfig.from_dict(package.manifest.model)
    model = load_model(config, package.file(WEIGHTS_NAME))
    classes = package.manifest.classes
    tokens, ids = [], []
    for frame in track(list(frames), "tokens"):
        inputs = preprocess(frame, config.input_spec)
        with torch.inference_mode():
            encoding = model.encoder(Inputs(*(torch.from_numpy(part) for part in inputs)))
        tokens.append(encoding.tokens[0].numpy())
        assert frame.labels is not None and frame.labels.label_map is not None
        view = network_view(frame.camera, config.input_spec)
        label_map = classes.label_ids(frame.labels.label_map, frame.labels.label_names)
        seen = look_up(label_map, frame.camera, view, UNLABELLED)
        ids.append(seen[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].ravel())
    return np.stack(tokens), np.stack(ids)


def sets(arm: str, table: FrameTable, count: int, seed: int) -> Iterator[list[int]]:
    """Yield the sets of frames that an arm labels."""
    if arm == "chosen":
        yield choose(table, count)[0]
    elif arm == "most unsure":
        yield choose(table, count, diversity=0.0)[0]
    elif arm == "evenly spaced":
        yield evenly_spaced(len(table), count)
    else:
        rng = np.random.default_rng(seed)
        for _ in range(DRAWS):
            yield rng.permutation(len(table))[:count].tolist()


def retrieval(tables: list[FrameTable], per_drive: int) -> str:
    """Say how often the frame most like one, of all in a log, is of the same drive."""
    shares: dict[str, list[float]] = {
        "embeddings": [],
        "colour histograms of the small pictures": [],
    }
    for table in tables:
        drives = np.arange(len(table)) // per_drive
        pictures = [cv2.imdecode(np.frombuffer(one, np.uint8), 1) for one in table.pictures]
        bins = [[np.histogram(p[..., c], 16, (0, 256))[0] for c in range(3)] for p in pictures]
        histograms = np.array(bins, np.float32).reshape(len(table), -1)
        for name, vectors in zip(shares, (table.embeddings, histograms), strict=True):
            one = replace(table, embeddings=vectors)
            found = [similar(one, row, 1, 0)[0][0] for row in range(len(table))]
            shares[name].append(float(np.mean(drives[found] == drives)))
    words = (f"by {name} {mean_and_deviation(values)}" for name, values in shares.items())
    return f"Share of frames whose most similar one is of the same drive: {', '.join(words)}."


def probe(patches: Patches, rows: list[int], test: Patches) -> float:
    """Return the mIoU of a linear probe of some frames' patches, on those of the test frames."""
    names = load_package(MODEL).manifest.segmentation_classes
    x, y = patches.tokens[rows].reshape(-1, patches.tokens.shape[2]), patches.classes[rows].ravel()
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    known = y != UNLABELLED
    tokens = torch.from_numpy((x[known] - mean) / deviation)
    classes = torch.from_numpy(y[known].astype(np.int64))
    layer = nn.Linear(tokens.shape[1], len(names))
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=ITERATIONS)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(layer(tokens), classes)
        value = value + DECAY * layer.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    metric = SegmentationMetric(names)
    with torch.inference_mode():
        found = layer(torch.from_numpy((test.tokens - mean) / deviation)).argmax(dim=2)
    metric.add(found.numpy(), test.classes)
    return metric.miou()


if __name__ == "__main__":
    main()

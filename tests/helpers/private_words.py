"""Words that only our own history explains, and the field's terms for them.

Identifiers and names of files must not hold them. Run it to see where some are left.

    python -m tests.helpers.private_words
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.paths import ROOT

FOLDERS = (
    *("lemumo_core", "lemumo_ros", "training", "export", "interfaces", "launch", "tools"),
    *("benchmarks", "examples", "tests"),
)
PARTS = {
    "held_out": "val_ for frames of validation, masked for returns",
    "hold_out": "val_ for frames of validation, mask_returns for returns",
    "tokens_at_places": "sample_shared_tokens",
    "suggestion": "depth hypothesis",
    "suggestions": "depth hypotheses",
    "suggested": "depth hypotheses",
    "farness": "slope",
    "surprise": "laplace_nll, bce",
    "first_in_cell": "keep_nearest",
    "tells_depth": "has_depth_head",
    "anew": "again",
    "frame_order": "batch_sampler",
    "part_of": "subset_indices",
    "from_plain": "from_dict",
    "conclude": "finalize",
    "judge": "evaluate or score",
    "figures": "metrics",
    "why_silent": "diagnose_topic",
    "why_not": "unavailable_reason",
    "sure": "depth_confidence",
    "stems": "patch_embed",
    "pretrainer": "pretrain/learner.py",
    "finetuner": "finetune/learner.py",
    "optimiser": "optimizer",
    "centre": "center",
    "centres": "centers",
    "colour": "color",
    "colours": "colors",
}
"""Parts of an identifier, in lower case with underscores between words."""
WHOLE = {
    "ChosenDepth": "DepthSelection",
    "weigh": "logits",
    "STEEP": "slope",
    "SHARPER": "sharpness",
    "Place": "DistInfo",
    "Part": "Subset",
    "FrameOrder": "BatchSampler",
    "Due": "ReadyPair",
    "Taken": "InFlight",
    "Judge": "Evaluator",
    "Instant": "ImageEvent",
    "PatchStems": "PatchEmbed",
    "Wanted": "RegressionTargets",
    "wanted_around": "targets_in_3x3",
    "FOR_PRETRAINING": "the method's own networks",
}
"""Whole identifiers, but for an underscore before them."""
DEFINED = {
    "plain": "to_dict",
    "parsed": "from_namespace",
    "places": "correspondences",
    "told": "masked LiDAR modelling",
    "spread": "evenly_spaced",
    "says": "predicts",
}
"""Names of functions and classes; as names of variables these are ordinary words."""
BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def words_in(identifier: str, defined: bool = False) -> set[str]:
    """The private words in one identifier, which may be the name of a function or class."""
    snake = f"_{BOUNDARY.sub('_', identifier).lower()}_"
    found = {word for word in PARTS if f"_{word}_" in snake}
    whole = WHOLE.keys() | (DEFINED.keys() if defined else set())
    return found | ({identifier.removeprefix("_")} & whole)


def identifiers(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line, identifier and whether it is defined there; the file's own name stands on line 0."""
    yield 0, path.stem, True
    before = ""
    with io.BytesIO(path.read_bytes()) as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.NAME:
                yield token.start[0], token.string, before in ("def", "class")
            before = token.string


def private_words(root: Path) -> dict[str, list[str]]:
    """Each private word that is left, with the places that hold it."""
    found: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            for line, identifier, defined in identifiers(path):
                if identifier.startswith("test_"):  # a sentence
                    continue
                for word in words_in(identifier, defined):
                    where = f"{path.relative_to(root)}:{line} {identifier}"
                    found.setdefault(word, []).append(where)
    return found


if __name__ == "__main__":
    for word, where in sorted(private_words(ROOT).items()):
        print(f"{word} ({(PARTS | WHOLE | DEFINED)[word]}):", *where, sep="\n    ")

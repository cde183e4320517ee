"""Weights to a verified model package: one ONNX graph, the weights and the manifest.

    python export/to_onnx.py --out out/models/mine                       # seeded random weights
    python export/to_onnx.py --out out/models/mine --weights w.safetensors --config config.json

The graph takes the uint8 image, the companion, intrinsics and presence, and gives decoded results.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from lemumo_core.inference.package import Manifest, Package, write_package
from lemumo_core.model.config import COMPANION_CHANNELS, SIZES, ModelConfig
from lemumo_core.model.perception import (
    Outputs,
    PerceptionModel,
    load_model,
    save_weights,
    seeded_model,
)
from lemumo_core.taxonomy import SEGMENTATION_CLASSES

OPSET = 18
INPUTS = ("image", "companion", "intrinsics", "present")
OUTPUTS = Outputs._fields
MAX_TOP_K = 3840
"""TensorRT's limit."""
TOLERANCE = {"boxes": 1e-3, "scores": 1e-5, "depth": 1e-4, "depth_confidence": 1e-5}
"""Largest difference |onnxruntime - torch| / max(1, |torch|) allowed, by float output. Detections
are compared as sets, since near-tied scores may change places."""
LABEL_AGREEMENT = 0.999
"""Share of label pixels that must agree: near ties may fall either way."""


def example_inputs(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Random network input of batch 1 with both modalities, by name."""
    rng = np.random.default_rng(seed)
    spec = config.input_spec
    size = (1, spec.height, spec.width)
    valid = rng.random((*size, 1)) < 0.05
    value = np.where(valid, rng.random((*size, 1)), 0.0)
    companion = np.concatenate([value, valid], axis=-1)[..., : spec.companion_channels]
    K = [[spec.width, 0, spec.width / 2], [0, spec.width, spec.height / 2], [0, 0, 1]]
    return {
        "image": rng.integers(0, 256, (*size, 3), np.uint8),
        "companion": companion.astype(np.float32),
        "intrinsics": np.array([K], np.float32),
        "present": np.ones((1, 2), np.float32),
    }


def export_onnx(model: PerceptionModel, path: Path, metadata: dict[str, str]) -> onnx.ModelProto:
    """Write the graph of a model in evaluation mode, static batch 1, and check it.

    Raises:
        ValueError: if the graph holds what TensorRT refuses (``check_operators``).
    """
    example = tuple(torch.from_numpy(a) for a in example_inputs(model.config, 0).values())
    program = torch.onnx.export(
        model,
        example,
        dynamo=True,
        opset_version=OPSET,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        verbose=False,
    )
    assert program is not None
    graph = program.model_proto
    for key, value in metadata.items():
        graph.metadata_props.add(key=key, value=value)
    check_operators(graph)
    onnx.save(graph, path)
    onnx.checker.check_model(str(path), full_check=True)
    return graph


def check_operators(graph: onnx.ModelProto) -> None:
    """Refuse what TensorRT's parser is known to reject.

    Raises:
        ValueError: naming the node.
    """
    types = {value.name: value.type.tensor_type.elem_type for value in graph.graph.input}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    for name, kind in types.items():
        if kind in (onnx.TensorProto.UINT16, onnx.TensorProto.INT16):
            raise ValueError(f"input {name} is a 16-bit integer; TensorRT takes float32 or int32")
    for node in graph.graph.node:
        for name in node.input:
            if types.get(name) == onnx.TensorProto.UINT8 and node.op_type != "Cast":
                raise ValueError(f"uint8 input {name} feeds {node.op_type}; only Cast may take it")
        if node.op_type == "TopK" and node.input[1] in constants:
            k = int(constants[node.input[1]].max())
            if k > MAX_TOP_K:
                raise ValueError(f"TopK with K={k}; TensorRT takes at most {MAX_TOP_K}")


def verify(model: PerceptionModel, path: Path, seeds: int = 3) -> dict[str, float]:
    """Hold ONNX Runtime's float outputs and labels equal to torch's, on random inputs.

    Each seed is tried with both modalities and with either one absent.

    Returns:
        The largest relative difference by output; for labels the smallest agreement.

    Raises:
        ValueError: if any output is outside its tolerance.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(TOLERANCE, 0.0) | {"labels": 1.0}
    for seed in range(seeds):
        for present in ([1, 1], [1, 0], [0, 1]):
            feed = example_inputs(model.config, seed)
            feed["present"] = np.array([present], np.float32)
            with torch.no_grad():
                outputs = model(*(torch.from_numpy(feed[name]) for name in INPUTS))
            expected = {name: tensor.numpy() for name, tensor in outputs._asdict().items()}
            got = dict(zip(OUTPUTS, session.run(list(OUTPUTS), feed), strict=True))
            gaps = {name: _gap(got[name], expected[name]) for name in TOLERANCE if name != "boxes"}
            gaps["boxes"] = detection_gap(expected, got)
            for name, gap in gaps.items():
                worst[name] = float(np.maximum(worst[name], gap))  # unlike max, keeps NaN
            agreement = float((got["labels"] == expected["labels"]).mean())
            worst["labels"] = min(worst["labels"], agreement)
    failed = [name for name, limit in TOLERANCE.items() if not worst[name] <= limit]
    failed += ["labels"] if worst["labels"] < LABEL_AGREEMENT else []
    if failed:
        raise ValueError(f"onnxruntime differs from torch in {failed}: {worst}")
    return worst


def detection_gap(expected: dict[str, np.ndarray], got: dict[str, np.ndarray]) -> float:
    """Largest relative box difference between two sets of detections of one image.

    Every expected detection is compared with the nearest box of its class whose score agrees.
    Those within the score tolerance of the last place are left out: which of them still makes
    the top K is a matter of rounding.

    Returns:
        The difference; infinity where a detection has no counterpart.
    """
    limit = TOLERANCE["scores"]
    worst = 0.0
    cut = expected["scores"][0, -1] + limit
    for i in np.flatnonzero(expected["scores"][0] > cut):
        box, score = expected["boxes"][0, i], expected["scores"][0, i]
        same = got["class_ids"][0] == expected["class_ids"][0, i]
        same &= np.abs(got["scores"][0] - score) <= limit
        candidates = got["boxes"][0][same]
        gaps = np.abs(candidates - box) / np.maximum(1.0, np.abs(box))
        worst = float(np.maximum(worst, gaps.max(axis=1).min(initial=np.inf)))
    return worst


def _gap(got: np.ndarray, expected: np.ndarray) -> float:
    return float((np.abs(got - expected) / np.maximum(1.0, np.abs(expected))).max())


def export_package(
    model: PerceptionModel, out: Path, name: str, trained: bool, training: dict | None = None
) -> Package:
    """Export, verify and write a whole package.

    Args:
        model: in evaluation mode.
        out: folder to create or to update.
        name: of the model.
        trained: False for random weights.
        training: provenance for the manifest.
    """
    config = model.config
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    metadata = {"name": name, "preset": config.preset, "size": config.size}
    graph = export_onnx(model, out / "model.onnx", metadata)
    worst = verify(model, out / "model.onnx")
    save_weights(model, out / "weights.safetensors")
    colours = dict(SEGMENTATION_CLASSES)
    package = write_package(
        out,
        Manifest(
            name=name,
            version="0.1.0",
            trained=trained,
            model=asdict(config),
            input=config.input_spec,
            detection_classes=config.detection_classes,
            segmentation_classes=config.segmentation_classes,
            palette=tuple(
                colours.get(c, _colour(i)) for i, c in enumerate(config.segmentation_classes)
            ),
            training=training or {},
        ),
    )
    megabytes = (out / "model.onnx").stat().st_size / 1e6
    print(
        f"{out}: {len(graph.graph.node)} nodes, {megabytes:.1f} MB, opset {OPSET}, "
        f"{time.monotonic() - started:.1f} s; onnxruntime against torch:"
    )
    for key, value in worst.items():
        print(f"  {key:17} {value:.2e}")
    return package


def _colour(index: int) -> tuple[int, int, int]:
    """A distinct colour for a class that the default taxonomy does not name."""
    rng = np.random.default_rng(index)
    r, g, b = (int(value) for value in rng.integers(40, 256, 3))
    return r, g, b


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="package folder to write")
    parser.add_argument("--name", help="model name; default: the folder's")
    parser.add_argument("--weights", type=Path, help="safetensors of a trained model")
    parser.add_argument("--config", type=Path, help="its ModelConfig as JSON")
    parser.add_argument("--preset", choices=COMPANION_CHANNELS, default="lemumo")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--height", type=int, default=256, help="multiple of 16")
    parser.add_argument("--width", type=int, default=704, help="multiple of 16")
    parser.add_argument("--companion", choices=("lidar", "thermal"), default="lidar")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    args = parser.parse_args(arguments)
    if (args.weights is None) != (args.config is None):
        parser.error("--weights and --config go together")
    if args.weights is not None:
        config = ModelConfig.from_dict(json.loads(args.config.read_text()))
        model, training = load_model(config, args.weights), {}
    else:
        config = ModelConfig(args.preset, args.size, args.height, args.width, args.companion)
        model, training = seeded_model(config, args.seed), {"seed": args.seed}
    name = args.name or args.out.resolve().name
    export_package(model, args.out, name, args.weights is not None, training)
    return 0


if __name__ == "__main__":
    sys.exit(main())

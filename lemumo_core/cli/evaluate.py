"""Judge a model on frames with truth: fused, camera only and companion only.

    python training/evaluate.py MODEL                          on held-out rendered streets
    python training/evaluate.py MODEL --data DIR_or_URI        shards of training/prepare.py
    python training/evaluate.py MODEL --data kitti --data_options.root /data/kitti --limit 500
    python training/evaluate.py MODEL --out out/evaluation     metrics.json and a page with pictures

MODEL is a model package, or a run or checkpoint folder of training/finetune.py. Sources: those of
lemumo_core/data/sources/registry.py. Where they have no dense depth, a tenth of the LiDAR
returns is hidden from the model and its depth is judged on these.

Exit codes: 0 done, 1 an error, 2 no frame.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

from lemumo_core.command_line import CommandLine
from lemumo_core.data.sources import FrameSource, evenly_spaced
from lemumo_core.data.sources.registry import source_of
from lemumo_core.evaluation.modalities import SCORE_THRESHOLD, evaluate
from lemumo_core.evaluation.report import depth_truth, results_of, write_metrics, write_page
from lemumo_core.evaluation.tables import as_text, reasons, tables
from lemumo_core.faults import Fault
from lemumo_core.inference.manifest import Manifest
from lemumo_core.inference.measure import processor
from lemumo_core.inference.package import MANIFEST_NAME, Package, load_package
from lemumo_core.inference.pipeline import Pipeline

STREETS = {"split": "test", "frames": 200, "frames_per_drive": 4}
"""Of the synthetic world, many of them."""


def run(
    model: Path,
    data: str = "synthetic",
    data_options: dict[str, Any] | None = None,
    limit: int = 200,
    out: Path | None = None,
    backend: str = "auto",
) -> int:
    """Judge a model and say what was found.

    Args:
        model: package, or run or checkpoint folder of training/finetune.py.
        data: name of a source, or the folder or URI of shards.
        data_options: of that source, e.g. ``--data kitti --data_options.root /data/kitti``.
        limit: frames at most, spread evenly over the source.
        out: folder for metrics.json and index.html.
        backend: RUNTIME[:PRECISION] of a package; a run is judged in torch.
    """
    pipeline = load(model, backend)
    manifest = pipeline.package.manifest
    source = open_source(data, data_options or {}, manifest)
    indices = evenly_spaced(len(source), limit)
    if not indices:
        print(f"evaluate: no frame of the {len(source)} of {data}", file=sys.stderr)
        return 2
    evaluation = evaluate(pipeline, manifest, source, indices)
    results = results_of(evaluation)
    about = {
        "model": f"{manifest.name} {manifest.version}",
        "trained": manifest.trained,
        "backend": pipeline.backend.name,
        "data": source.describe(),
        "machine": f"{processor()}, Python {platform.python_version()}",
    }
    print("\n\n".join(as_text(table) for table in tables(results)))
    print("\n".join(["", f"depth judged on: {depth_truth(evaluation)}", *reasons(results)]))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_metrics(out, evaluation, about)
        write_page(out, evaluation, about, pipeline, manifest, source)
        print(f"written: {out}/metrics.json, {out}/index.html")
    return 0


def load(model: Path, backend: str) -> Pipeline:
    """The pipeline of a package, or of what a fine-tuning run has learnt.

    Raises:
        Fault: ``bad_model``; as ``load_package``, ``load_backend`` or ``read_weights``;
            ``wrong_weights`` for those of pretraining, which have no heads.
    """
    if (model / MANIFEST_NAME).exists():
        return Pipeline(load_package(model), backend, SCORE_THRESHOLD)
    import torch

    from lemumo_core.inference.backends.torch import ModuleBackend
    from lemumo_core.inference.model_manifest import manifest_of
    from lemumo_core.model.config import ModelConfig
    from lemumo_core.model.perception import PerceptionModel
    from lemumo_core.train.checkpoint import load_model_tensors
    from lemumo_core.train.finetune.weights import read_weights

    try:
        weights, options = read_weights(model)
    except FileNotFoundError:
        options = None
    if options is None:
        raise Fault(
            "bad_model",
            f"{model} is neither a model package nor a run or checkpoint of training/finetune.py",
        )
    network = PerceptionModel(ModelConfig.from_dict(options)).eval()
    load_model_tensors(network, weights, model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    manifest = manifest_of(network.config, model.resolve().name, trained=True)
    module = ModuleBackend("torch:fp32", network.to(device), manifest.input, device)
    return Pipeline(Package(model, manifest), module, SCORE_THRESHOLD)


def open_source(data: str, options: dict[str, Any], manifest: Manifest) -> FrameSource:
    """The frames; the synthetic world as the model sees it, unless the options say otherwise."""
    if data == "synthetic":
        spec = manifest.input
        size = {"height": spec.height, "width": spec.width, "companion": spec.companion}
        options = {**STREETS, **size, **options}
    return source_of(data, **options)


def main(arguments: list[str]) -> int:
    parser = CommandLine(prog="evaluate.py", description=__doc__)
    parser.add_function_arguments(run, as_positional=True)
    options = parser.parse_args(arguments)
    try:
        return run(**{name: value for name, value in options.items() if name != "config"})
    except (ValueError, OSError, ImportError) as error:  # Fault among them
        print(f"evaluate: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

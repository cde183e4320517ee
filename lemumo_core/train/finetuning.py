"""Fine-tuning as a ``Task``, and what a finished run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from lemumo_core.train import checkpoint, run_folder
from lemumo_core.train.engine import Run, Task
from lemumo_core.train.finetune_config import FinetuneConfig
from lemumo_core.train.finetuner import Finetuner


def conclude(run: Run, weights: Mapping[str, Tensor]) -> str:
    """Write the best weights, or the last ones where no frame was held out, and ``summary.json``.

    The summary holds ``steps``, and of the best weights the ``step`` after which they were so, the
    ``score`` (``held_out.score_of``) and the ``metrics`` by mode.
    """
    summary: dict[str, Any] = {"steps": run.steps}
    if run.config.held_out:
        best = checkpoint.open_checkpoint(run.out / run_folder.BEST)
        weights = best.tensors(checkpoint.MODEL)
        summary |= {name: best.state[name] for name in ("step", "score", "metrics")}
    run_folder.write_json(run.out / run_folder.SUMMARY, summary)
    run_folder.write_json(run.out / run_folder.MODEL_OPTIONS, asdict(run.config.model))
    save_file(dict(weights), run.out / run_folder.MODEL_WEIGHTS)
    which = "best" if run.config.held_out else "last"
    return (
        f"the {which} weights, for export/to_onnx.py --run {run.out}: "
        f"{run.out / run_folder.MODEL_WEIGHTS}"
    )


FINETUNING = Task(FinetuneConfig, Finetuner, conclude)

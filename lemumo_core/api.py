"""lemumo from Python: load a package, pretrain, fine-tune. ``import lemumo_core`` offers the same.

A perception of one camera frame:

    import lemumo_core

    model = lemumo_core.load("models/lemumo-tiny")
    perception = model(frame)               # a lemumo_core.Frame
    perception.detections, perception.depth_m

From a log to weights:

    run = lemumo_core.pretrain(lemumo_core.PretrainConfig(data="out/shards", steps=1000))
    run = lemumo_core.finetune(lemumo_core.FinetuneConfig(data="out/shards", weights=str(run)))
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lemumo_core.faults import Fault
from lemumo_core.frame import PUBLISHED_SCORE
from lemumo_core.inference.package import load_package
from lemumo_core.inference.pipeline import Pipeline

if TYPE_CHECKING:  # these need the training packages, which load() does without
    from lemumo_core.train.finetune.config import FinetuneConfig
    from lemumo_core.train.pretrain.config import PretrainConfig


def load(
    package: str | Path, backend: str = "auto", score_threshold: float = PUBLISHED_SCORE
) -> Pipeline:
    """Load a model package.

    Args:
        package: its folder.
        backend: ``RUNTIME[:PRECISION]``, e.g. ``onnxruntime`` or ``tensorrt:fp16``; ``auto``
            takes the one that costs the least here.
        score_threshold: detections below it are dropped.

    Returns:
        A callable: ``Frame`` in, ``Perception`` out.

    Raises:
        Fault: ``bad_package`` for a folder that is no whole package; as ``load_backend``.

    Example:
        >>> model = load("models/lemumo-tiny")  # doctest: +SKIP
        >>> model(frame).detections  # doctest: +SKIP
    """
    return Pipeline(load_package(Path(package)), backend, score_threshold)


def pretrain(config: PretrainConfig) -> Path:
    """Pretrain an encoder, as ``lemumo pretrain`` does.

    Args:
        config: of the run.

    Returns:
        The run's folder, which ``finetune`` takes as ``weights``.

    Raises:
        Fault: ``not_finite`` for a loss or gradient, ``stopped`` after a signal; for whatever the
            configuration asks for and is not there.
        ImportError: without the training packages; the message says how to install them.

    Example:
        >>> pretrain(PretrainConfig(steps=2))  # doctest: +SKIP
    """
    from lemumo_core.train.loop import train
    from lemumo_core.train.pretrain.recipe import PRETRAINING
    from lemumo_core.train.run_folder import new_name

    out = config.out or new_name(config.program)
    return _finished(train(PRETRAINING, replace(config, out=out)), out)


def finetune(config: FinetuneConfig) -> Path:
    """Fine-tune a perception model, as ``lemumo finetune`` does.

    Args:
        config: of the run; its ``weights`` may be the folder of ``pretrain``. Where ``model`` is
            the default one, that of the weights is taken.

    Returns:
        The run's folder, which ``lemumo export --run`` takes.

    Raises:
        Fault, ImportError: as ``pretrain``.

    Example:
        >>> finetune(FinetuneConfig(weights="out/pretrain/mine", steps=2))  # doctest: +SKIP
    """
    from lemumo_core.train.finetune.config import model_of
    from lemumo_core.train.finetune.recipe import FINETUNING
    from lemumo_core.train.loop import train
    from lemumo_core.train.run_folder import new_name

    if config.weights is not None and config.model == type(config)().model:
        config = replace(config, model=model_of(Path(config.weights), config.mode) or config.model)
    out = config.out or new_name(config.program)
    return _finished(train(FINETUNING, replace(config, out=out)), out)


def _finished(code: int, out: str) -> Path:
    """Return the folder of a run that is done."""
    from lemumo_core.train.loop import DONE, NOT_FINITE

    if code == NOT_FINITE:
        raise Fault("not_finite", f"a loss or gradient is not finite: {out} holds the step")
    if code != DONE:
        raise Fault("stopped", f'a signal stopped the run: resume="auto", out="{out}" goes on')
    return Path(out)

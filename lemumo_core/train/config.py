"""Options of a pretraining run. The defaults are a run of minutes on two CPU cores; recipes
(``training/recipes``) say the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from jsonargparse import Namespace

from lemumo_core.command_line import CommandLine
from lemumo_core.data.photometric import Photometric
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.model.config import ModelConfig
from lemumo_core.objectives.lejepa import LeJepa
from lemumo_core.objectives.vicreg import VicReg
from lemumo_core.preprocess import InputSpec


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised.

    Attributes:
        name: ``lejepa`` or ``vicreg``; the options below are those of ``lejepa``.
        weight: of SIGReg, lambda of the papers; invariance has 1 - weight.
        aux_unimodal: the reference's undocumented SIGReg on camera-only and companion-only passes.
        tie_unimodal: tie those passes to the joint embedding.
    """

    name: Literal["lejepa", "vicreg"] = "lejepa"
    weight: float = 0.1
    aux_unimodal: bool = False
    tie_unimodal: bool = False

    def build(self, global_views: int) -> LeJepa | VicReg:
        """The objective; ValueError as ``LeJepa``."""
        if self.name == "vicreg":
            return VicReg()
        return LeJepa(self.weight, self.aux_unimodal, self.tie_unimodal, global_views)


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with warm-up and cosine.

    Attributes:
        lr: at the end of the warm-up, which starts at a hundredth of it.
        final_lr: at the end of the cosine.
        warmup: share of all steps.
        weight_decay: decoupled, times the learning rate.
        decay_all: decay norms, biases, tokens and positions too, as the paper does; otherwise
            only the weights of linear maps and convolutions.
        clip: largest norm of the gradient; 0 does not clip.

    Raises:
        ValueError: for anything outside its range.
    """

    lr: float = 1e-3
    final_lr: float = 1e-6
    warmup: float = 0.1
    weight_decay: float = 0.05
    decay_all: bool = False
    clip: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.final_lr <= self.lr:
            raise ValueError(f"lr is {self.lr}, final_lr {self.final_lr}: 0 <= final_lr <= lr")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is {self.warmup}, a share of all steps lies in [0, 1]")
        if self.weight_decay < 0 or self.clip < 0:
            raise ValueError("weight_decay and clip must not be negative")


@dataclass(frozen=True)
class ScaleConfig:
    """How the work is spread over devices and memory.

    Attributes:
        sharding: ``ddp`` copies the model to every rank; ``fsdp`` shards weights, gradients and
            optimiser over them (``fully_shard``), for models too large for one device.
        checkpoint_activations: recompute the blocks in the backward pass, which saves memory. The
            first block of a fusion encoder keeps its activations.
        compile: compile the encoder. The first steps take minutes.
        workers: processes that load data, on each rank; 0 loads in the training process.
    """

    sharding: Literal["ddp", "fsdp"] = "ddp"
    checkpoint_activations: bool = False
    compile: bool = False
    workers: int = 0


@dataclass(frozen=True)
class LogConfig:
    """What is written when, in steps.

    Attributes:
        progress_every: between lines on the terminal.
        monitor_every: between RankMe and the other monitors.
        checkpoint_every: between checkpoints; the end and a signal save one as well.
        keep: so many checkpoints stay.
        probes: train linear probes for depth and classes beside the encoder, and compare it with
            the untrained one at the end.
        probe_steps: of that comparison, for either encoder.
        tensorboard: write event files, where TensorBoard is installed.

    Raises:
        ValueError: for a number below 1.
    """

    progress_every: int = 10
    monitor_every: int = 20
    checkpoint_every: int = 50
    keep: int = 2
    probes: bool = True
    probe_steps: int = 100
    tensorboard: bool = True

    def __post_init__(self) -> None:
        for name in ("progress_every", "monitor_every", "checkpoint_every", "keep", "probe_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"log.{name} is {getattr(self, name)}, must be at least 1")


SMALL_VIEWS = MultiCropConfig(
    global_size=(48, 96),
    local_size=(32, 48),
    global_scale=(0.5, 1.0),
    local_scale=(0.2, 0.5),
    photometric=Photometric(
        brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray_p=0.0, blur_p=0.0
    ),
)
"""Views alike enough to learn from in minutes; recipes take the paper's."""


@dataclass(frozen=True)
class PretrainConfig:
    """A pretraining run.

    Attributes:
        data: folder or URI of shards, or the name of a source (``data.sources.registry``).
        data_options: options of that source, e.g. ``--data waymo --data_options.root /data``. The
            synthetic world has the canvas's size and 160 frames unless they say otherwise.
        frame_cache: folder into which the source's frames are written first, as shards; for
            sources that are slow. The synthetic world's is ``<out>/frames`` by default.
        held_out: frames at the end of the source that are never trained on; the final comparison
            of probes uses them.
        shuffle_shards: frames are shuffled within groups of so many shards, and the groups among
            themselves, so that a corpus larger than its cache streams; 0 shuffles everything.
        out: the run's folder; by default a new one below ``out/pretrain``.
        resume: ``auto`` goes on from the newest good checkpoint in ``out``, where there is one.
        weights: start from the encoder of this run or checkpoint folder, or .safetensors file.
        seed: of the weights, the order of frames, views and dropped paths.
        batch: samples of a step, over all ranks.
        epochs: passes over the data.
        steps: instead of ``epochs``, unless 0.
        modality_dropout: probability that a sample loses its image or its companion.
        canvas: height and width of what views are cut from; by default the model's input.
        model, views, objective, optimiser, scale, log: see there.

    There is no gradient accumulation: SIGReg compares the whole batch with a Gaussian, so that k
    small batches are not one large one. ``checkpoint_activations`` and more ranks are exact.

    Raises:
        ValueError: for anything outside its range.
    """

    data: str = "synthetic"
    data_options: dict[str, Any] = field(default_factory=dict)
    frame_cache: str | None = None
    held_out: int = 32
    shuffle_shards: int = 0
    out: str | None = None
    resume: Literal["auto"] | None = None
    weights: str | None = None
    seed: int = 0
    batch: int = 16
    epochs: float = 1.0
    steps: int = 160
    modality_dropout: float = 0.0
    canvas: tuple[int, int] | None = None
    model: ModelConfig = field(default_factory=lambda: ModelConfig(height=96, width=192))
    views: MultiCropConfig = SMALL_VIEWS
    objective: ObjectiveConfig = field(default_factory=lambda: ObjectiveConfig(weight=0.5))
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        if self.seed < 0 or self.held_out < 0 or self.shuffle_shards < 0 or self.steps < 0:
            raise ValueError("seed, held_out, shuffle_shards and steps must not be negative")
        if self.batch < 2:
            raise ValueError(f"batch is {self.batch}: batch statistics need at least 2 samples")
        if not self.steps and self.epochs <= 0:
            raise ValueError(f"epochs is {self.epochs}, must be positive where steps is 0")
        if not 0 <= self.modality_dropout <= 1:
            raise ValueError(f"modality_dropout is {self.modality_dropout}, must be in [0, 1]")
        if self.resume == "auto" and self.out is None:
            raise ValueError("resume=auto needs the run's folder: add --out")
        _ = self.canvas_spec, self.objective.build(self.views.global_views)  # check the rest

    @property
    def canvas_spec(self) -> InputSpec:
        """The canvas of samples."""
        spec = self.model.input_spec
        height, width = self.canvas or (spec.height, spec.width)
        return InputSpec(height, width, spec.companion, spec.companion_channels)

    def total_steps(self, frames: int) -> int:
        """Steps of the run over so many frames."""
        return self.steps or max(1, round(self.epochs * frames / self.batch))


FREE = {"data", "data_options", "frame_cache", "out", "resume", "weights", "scale", "log"}
"""What may change when a run is resumed: where things lie, how the work is spread, what is
logged. The data must be as many frames."""


def plain(config: PretrainConfig) -> dict[str, Any]:
    """The configuration as YAML and JSON hold it."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values


def identity(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a plain configuration, what decides the numbers of a run."""
    return {name: value for name, value in values.items() if name not in FREE}


def digest(values: Mapping[str, Any]) -> str:
    """sha256 of the identity of a plain configuration."""
    text = json.dumps(identity(values), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def command_line(prog: str | None = None) -> CommandLine:
    """A parser of the options of a run."""
    parser = CommandLine(prog=prog)
    parser.add_class_arguments(PretrainConfig)
    return parser


def parsed(parser: CommandLine, options: Namespace) -> PretrainConfig:
    """The run that parsed options describe.

    Raises:
        ValueError: for a value outside its range.
    """
    values = parser.instantiate(options)
    return PretrainConfig(**{one.name: values[one.name] for one in fields(PretrainConfig)})


def from_plain(values: Mapping[str, Any]) -> PretrainConfig:
    """The inverse of ``plain``."""
    parser = command_line()
    return parsed(parser, parser.parse_object(dict(values)))

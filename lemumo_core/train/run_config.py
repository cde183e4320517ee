"""Options that every training run has, and where they come from: the command line and YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, TypeVar

from jsonargparse import Namespace

from lemumo_core.command_line import CommandLine
from lemumo_core.data.sources.members import Data
from lemumo_core.data.sources.options import SourceOptions
from lemumo_core.methods.method import MethodOptions, Needs
from lemumo_core.methods.registry import class_path, load_methods
from lemumo_core.model.config import BEFORE, ModelConfig
from lemumo_core.preprocess import InputSpec
from lemumo_core.taxonomy import read_classes
from lemumo_core.train import compatibility
from lemumo_core.train.trackers import TrackerName


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimiser with warm-up and cosine.

    Attributes:
        name: ``adamw``, or ``lars`` (``optim.Lars``) for large batches on convolutions.
        lr: learning rate at the end of the warm-up, which starts at a hundredth of it.
        final_lr: learning rate at the end of the cosine.
        warmup: share of all steps.
        weight_decay: weight decay; of AdamW decoupled, times the learning rate.
        decay_all: decay all, as the paper does, not the weights of maps and convolutions alone.
        clip: largest norm of the gradient; 0 does not clip.
        momentum: of LARS.
        trust: trust coefficient of LARS.
        per_epoch: the learning rate changes after an epoch only; for runs by ``epochs``.

    Raises:
        ValueError: for anything outside its range.
    """

    name: Literal["adamw", "lars"] = "adamw"
    lr: float = 1e-3
    final_lr: float = 1e-6
    warmup: float = 0.1
    weight_decay: float = 0.05
    decay_all: bool = False
    clip: float = 1.0
    momentum: float = 0.9
    trust: float = 1e-3
    per_epoch: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.final_lr <= self.lr:
            raise ValueError(f"lr is {self.lr}, final_lr {self.final_lr}: 0 <= final_lr <= lr")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is {self.warmup}, a share of all steps lies in [0, 1]")
        if self.weight_decay < 0 or self.clip < 0:
            raise ValueError("weight_decay and clip must not be negative")
        if not 0 <= self.momentum < 1 or self.trust <= 0:
            raise ValueError("momentum must be in [0, 1) and trust positive")


@dataclass(frozen=True)
class ScaleConfig:
    """How the work is spread over devices and memory.

    Attributes:
        sharding: ``ddp`` copies the model to every rank; ``fsdp`` shards weights, gradients and
            optimiser over them (``fully_shard``), for models too large for one device.
        checkpoint_activations: recompute the blocks in the backward pass, which saves memory
            (``Method.units``). The first block of a fusion encoder keeps its activations.
        compile: compile networks and losses (``Method.units``). The first steps take minutes.
        bfloat16: also compute in bfloat16 on a CPU, one that has instructions for it (AVX512-BF16
            or AMX), where a step of pretraining takes about 0.7 times as long. GPUs always do.
        workers: processes that load data, on each rank; 0 loads in the training process.
    """

    sharding: Literal["ddp", "fsdp"] = "ddp"
    checkpoint_activations: bool = False
    compile: bool = False
    bfloat16: bool = False
    workers: int = 0


@dataclass(frozen=True)
class LogConfig:
    """Options of logging, in steps.

    Attributes:
        progress_every: between lines on the terminal.
        checkpoint_every: between checkpoints; the end and a signal save one as well.
        keep: so many checkpoints stay.
        tensorboard: write event files, where TensorBoard is installed.
        trackers: experiment trackers that steps are sent to as well: mlflow, wandb. Where they are
            comes from their own environment variables.

    Raises:
        ValueError: for a number below 1.
    """

    progress_every: int = 10
    checkpoint_every: int = 50
    keep: int = 2
    tensorboard: bool = True
    trackers: tuple[TrackerName, ...] = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(f"log.{name} is {value}, must be at least 1")


RESUMABLE_CHANGES = frozenset(
    {"classes", "data", "data_options", "frame_cache", "out", "resume", "weights", "scale", "log"}
)
"""Options that may change when a run is resumed: where things lie, how the work is spread, what is
logged. The data must be as many frames."""


@dataclass(frozen=True)
class RunConfig:
    """Options of every training run.

    Attributes:
        data: a bag or a folder of bags, a folder or URI of shards, a video, or the name of a source
            (``data.sources.registry``), fastest of shards; or several (``data.sources.members``).
        data_options: of a single source; by default the synthetic world has the canvas's size.
        frame_cache: folder into which the frames of slow sources are written first, as shards;
            by default those of the synthetic world, into ``<out>/frames``.
        val_frames: frames that are never trained on but validated on.
        val: where they come from: the ``end`` of the source, or whole ``recordings`` (bags,
            drives: cut where no frame comes for ten seconds) drawn by the seed, no frame of which
            is trained on.
        fraction: share of the other frames to train on, of fine-tuning of those with labels, drawn
            by the seed: a smaller share is part of a larger one.
        shuffle_shards: frames are shuffled within groups of so many shards, and the groups among
            themselves, so that a corpus larger than its cache streams; 0 shuffles everything.
        out: the run's folder; by default a new one below ``out``.
        resume: ``auto`` goes on from the newest good checkpoint in ``out``, where there is one.
        weights: start from those of this run or checkpoint folder, or .safetensors file.
        seed: of the weights, the order of frames, views and dropped paths.
        batch: samples of a step, over all ranks.
        epochs: passes over the data.
        steps: instead of ``epochs``, unless 0.
        canvas: height and width of what views are cut from; by default the model's input.
        classes: the classes and what labels call them: a class file, or the name of a shipped one
            (``taxonomy.shipped_names``), such as kitti or nuscenes. ``model`` then holds what it
            says; by default the classes of the weights, or the default ones.
        model, optimizer, scale, log: see there.

    Raises:
        ValueError: for anything outside its range.
    """

    program: ClassVar[str]  # its name in ``training``
    resumable_changes: ClassVar[frozenset[str]] = RESUMABLE_CHANGES
    run_suffix: ClassVar[str] = ""  # of a run's folder, beside what the program's --out names
    learns_from_labels: ClassVar[bool] = False  # whether frames without labels teach nothing
    rendered_frames: ClassVar[int] = 160  # of streets whose number no option says

    data: Data = "synthetic"
    data_options: SourceOptions = field(default_factory=dict)
    frame_cache: str | None = None
    val_frames: int = 32
    val: Literal["end", "recordings"] = "end"
    fraction: float = 1.0
    shuffle_shards: int = 0
    out: str | None = None
    resume: Literal["auto"] | None = None
    weights: str | None = None
    seed: int = 0
    batch: int = 16
    epochs: float = 1.0
    steps: int = 160
    canvas: tuple[int, int] | None = None
    classes: str | None = None
    model: ModelConfig = field(default_factory=lambda: ModelConfig(height=96, width=192))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        if self.seed < 0 or self.val_frames < 0 or self.shuffle_shards < 0 or self.steps < 0:
            raise ValueError("seed, val_frames, shuffle_shards and steps must not be negative")
        if self.batch < 2:
            raise ValueError(f"batch is {self.batch}: batch statistics need at least 2 samples")
        if not self.steps and self.epochs <= 0:
            raise ValueError(f"epochs is {self.epochs}, must be positive where steps is 0")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}, must be above 0 and at most 1")
        if self.resume == "auto" and self.out is None:
            raise ValueError("resume=auto needs the run's folder: add --out")
        _ = self.canvas_spec  # checks the canvas

    @classmethod
    def defaults(cls, options: Namespace) -> dict[str, Any]:
        """Defaults, by the names of options, that other options decide.

        Raises:
            Fault: as ``open_checkpoint``.
        """
        return {}

    @property
    def canvas_spec(self) -> InputSpec:
        """Canvas of the samples."""
        spec = self.model.input_spec
        height, width = self.canvas or (spec.height, spec.width)
        return replace(spec, height=height, width=width)

    @property
    def needs(self) -> Needs:
        """Data that samples must carry."""
        raise NotImplementedError

    @property
    def whole_epochs(self) -> float:
        """Passes over the data, 0 where ``steps`` decide."""
        return 0.0 if self.steps else self.epochs

    def total_steps(self, frames: int) -> int:
        """Steps of the run over so many frames."""
        return self.steps or max(1, round(self.epochs * frames / self.batch))


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Return the configuration as YAML and JSON hold it."""
    values = asdict(config)
    for name in values:
        one = getattr(config, name)
        if isinstance(one, MethodOptions):
            values[name] = {"class_path": class_path(one), "init_args": values[name]}
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def fingerprint(values: Mapping[str, Any], changes: Set[str]) -> dict[str, Any]:
    """Return what decides the numbers of a run: all of a ``to_dict`` but the ``changes``."""
    return {name: value for name, value in values.items() if name not in changes}


C = TypeVar("C", bound=RunConfig)


class RunCommandLine(CommandLine):
    """Parser of a training program, which also reads the options of version 0.1.

    jsonargparse makes parsers of this class for the options of a method, too: those have no
    ``program``.
    """

    program = ""

    def parse_args(self, args: Sequence[str], **options: Any) -> Namespace:  # type: ignore[override]
        """As ``CommandLine.parse_args``."""
        return super().parse_args(compatibility.arguments(args, self.program), **options)


def command_line(kind: type[RunConfig], prog: str | None = None) -> CommandLine:
    """Return a parser of the options of a kind of run."""
    load_methods()
    parser = RunCommandLine(prog=prog)
    parser.program = kind.program
    parser.add_class_arguments(kind)
    return parser


def from_namespace(kind: type[C], parser: CommandLine, options: Namespace) -> C:
    """Return the run that parsed options describe.

    Raises:
        ValueError: for a value outside its range.
    """
    values = parser.instantiate(options)
    return kind(**{one.name: values[one.name] for one in fields(kind)})


def from_dict(kind: type[C], values: Mapping[str, Any]) -> C:
    """Rebuild a configuration from ``to_dict``, of this version or an earlier one."""
    parser, model = command_line(kind), {**BEFORE, **values.get("model", {})}
    return from_namespace(kind, parser, parser.parse_object({**values, "model": model}))


def defaults_of_classes(name: str | None) -> dict[str, Any]:
    """Return the options of a model that a class file decides; none without a file.

    Raises:
        Fault, FileNotFoundError: as ``read_classes``.
    """
    if name is None:
        return {}
    classes = read_classes(name)
    return {
        "model.detection_classes": classes.detection_classes,
        "model.segmentation_classes": classes.segmentation_classes,
        "model.class_rules": classes.rules.to_dict(),
    }

"""Le MuMo JEPA as a ``Method``: its options, networks, views and loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lemumo_core.data.modality_dropout import drop_modalities
from lemumo_core.data.samples import Batch
from lemumo_core.data.views import MultiCrop, MultiCropConfig, View, inputs_by_sample
from lemumo_core.losses.lejepa import LeJepa
from lemumo_core.losses.loss import Loss
from lemumo_core.losses.vicreg import VicReg
from lemumo_core.methods.brief_run import SMALL_VIEWS
from lemumo_core.methods.encoder_method import EncoderMethod, EncoderOptions, keep_modality
from lemumo_core.methods.lemumo.correspondences import sample_shared_tokens
from lemumo_core.methods.lemumo.depth_branch import DepthBranch, has_depth_head
from lemumo_core.methods.lemumo.masked_returns import MaskedReturns
from lemumo_core.methods.lemumo.monitors import Monitors
from lemumo_core.methods.lemumo.objectives import (
    MASK_RETURNS,
    MASKED_WEIGHT,
    Objective,
    joint_objective,
)
from lemumo_core.methods.lemumo.projector import Encoded, Projector
from lemumo_core.methods.masked_modeling.masking import check_maskable
from lemumo_core.methods.masked_modeling.objective import Masked, MaskedObjective
from lemumo_core.methods.masked_modeling.options import MaskingOptions
from lemumo_core.methods.method import (
    Draw,
    Method,
    ParameterGroup,
    Step,
    Units,
    mixed_precision,
)
from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.patch_embed import PatchEmbed
from lemumo_core.preprocess import InputSpec


@dataclass(frozen=True)
class LeMuMo(EncoderOptions):
    """Le MuMo JEPA (arXiv 2603.24327): a joint embedding of views of both sensors.

    The defaults are for a run of minutes on two CPU cores; recipes give the paper's.

    Attributes:
        objective: ``lejepa``, the paper's; ``visreg`` (LeJEPA with VISReg in SIGReg's place); or
            ``vicreg``, the default, which holds more of the classes.
        sigreg_weight: weight of SIGReg in ``lejepa`` and of VISReg in ``visreg``, by default 0.1,
            lambda of the papers; invariance has 1 - lambda.
        aux_unimodal: add the reference code's undocumented SIGReg on passes of a single sensor.
        tokens: apply the objective, without those passes, also to the tokens of the global views
            at points that all of them show. Ours.
        mask_returns: weight of masked LiDAR modelling on the global views (``MaskedReturns``);
            0 leaves it out. It also trains the neck and the depth head of the deploy heads, with
            which fine-tuning goes on. By default 15 (1.5 beside LeJEPA) for a model with LiDAR and
            deploy heads, else 0. Ours.
        masked_weight: weight of masked modelling on a further view (``masked``); 0 leaves it out.
            By default 3 (0.3 beside LeJEPA), and 0 for variant ``early``, whose patches cannot be
            masked. Ours.
        masked: what that view is, by default one of the size of the global views, and what is
            masked in it.
        modality_dropout: probability that a view loses its image or its companion.
        views: views of a sample.

    Raises:
        ValueError: for anything outside its range.
    """

    objective: Objective = "vicreg"
    sigreg_weight: float | None = None
    aux_unimodal: bool = False
    tokens: bool = False
    mask_returns: float | None = None
    masked_weight: float | None = None
    masked: MaskingOptions = field(default_factory=MaskingOptions)
    modality_dropout: float = 0.0
    views: MultiCropConfig = SMALL_VIEWS

    def __post_init__(self) -> None:
        if self.mask_returns is not None and self.mask_returns < 0:
            raise ValueError(f"mask_returns is {self.mask_returns}, must not be negative")
        if self.masked_weight is not None and self.masked_weight < 0:
            raise ValueError(f"masked_weight is {self.masked_weight}, must not be negative")
        if not 0 <= self.modality_dropout <= 1:
            raise ValueError(f"modality_dropout is {self.modality_dropout}, must be in [0, 1]")
        self.joint_objective()  # checks the rest
        if self.tokens and not self.views.global_views_overlap:
            raise ValueError(
                f"global crops of scale {self.views.global_scale} and aspect {self.views.aspect} "
                "need not overlap, and method.tokens compares what they share: every side of a "
                "crop must be longer than half of the canvas"
            )

    def resolve(self, model: ModelConfig, canvas: InputSpec) -> LeMuMo:
        """Return the options with weights and the size of ``masked`` filled in."""
        masked_weight = self.masked_weight
        if masked_weight is None:
            masked_weight = 0.0 if model.variant == "early" else MASKED_WEIGHT[self.objective]
        elif masked_weight:
            check_maskable(model)
        masked = replace(self.masked, size=self.masked.size or self.views.global_size)
        mask_returns = self.mask_returns
        if mask_returns is None:
            mask_returns = MASK_RETURNS[self.objective] if has_depth_head(model) else 0.0
        elif mask_returns and not has_depth_head(model):
            raise ValueError(
                "method.mask_returns needs LiDAR and deploy heads, and the model has "
                f"{model.companion} and {model.head_family} heads: set it to 0"
            )
        return replace(self, mask_returns=mask_returns, masked_weight=masked_weight, masked=masked)

    def build(self, model: ModelConfig, canvas: InputSpec) -> Method:
        """See ``MethodOptions``."""
        return LeMuMoMethod(self, model, canvas)

    def joint_objective(self) -> LeJepa | VicReg:
        """Return the objective on projections; ValueError as ``objectives.joint_objective``."""
        views = self.views.global_views
        return joint_objective(self.objective, self.sigreg_weight, self.aux_unimodal, views)

    def token_objective(self) -> LeJepa | VicReg | None:
        """Return the objective on tokens, None without ``tokens``."""
        return replace(self, aux_unimodal=False).joint_objective() if self.tokens else None

    def masked_returns(self, depth_max_m: float) -> MaskedReturns | None:
        """Return the objective on LiDAR returns, None without it."""
        if not self.mask_returns:
            return None
        return MaskedReturns(self.mask_returns, max_depth_m=depth_max_m)


class LeMuMoViews(NamedTuple):
    """Global views and, unless there are none, local ones; and those of masked modelling."""

    joint: tuple[View, ...]
    masked: Masked | None = None


class LeMuMoMethod(EncoderMethod):
    """An encoder with projector and, for masked LiDAR modelling, neck and depth head.

    The networks compute in ``mixed_precision``, the losses in float32.

    Args:
        options: resolved options.
        model: whose encoder is trained.
        canvas: of the samples.
    """

    def __init__(self, options: LeMuMo, model: ModelConfig, canvas: InputSpec):
        before = torch.get_rng_state()
        super().__init__(options, model)
        after = torch.get_rng_state()
        # A seed keeps giving the weights of version 0.1, which drew the projector between the
        # patch embeddings and the blocks (``Encoder``).
        torch.set_rng_state(before)
        PatchEmbed(model, self.encoder.modalities)
        self.projector = Projector(model.token_dim)
        torch.set_rng_state(after)
        self.options = options
        self.crop = MultiCrop(options.views)
        self.objective, self.token_objective = options.joint_objective(), options.token_objective()
        self.masked_returns = options.masked_returns(canvas.depth_max_m)
        self.depth_branch: DepthBranch | None = None
        if self.masked_returns is not None:
            height, width = options.views.global_size
            views = replace(model, height=height, width=width)
            self.depth_branch = DepthBranch(views, self.encoder.modalities)
        self.masked: MaskedObjective | None = None
        if options.masked_weight:
            self.masked = MaskedObjective(options.masked, model, self.encoder.modalities)
        self._monitors = Monitors(self.encoder, self.projector, options.views.global_views)

    def views(self, batch: Batch, draw: Draw, rank: int, world: int) -> LeMuMoViews:
        """Cut the views of a step.

        Modality dropout acts view by view: what one sensor sees is so tied to what both see.
        """
        views = self.crop(batch, draw("views"), rank, world)
        rate = self.options.modality_dropout
        if rate:
            views = drop_modalities(views, len(batch), rate, draw("modality dropout"), rank, world)
        masked = self.masked.views(batch, draw, rank, world) if self.masked else None
        return LeMuMoViews(views, masked)

    def compile(self, **options: Any) -> None:
        """Compile views, and networks with losses; ``options`` as of ``torch.compile``."""
        self.crop.compile(**options)
        if self.masked is not None:
            self.masked.crop.compile(**options)
        self._outcome = torch.compile(self._outcome, **options)  # type: ignore[method-assign]

    def units(self) -> Units:
        """Return the encoder's blocks, and all of it to compile."""
        return Units(self.encoder.units(), (self,))

    def forward(self, views: LeMuMoViews, step: int, dense: bool = False) -> Step:
        """See ``Method``. The view of ``Step`` holds the global views with all their returns."""
        # As a tensor, the number of the step is no constant of a compiled graph.
        return self._outcome(views, torch.tensor(step), dense)

    def _outcome(self, views: LeMuMoViews, step: Tensor, dense: bool) -> Step:
        asked = dense or self.token_objective is not None or self.masked_returns is not None
        whole, *local = views.joint
        seen = whole
        if self.masked_returns is not None:
            seen = self.masked_returns.mask(whole, self.options.views.global_views)
        # One context for all views, in which weights are cast once.
        with mixed_precision(whole.image.device):
            encoded, tokens = self._encode([seen, *local], views.masked, asked)
            loss = self._loss(encoded, whole, seen, step)
            if self.masked is not None and views.masked is not None:
                assert self.options.masked_weight is not None
                total, terms = self.masked.loss(tokens, views.masked, step)
                terms = {f"masked_{name}": value for name, value in terms.items()}
                total = loss.total + self.options.masked_weight * total
                loss = Loss(total, loss.terms | terms)
        projections, embeddings, tokens = (x.detach() for x in encoded[0][0])
        monitored = {"embeddings": embeddings, "projections": projections}
        return Step(loss, whole, tokens if dense else None, monitored)

    def _loss(self, encoded: list[list[Encoded]], whole: View, seen: View, step: Tensor) -> Loss:
        """Run the objectives on global and local views; ``seen`` of the ``whole`` was encoded."""
        projections, *alone = (torch.cat([one.projections for one in of]) for of in encoded)
        if isinstance(self.objective, LeJepa):
            loss = self.objective(projections, step, alone)
        else:
            loss = self.objective(projections, step)
        tokens = encoded[0][0].tokens
        if self.token_objective is not None:
            count = self.options.views.global_views
            shared = sample_shared_tokens(tokens, seen.crops, count)
            total, terms = self.token_objective(shared, step)
            terms = {f"token_{name}": value for name, value in terms.items()}
            loss = Loss(loss.total + total, loss.terms | terms)
        if self.masked_returns is not None and self.depth_branch is not None:
            depth_m, confidence = self.depth_branch(tokens, seen.inputs)
            total, terms = self.masked_returns(depth_m, confidence, whole)
            loss = Loss(loss.total + total, loss.terms | terms)
        return loss

    def _encode(
        self, views: Sequence[View], masked: Masked | None, dense: bool
    ) -> tuple[list[list[Encoded]], Tensor]:
        """Encode all that a step sees at once.

        Returns:
            The views with both sensors, and for ``aux_unimodal`` with each of them alone; tokens
            of the last, which are those of masked modelling if there is any.
        """
        batch = len(views[0].image) // self.options.views.global_views
        passes = [[view.inputs for view in views]]
        if isinstance(self.objective, LeJepa) and self.objective.aux_unimodal:
            passes += [[keep_modality(x, name) for x in passes[0]] for name in MODALITIES]
        inputs = [inputs_by_sample(one, batch) for of in passes for one in of]
        embedded = [self.encoder.embed(one) for one in inputs]
        asked = [dense, *(False for _ in inputs[1:])]
        if self.masked is not None and masked is not None:
            embedded.append(self.masked.embed(self.encoder, masked))
            asked.append(True)
        encodings = self.encoder.encode_all(embedded, asked)
        rest = iter(encodings)
        encoded = [[self.projector.encoded(next(rest), batch) for _ in of] for of in passes]
        return encoded, encodings[-1].tokens

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return all parameters as one group, in the order of version 0.1.

        That is patch embeddings, projector, blocks, depth branch; in another one gradient norms
        differ by rounding.
        """
        names = [name for name, _ in self.named_parameters()]
        inner = [name.removeprefix("encoder.") for name in names if name.startswith("encoder.")]
        first = [f"encoder.{n}" for n in inner if "." not in n or n.startswith("patch_embed.")]
        first += [name for name in names if name.startswith("projector.")]
        parameters = dict(self.named_parameters())
        ordered = dict.fromkeys([*first, *names])
        return [ParameterGroup([(name, parameters[name]) for name in ordered])]

    def monitors(self, outcome: Step, step: int) -> dict[str, float]:
        """See ``Monitors.observe``."""
        assert outcome.view is not None
        return self._monitors.observe(step, outcome.view, **outcome.monitored)

    def exported(self) -> tuple[ModelConfig, dict[str, Tensor]]:
        """Return the encoder and, if there is one, the depth branch's neck and depth head."""
        model, weights = super().exported()
        if self.depth_branch is not None:
            weights |= self.depth_branch.state_dict()
        return model, weights

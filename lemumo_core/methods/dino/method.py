"""DINO with iBOT's token loss as a ``Method``.

A student sees views of a sample and matches what a teacher makes of the others (DINO, arXiv
2104.14294); of cells that are masked in its global views it matches what the teacher makes of the
tokens there (iBOT, arXiv 2111.07832). The teacher is the moving average of the student. Views show
image and companion together, and a masked cell hides both.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lemumo_core.data.samples import Batch
from lemumo_core.data.views import (
    MultiCrop,
    MultiCropConfig,
    View,
    inputs_by_sample,
    transpose_rows,
)
from lemumo_core.distributed import gather_rows
from lemumo_core.losses.loss import Loss
from lemumo_core.losses.self_distillation import sinkhorn_knopp, token_loss, view_loss
from lemumo_core.methods.brief_run import SMALL_VIEWS
from lemumo_core.methods.collapse import CollapseWatch
from lemumo_core.methods.dino.head import Head
from lemumo_core.methods.dino.masking import BlockMasks, draw_block_masks
from lemumo_core.methods.encoder_method import EncoderMethod, EncoderOptions
from lemumo_core.methods.masked_modeling.masking import check_maskable, embed_masked
from lemumo_core.methods.method import (
    Draw,
    Method,
    Step,
    Units,
    evaluating,
    mixed_precision,
)
from lemumo_core.model.config import PATCH, ModelConfig
from lemumo_core.model.encoder import Encoder, Encoding
from lemumo_core.preprocess import InputSpec

CURE = "Lower the learning rate, enlarge the batch or raise method.momentum."


@dataclass(frozen=True)
class DINO(EncoderOptions):
    """DINO (arXiv 2104.14294) with the token loss of iBOT (arXiv 2111.07832).

    The defaults are for a run of minutes on two CPU cores. The papers have a momentum of 0.996,
    65536 and 8192 prototypes, hidden layers of 2048, and freeze the prototypes in the first epoch.

    Attributes:
        token_weight: weight of iBOT's loss; 0 masks nothing and leaves DINO alone.
        mask_share: range of the share of a view's cells that is masked.
        momentum: of the teacher's weights at the first step; it rises to 1 by half a cosine.
        temperature: of the student's softmax.
        teacher_temperature: of the teacher's.
        prototypes: number of prototypes.
        hidden: width of the head's hidden layers.
        views: views of a sample; the teacher sees the global ones.

    Raises:
        ValueError: for anything outside its range.
    """

    token_weight: float = 1.0
    mask_share: tuple[float, float] = (0.1, 0.5)
    momentum: float = 0.99
    temperature: float = 0.1
    teacher_temperature: float = 0.04
    prototypes: int = 1024
    hidden: int = 512
    views: MultiCropConfig = SMALL_VIEWS

    def __post_init__(self) -> None:
        low, high = self.mask_share
        if not 0 < low <= high <= 1:
            raise ValueError(f"mask_share is {self.mask_share}, must be 0 < low <= high <= 1")
        if self.token_weight < 0 or not 0 <= self.momentum <= 1:
            raise ValueError("token_weight must not be negative, and momentum lie in [0, 1]")
        if self.temperature <= 0 or self.teacher_temperature < 0.0125:
            raise ValueError("temperature must be positive, teacher_temperature at least 0.0125")
        if self.prototypes < 2 or self.hidden < 1:
            raise ValueError("prototypes must be at least 2, and hidden at least 1")
        if self.views.global_views + self.views.local_views < 2:
            raise ValueError("DINO compares views of a sample: views must be two or more")

    def resolve(self, model: ModelConfig, canvas: InputSpec) -> DINO:
        """Return the options; ValueError for variant ``early`` with masks."""
        if self.token_weight:
            check_maskable(model)
        return self

    def build(self, model: ModelConfig, canvas: InputSpec) -> Method:
        """See ``MethodOptions``."""
        return DinoMethod(self, model)


class DinoViews(NamedTuple):
    """Global views and, unless there are none, local ones; and the masks of the former."""

    crops: tuple[View, ...]
    masks: BlockMasks | None


class DinoMethod(EncoderMethod):
    """A student, ``encoder`` and ``head``, and its teacher.

    ``features`` and ``exported`` are the teacher's: as an average of many students it has better
    features throughout training (arXiv 2104.14294, figure 6).

    Args:
        options: resolved options.
        model: whose encoder is trained.
    """

    def __init__(self, options: DINO, model: ModelConfig):
        super().__init__(options, model)
        self.options, self.crop = options, MultiCrop(options.views)
        self.head = Head(model.token_dim, options.hidden, options.prototypes)
        student = {"encoder": self.encoder, "head": self.head}
        self.teacher = nn.ModuleDict(copy.deepcopy(student)).requires_grad_(False)
        self._watch = CollapseWatch(CURE)

    @property
    def exported_encoder(self) -> Encoder:
        """The teacher's."""
        encoder = self.teacher["encoder"]
        assert isinstance(encoder, Encoder)
        return encoder

    def views(self, batch: Batch, draw: Draw, rank: int, world: int) -> DinoViews:
        """Cut global and local views, and draw the masks of the former."""
        options, crops = self.options, self.crop(batch, draw("views"), rank, world)
        if not options.token_weight:
            return DinoViews(crops, None)
        count, size = options.views.global_views, options.views.global_size
        rows = torch.arange(count * world * len(batch)).view(count, world, -1)[:, rank].flatten()
        grid = size[0] // PATCH, size[1] // PATCH
        masks = draw_block_masks(
            rows, count * world * len(batch), grid, options.mask_share, draw("masks")
        )
        return DinoViews(crops, masks.to(crops[0].image.device))

    def forward(self, views: DinoViews, step: int, dense: bool = False) -> Step:
        """See ``Method``. The tokens of ``Step`` are the teacher's."""
        options, crops, masks = self.options, *views
        whole = crops[0]
        batch = len(whole.image) // options.views.global_views
        with torch.no_grad(), evaluating(self.teacher):
            (seen,) = self._encode(self.exported_encoder, [whole], None, True)
        encodings = self._encode(self.encoder, crops, masks, masks is not None)
        cosines = self._cosines(self.head, torch.cat([one.cls for one in encodings]))
        log_p = (cosines / options.temperature).log_softmax(-1).unflatten(0, (-1, batch))
        targets = self._targets(seen.cls).unflatten(0, (-1, batch))
        terms = {"dino": view_loss(log_p, targets)}
        total = terms["dino"]
        if masks is not None:
            masked, truth = (x.tokens.flatten(0, 1)[masks.at] for x in (encodings[0], seen))
            log_p_tokens = self._cosines(self.head, masked).div(options.temperature).log_softmax(-1)
            terms["ibot"] = token_loss(log_p_tokens, self._targets(truth), masks.weights)
            total = total + options.token_weight * terms["ibot"]
        return Step(
            Loss(total, {name: value.detach() for name, value in terms.items()}),
            whole,
            seen.tokens if dense else None,
            {"embeddings": seen.cls, "log_p": log_p[: options.views.global_views].detach()},
        )

    def _encode(
        self, encoder: Encoder, views: Sequence[View], masks: BlockMasks | None, dense: bool
    ) -> list[Encoding]:
        """Encode views of B samples at once; rows as in ``View``.

        Args:
            encoder: of the student or the teacher.
            views: the global ones, and perhaps local ones.
            masks: cells that are hidden in the global ones.
            dense: whether tokens of the global ones are asked for.
        """
        batch = len(views[0].image) // self.options.views.global_views
        whole, *local = (inputs_by_sample(one.inputs, batch) for one in views)
        with mixed_precision(views[0].image.device):
            if masks is None:
                embedded = [encoder.embed(whole)]
            else:
                shown = masks.shown(transpose_rows(masks.hidden, batch))
                embedded = [embed_masked(encoder, whole, shown)]
            embedded += [encoder.embed(one) for one in local]
            encodings = encoder.encode_all(embedded, [dense, *(False for _ in local)])
        return [
            Encoding(*(transpose_rows(x, len(x) // batch) for x in encoding))
            for encoding in encodings
        ]

    def _cosines(self, head: nn.Module, tokens: Tensor) -> Tensor:
        with mixed_precision(tokens.device):
            cosines: Tensor = head(tokens)
        return cosines

    @torch.no_grad()
    def _targets(self, tokens: Tensor) -> Tensor:
        cosines = self._cosines(self.teacher["head"], tokens)
        return sinkhorn_knopp(cosines, self.options.teacher_temperature)

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Move the teacher towards the student."""
        rise = (1 + math.cos(math.pi * step / steps)) / 2
        self._move_teacher((1 - self.options.momentum) * rise)

    def initialize(self) -> None:
        """Load the weights that ``image_weights`` names, also into the teacher."""
        super().initialize()
        self._move_teacher(1.0)

    def after_load(self, parts: Collection[str]) -> None:
        """Begin with the student as its own teacher, where the weights have none."""
        if "teacher" not in parts:
            self._move_teacher(1.0)

    @torch.no_grad()
    def _move_teacher(self, share: float) -> None:
        student = dict(self.named_parameters())
        for name, parameter in self.teacher.named_parameters():
            parameter.lerp_(student[name], share)

    def units(self) -> Units:
        """Return the blocks of student and teacher, and the method to compile."""
        encoders = self.encoder, self.exported_encoder
        return Units([block for one in encoders for block in one.units()], (self,))

    def compile(self, **options: Any) -> None:
        """Compile both encoders, with what they see; ``options`` as of ``torch.compile``."""
        self._encode = torch.compile(self._encode, **options)  # type: ignore[method-assign]

    def monitors(self, outcome: Step, step: int) -> dict[str, float]:
        """Measure collapse, and how many prototypes are in use.

        Returns:
            What ``CollapseWatch`` gives of the teacher's CLS. ``prototypes_used``: the exponential
            of the entropy of the student's mean probabilities, between 1 and their number.
        """
        embeddings = gather_rows(outcome.monitored["embeddings"].float())
        p = gather_rows(outcome.monitored["log_p"].transpose(0, 1)).exp().mean((0, 1)).double()
        used = float(np.exp(-torch.xlogy(p, p).sum().item()))
        return {**self._watch.observe(step, embeddings.cpu().numpy()), "prototypes_used": used}

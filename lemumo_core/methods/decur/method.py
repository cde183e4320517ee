"""DeCUR as a ``Method``: its options, networks, views and loss."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lemumo_core.data.samples import Batch
from lemumo_core.data.views import clean_view
from lemumo_core.losses.decur import REPO_WEIGHTS, SUM_WEIGHTS, DecurLoss, TermWeights
from lemumo_core.methods.decur.monitors import Monitors
from lemumo_core.methods.decur.projector import Projector
from lemumo_core.methods.decur.report import LEAST_SAMPLES, report
from lemumo_core.methods.decur.slices import frame_truth
from lemumo_core.methods.decur.views import CropConfig, PairedViews, cut
from lemumo_core.methods.method import (
    FEATURE_MODALITIES,
    Draw,
    Features,
    Method,
    MethodOptions,
    ModalityFeatures,
    ParameterGroup,
    Step,
    Units,
    evaluating,
)
from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.conv_towers import ConvTowers, load_tower
from lemumo_core.model.encoder import Encoding
from lemumo_core.model.towers import LateEncoder
from lemumo_core.preprocess import Inputs, InputSpec

log = logging.getLogger(__name__)

Backbone = Literal["vit", "resnet18", "resnet50", "resnet50_rda", "mit_b2", "mit_b5"]
"""The keys of ``model.config.BACKBONES``."""

PRESETS: dict[str, dict[str, Any]] = {
    "repo": {
        "dimensions": 8192,
        "share_projector": True,
        "weights": REPO_WEIGHTS,
        "repo_grad_scale": True,
    },
    "figure": {
        "dimensions": 8192,
        "share_projector": False,
        "weights": SUM_WEIGHTS,
        "repo_grad_scale": False,
    },
    "adapted": {
        "dimensions": 512,
        "share_projector": False,
        "weights": REPO_WEIGHTS,
        "repo_grad_scale": False,
    },
}
"""Values of the options that are left open, by preset."""


@dataclass(frozen=True)
class DeCUR(MethodOptions):
    """DeCUR (arXiv 2309.05300): an encoder a modality, common and unique embeddings.

    The defaults are for a run of minutes on two CPU cores; recipes give the paper's.

    Attributes:
        preset: defaults of ``dimensions``, ``share_projector``, ``weights`` and
            ``repo_grad_scale``: ``repo`` as the reference code has them, ``figure`` as the paper's
            figure, ``adapted`` ours for small batches.
        backbone: of both encoders: ``vit`` of the model's size, ``resnet18``, ``resnet50``, the
            latter with deformable attention (``resnet50_rda``), or SegFormer's ``mit_b2`` and
            ``mit_b5``.
        image_weights, companion_weights: files of weights that the encoders start from: state
            dicts of timm (ViT, ResNet), DINOv2, torchvision, TorchGeo or SegFormer.
        common: share of the embedding's dimensions that is common to both modalities.
        off_diagonal: weight of correlations off the diagonal, lambda.
        dimensions: of the embeddings, and of the projector's hidden layers.
        share_projector: one projector for both modalities.
        weights: of the four terms.
        repo_grad_scale: divide the gradient by the number of ranks, as the reference code does.
        gram: see ``DecurLoss``.
        bias_rate: learning rate of biases and norms, times that of the other weights.
        crops: how two views of each modality are cut.

    Raises:
        ValueError: for anything outside its range.
    """

    preset: Literal["adapted", "repo", "figure"] = "adapted"
    backbone: Backbone = "vit"
    image_weights: str | None = None
    companion_weights: str | None = None
    common: float = 0.75
    off_diagonal: float = 0.0051
    dimensions: int | None = None
    share_projector: bool | None = None
    weights: TermWeights | None = None
    repo_grad_scale: bool | None = None
    gram: bool | None = None
    bias_rate: float = 1.0
    crops: CropConfig = field(default_factory=CropConfig)

    def __post_init__(self) -> None:
        if self.dimensions is not None and self.dimensions < 2:
            raise ValueError(f"dimensions is {self.dimensions}, must be at least 2")
        if self.bias_rate <= 0:
            raise ValueError(f"bias_rate is {self.bias_rate}, must be positive")
        _ = self.loss  # checks the rest

    def resolve(self, model: ModelConfig, canvas: InputSpec) -> DeCUR:
        """Return the options with those of the preset filled in."""
        missing = {k: v for k, v in PRESETS[self.preset].items() if getattr(self, k) is None}
        return replace(self, **missing)

    def build(self, model: ModelConfig, canvas: InputSpec) -> Method:
        """See ``MethodOptions``."""
        if model.backbone not in ("vit", self.backbone):
            raise ValueError(
                f"model.backbone is {model.backbone} and method.backbone {self.backbone}: DeCUR "
                "takes the latter"
            )
        log.info("DeCUR, preset %s: %s", self.preset, asdict(self))
        return DecurMethod(self, model)

    @property
    def loss(self) -> DecurLoss:
        """The loss of these options."""
        return DecurLoss(
            self.common,
            self.off_diagonal,
            self.weights or REPO_WEIGHTS,
            self.gram,
            bool(self.repo_grad_scale),
        )


class DecurMethod(Method):
    """A tower a modality, each with a projector of its own or with a shared one.

    No layer sees both modalities. On CUDA the networks compute in bfloat16 (autocast), the loss in
    float32.

    Args:
        options: resolved ones.
        model: of the run; the towers are those of its variant ``late``.
    """

    def __init__(self, options: DeCUR, model: ModelConfig):
        super().__init__()
        assert options.dimensions is not None
        self.options = options
        self.model = replace(model, variant="late", backbone=options.backbone)
        self.token_dim, pooled_dim = self.model.token_dim, self.model.dim
        self.encoder: LateEncoder | ConvTowers
        if options.backbone == "vit":
            self.encoder = LateEncoder(self.model)
        else:
            self.encoder = ConvTowers(options.backbone, self.model, options.crops.size)
            pooled_dim = self.encoder.children_by_modality()[0].pooled_dim
        projectors = 1 if options.share_projector else len(MODALITIES)
        self.projectors = nn.ModuleList(
            Projector(pooled_dim, options.dimensions) for _ in range(projectors)
        )
        self.loss = options.loss
        self._monitors = Monitors(self.loss.common_dims(options.dimensions))

    def views(self, batch: Batch, draw: Draw, rank: int, world: int) -> PairedViews:
        """Cut two views of each modality, by crops of its own unless ``shared_crop``."""
        return cut(self.options.crops, batch, draw, rank, world)

    def forward(self, views: PairedViews, step: int, dense: bool = False) -> Step:
        """See ``Method``. The view of ``Step`` is the first one of the image.

        Its tokens are those of both towers on that crop, without gradient and in evaluation mode:
        in training the companion shows another crop.
        """
        pairs = [self._pooled(inputs) for inputs in views.inputs()]
        embeddings = self._projected(torch.stack(pairs, dim=1))
        first = views.image[0]
        loss = self.loss(embeddings, first.present)
        tokens = None
        if dense:
            with torch.no_grad(), evaluating(self.encoder), self._autocast(first.inputs):
                tokens = self.encoder(first.inputs).tokens
        monitored = {"pooled": pairs[0].detach(), "embeddings": embeddings.detach()}
        return Step(loss, first, tokens, monitored)

    def _pooled(self, inputs: Inputs) -> Tensor:
        """Encode a view of B samples: (2, B, D) of image and companion."""
        with self._autocast(inputs):
            return by_modality(self.encoder(inputs, dense=False).cls)

    def _projected(self, pooled: Tensor) -> Tensor:
        """Project pooled features (2, V, B, D) of V views to embeddings (2, V, B, K)."""
        with torch.autocast(pooled.device.type, torch.bfloat16, enabled=pooled.is_cuda):
            if len(self.projectors) > 1:
                pairs = zip(self.projectors, pooled, strict=True)
                return torch.stack([projector(own) for projector, own in pairs])
            groups = pooled.transpose(0, 1)  # statistics run over view by view
            projected = self.projectors[0](groups.flatten(0, 1)).unflatten(0, groups.shape[:2])
            embeddings: Tensor = projected.transpose(0, 1)
            return embeddings

    def _autocast(self, inputs: Inputs) -> torch.autocast:
        on_gpu = inputs.image.is_cuda
        return torch.autocast(inputs.image.device.type, torch.bfloat16, enabled=on_gpu)

    @torch.no_grad()
    def features(self, batch: Batch, modalities: Sequence[str] = FEATURE_MODALITIES) -> Features:
        """Encode the clean view of samples.

        ``fused`` concatenates both towers. ``image`` and ``companion`` are each tower's own, the
        same whether the other sensor is there or not.
        """
        inputs = clean_view(batch).inputs
        with evaluating(self.encoder):
            encoding: Encoding = self.encoder(inputs)
        exists = (inputs.present > 0.5).unbind(1)
        cells = encoding.tokens.shape[:2]
        found = {"fused": (encoding.tokens, encoding.cls, exists[0] | exists[1])}
        halves = by_modality(encoding.tokens), by_modality(encoding.cls)
        for name, *both, there in zip(MODALITIES, *halves, exists, strict=True):
            found[name] = *both, there
        return {
            name: ModalityFeatures(tokens, pooled, there[:, None].expand(cells))
            for name, (tokens, pooled, there) in found.items()
            if name in modalities
        }

    @torch.no_grad()
    def embeddings(self, batch: Batch) -> Tensor:
        """Embed the clean view of samples: (2, B, K) of image and companion, common ones first."""
        with evaluating(self):
            pooled = self._pooled(clean_view(batch).inputs)
            return self._projected(pooled[:, None])[:, 0].float()

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the weights, and the biases and norms with a learning rate of their own."""
        learning = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        weights = [one for one in learning if one[1].ndim > 1]
        rest = [one for one in learning if one[1].ndim <= 1]
        return [ParameterGroup(weights), ParameterGroup(rest, rate=self.options.bias_rate)]

    def report(self, batches: Iterable[Batch]) -> list[str]:
        """Show correlations, principal components and linear R^2 of samples that have both."""
        embeddings, truths = [], []
        for batch in batches:
            both = (batch.present > 0.5).all(1).cpu()
            embeddings.append(self.embeddings(batch).cpu()[:, both].numpy())
            truths.append(frame_truth(batch, len(self.model.segmentation_classes))[both])
        if sum(len(one) for one in truths) < LEAST_SAMPLES:
            return []
        joined = np.concatenate(embeddings, axis=1)
        return report(joined, self.loss.common_dims(joined.shape[2]), np.concatenate(truths))

    def units(self) -> Units:
        """Return the blocks of ViTs, and the towers to compile."""
        return Units(self.encoder.units(), (self.encoder,))

    def monitors(self, outcome: Step, step: int) -> dict[str, float]:
        """See ``Monitors.observe``."""
        assert outcome.view is not None
        return self._monitors.observe(step, outcome.view.present, **outcome.monitored)

    def initialize(self) -> None:
        """Load the weights that ``image_weights`` and ``companion_weights`` name."""
        paths = self.options.image_weights, self.options.companion_weights
        for modality, path in zip(MODALITIES, paths, strict=True):
            if path is not None:
                load_tower(self.encoder, modality, Path(path))

    def exported(self) -> tuple[ModelConfig, dict[str, Tensor]]:
        """Return both towers, the encoder of the variant ``late``.

        The map of a Mix Transformer's pooled features is left out: heads read tokens.
        """
        weights = self.encoder.state_dict()
        kept = {name: value for name, value in weights.items() if ".head." not in name}
        return self.model, {f"encoder.{name}": value for name, value in kept.items()}


def by_modality(x: Tensor) -> Tensor:
    """Split what two towers gave, (..., 2 D), into (2, ..., D)."""
    return torch.stack(x.chunk(2, dim=-1))

"""InfoNCE across modalities as a ``Method``: the image recognises its companion, and vice versa.

After ImageBind (arXiv 2305.05665, section 3.2) for two modalities, with one of this project's
encoders in place of an encoder a modality: it sees the image alone, then the companion alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.data.photometric import Photometric
from lemumo_core.data.samples import Batch
from lemumo_core.data.views import MultiCrop, MultiCropConfig, View, inputs_by_sample
from lemumo_core.distributed import BatchNorm1d, gather_rows
from lemumo_core.losses.contrastive import symmetric_info_nce
from lemumo_core.losses.loss import Loss
from lemumo_core.methods.collapse import CollapseWatch
from lemumo_core.methods.encoder_method import EncoderMethod, EncoderOptions, keep_modality
from lemumo_core.methods.method import Draw, Method, Step, Units, mixed_precision
from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.preprocess import InputSpec

CURE = "Lower the learning rate, enlarge the batch or raise method.temperature."
SMALL_VIEW = MultiCropConfig(
    global_views=1,
    local_views=0,
    global_size=(48, 96),
    global_scale=(0.5, 1.0),
    photometric=Photometric(
        brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, gray_p=0.0, blur_p=0.0
    ),
)
"""One view of a sample, small enough to learn from in minutes."""


@dataclass(frozen=True)
class InfoNCE(EncoderOptions):
    """InfoNCE between image and companion (ImageBind, arXiv 2305.05665).

    Attributes:
        temperature: of the softmax over the batch, fixed.
        dimensions: of the projections that are compared.
        views: views of a sample. In each, image and companion show the same crop; the candidates
            of a row are those of the same view in all samples of all ranks.

    Raises:
        ValueError: for anything outside its range.
    """

    temperature: float = 0.2
    dimensions: int = 128
    views: MultiCropConfig = SMALL_VIEW

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.dimensions < 2:
            raise ValueError("temperature must be positive, and dimensions at least 2")

    def resolve(self, model: ModelConfig, canvas: InputSpec) -> InfoNCE:
        """Return the options; ValueError for an encoder of one modality."""
        if model.variant in ("camera_only", "companion_only"):
            raise ValueError(
                f"model.variant is {model.variant}, and InfoNCE compares both modalities: take "
                "another variant"
            )
        return self

    def build(self, model: ModelConfig, canvas: InputSpec) -> Method:
        """See ``MethodOptions``."""
        return InfoNceMethod(self, model)


class InfoNceMethod(EncoderMethod):
    """An encoder, and a projection of CLS for either modality.

    No step shows it both modalities at once; ``features`` do.

    Args:
        options: resolved options.
        model: whose encoder is trained.
    """

    def __init__(self, options: InfoNCE, model: ModelConfig):
        super().__init__(options, model)
        self.options, self.crop = options, MultiCrop(options.views)
        self.projectors = nn.ModuleDict(
            {name: projector(model.token_dim, options.dimensions) for name in MODALITIES}
        )
        self._watch = CollapseWatch(CURE)

    def views(self, batch: Batch, draw: Draw, rank: int, world: int) -> tuple[View, ...]:
        """Cut the global views and, unless there are none, the local ones."""
        return self.crop(batch, draw("views"), rank, world)

    def forward(self, views: tuple[View, ...], step: int, dense: bool = False) -> Step:
        """See ``Method``. Online probes see both modalities, in a pass of their own."""
        whole, temperature = views[0], self.options.temperature
        batch = len(whole.image) // self.options.views.global_views
        pairs = self._projections(views)
        both = (whole.present[:batch] > 0.5).all(1)
        losses = [
            symmetric_info_nce(image, companion, both, temperature)
            for pair in pairs
            for image, companion in zip(*pair, strict=True)
        ]
        contrast = torch.stack(losses).mean()
        image, companion = (x[0].detach() for x in pairs[0])
        return Step(
            Loss(contrast, {"contrast": contrast.detach()}),
            whole,
            self.frozen_tokens(whole) if dense else None,
            {"image": image, "companion": companion},
        )

    def _projections(self, views: Sequence[View]) -> list[list[Tensor]]:
        """Return projections (V, B, d) of image and companion, of the V views of each size."""
        batch = len(views[0].image) // self.options.views.global_views
        by_sample = [inputs_by_sample(one.inputs, batch) for one in views]
        with mixed_precision(views[0].image.device):
            embedded = [
                self.encoder.embed(keep_modality(one, name))
                for one in by_sample
                for name in MODALITIES
            ]
            encodings = iter(self.encoder.encode_all(embedded, [False for _ in embedded]))
            return [
                [
                    self.projectors[name](next(encodings).cls)
                    .unflatten(0, (batch, -1))
                    .transpose(0, 1)
                    for name in MODALITIES
                ]
                for _ in views
            ]

    def units(self) -> Units:
        """Return the encoder's blocks, and the method to compile."""
        return Units(self.encoder.units(), (self,))

    def compile(self, **options: Any) -> None:
        """Compile encoder and projections; ``options`` as of ``torch.compile``."""
        self._projections = torch.compile(  # type: ignore[method-assign]
            self._projections, **options
        )

    def monitors(self, outcome: Step, step: int) -> dict[str, float]:
        """Measure collapse and retrieval among the first view's projections.

        Returns:
            What ``CollapseWatch`` gives of the image's projections. ``recall``: the share of
            samples with both modalities whose companion is nearest to their image among those of
            all ranks; ``recall_chance``: that of a guess.
        """
        assert outcome.view is not None
        image, companion = (gather_rows(x.float()) for x in outcome.monitored.values())
        scalars = self._watch.observe(step, image.cpu().numpy())
        local = len(outcome.monitored["image"])
        both = gather_rows((outcome.view.present[:local] > 0.5).all(1).float()) > 0.5
        image, companion = (functional.normalize(x[both], dim=1) for x in (image, companion))
        if len(image):
            nearest = (image @ companion.T).argmax(1).cpu()
            right = nearest == torch.arange(len(image))
            scalars |= {"recall": right.float().mean().item(), "recall_chance": 1 / len(image)}
        return scalars


def projector(width: int, dimensions: int) -> nn.Sequential:
    """Return a linear projection with batch norm over all ranks.

    ImageBind's has layer norm and starts from trained encoders. From random ones the loss first
    makes all projections alike, and then hardly learns; batch norm keeps them apart.
    """
    return nn.Sequential(nn.Linear(width, dimensions, bias=False), BatchNorm1d(dimensions))

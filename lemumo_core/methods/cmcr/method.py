"""CMCR as a ``Method``: its options, networks, views and loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lemumo_core.data.samples import Batch
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.losses.contrastive import code_log_posterior, code_matching, info_nce
from lemumo_core.losses.decoupling import commitment, gaussian_kl, orthogonality
from lemumo_core.losses.loss import Loss
from lemumo_core.losses.occupancy import intensity_loss, occupancy_loss
from lemumo_core.methods.cmcr.codebook import Codebook, CodebookConfig
from lemumo_core.methods.cmcr.features import (
    PointFeatures,
    image_tokens,
    paired_features,
    point_tokens,
    pooled_features,
)
from lemumo_core.methods.cmcr.image_encoder import (
    FrozenImageEncoder,
    ImageEncoderName,
    ImageHeads,
)
from lemumo_core.methods.cmcr.monitors import monitor, monitored
from lemumo_core.methods.cmcr.occupancy import OccupancyHead, Queries
from lemumo_core.methods.cmcr.presets import PRESETS, TermWeights
from lemumo_core.methods.cmcr.reconstruction import (
    ImageDecoder,
    enlarged,
    reconstruction_loss,
    with_geometry,
)
from lemumo_core.methods.cmcr.views import CmcrViews, DrawConfig, clean_views, cut_views
from lemumo_core.methods.method import (
    FEATURE_MODALITIES,
    Draw,
    Features,
    Method,
    MethodOptions,
    Needs,
    Step,
    evaluating,
)
from lemumo_core.model.config import PATCH, ModelConfig
from lemumo_core.model.sparse.minkunet import MinkUNet, SparseConfig
from lemumo_core.preprocess import InputSpec


@dataclass(frozen=True)
class CMCR(MethodOptions):
    """CMCR (arXiv 2412.08973): features of LiDAR points, learnt from images and from themselves.

    Options that are None take the preset's value.

    Attributes:
        preset: ``repo`` is the public code's recipe without its bugs, ``figure`` adds what the
            paper's figure shows (geometry-enhanced masked image modelling, orthogonality of image
            features), ``adapted`` is for two CPU cores.
        image_weights: of the frozen image encoder: a run of pretraining, a checkpoint, a package
            or a file. ``random`` leaves it untaught, to compare with.
        image_encoder: ``lemumo``, the encoder of the run's model on the image alone, or
            ``resnet50``, as MoCo-v2 trains it.
        standardize: the image encoder's map before the heads (``ImageHeads``).
        network: the 3D network and its voxels.
        crop: which view is cut of a sample; one global view.
        draw: masks, pairs and queries of a sample.
        terms: weights of the loss's terms.
        width: of shared and specific features.
        codebook: of the shared features.
        temperature: of InfoNCE.
        code_temperature: of the code posteriors.
        geometry: masked cells take the codes of the points that fall there.
        orthogonal_images: orthogonality of the image's features, too.
        orthogonal_per_row: divide orthogonality by the number of rows.
        decoder_stride: pixels of the view a pixel that the image decoder predicts: 1, 2, 4, 8 or
            16.

    Raises:
        ValueError: for anything outside its range.
    """

    preset: Literal["repo", "figure", "adapted"] = "adapted"
    image_weights: str | None = None
    image_encoder: ImageEncoderName | None = None
    standardize: bool | None = None
    network: SparseConfig | None = None
    crop: MultiCropConfig | None = None
    draw: DrawConfig | None = None
    terms: TermWeights = field(default_factory=TermWeights)
    width: int = 64
    codebook: CodebookConfig | None = None
    temperature: float = 0.07
    code_temperature: float | None = None
    geometry: bool | None = None
    orthogonal_images: bool | None = None
    orthogonal_per_row: bool | None = None
    decoder_stride: int | None = None

    def __post_init__(self) -> None:
        if self.width < 4 or self.temperature <= 0:
            raise ValueError("width must be at least 4, and temperature positive")
        if self.crop is not None and (self.crop.global_views, self.crop.local_views) != (1, 0):
            raise ValueError("crop: CMCR takes one global view and no local ones of a sample")
        if self.decoder_stride not in (None, 1, 2, 4, 8, 16):
            raise ValueError(f"decoder_stride is {self.decoder_stride}, must be 1, 2, 4, 8 or 16")

    @property
    def needs(self) -> Needs:
        """The whole sweep."""
        return Needs(points=True)

    def resolve(self, model: ModelConfig, canvas: InputSpec) -> CMCR:
        """Return the options with the preset's filled in."""
        given = PRESETS[self.preset]
        filled = replace(
            self, **{name: x for name, x in given.items() if getattr(self, name) is None}
        )
        if canvas.companion != "lidar":
            raise ValueError(f"CMCR learns from LiDAR, and the model has {canvas.companion}")
        if not filled.image_weights:
            raise ValueError(
                "CMCR teaches the 3D network what a frozen image encoder sees: give "
                "--method.image_weights RUN of lemumo pretrain, a package or a file of weights; "
                "'random' compares with an encoder that was taught nothing"
            )
        if filled.image_encoder == "lemumo" and model.variant == "companion_only":
            raise ValueError("model.variant is companion_only, and CMCR needs an image encoder")
        return filled

    def build(self, model: ModelConfig, canvas: InputSpec) -> Method:
        """See ``MethodOptions``."""
        return CmcrMethod(self.resolve(model, canvas), model)


class CmcrMethod(Method):
    """A 3D network with two heads, beside a frozen image encoder with two heads.

    Args:
        options: resolved options.
        model: of the run; its encoder is the image encoder ``lemumo``.
    """

    def __init__(self, options: CMCR, model: ModelConfig):
        super().__init__()
        assert options.network and options.image_encoder and options.image_weights
        assert options.codebook
        self.options, self.terms, width = options, options.terms, options.width
        # Image and points, shared and specific each, and whether a patch has a return.
        self.token_dim = 4 * width + 1
        self.image_encoder = FrozenImageEncoder(options.image_encoder, model)
        self.image_encoder.load(options.image_weights)
        self.network = MinkUNet(options.network)
        channels = options.network.channels
        self.shared, self.specific = nn.Linear(channels, width), nn.Linear(channels, width)
        self.image_heads = ImageHeads(self.image_encoder.channels, width, bool(options.standardize))
        self.codebook = Codebook(options.codebook, width)
        self.decoder = ImageDecoder(width) if self.terms.reconstruction else None
        self.occupancy = OccupancyHead(width) if self.terms.queries else None

    def views(self, batch: Batch, draw: Draw, rank: int, world: int) -> CmcrViews:
        """Cut a view and voxels, and draw pairs and queries; this waits for the device."""
        options = self.options
        assert options.crop and options.network and options.draw
        config = options.draw if self.terms.queries else replace(options.draw, queries=0)
        voxel = options.network.voxels
        return cut_views(batch, options.crop, voxel, config, draw, rank, world)

    def forward(self, views: CmcrViews, step: int, dense: bool = False) -> Step:
        """See ``Method``."""
        points = self.point_features(views)
        shared_map, specific_map = self.image_heads(self._encode_image(views))
        terms: dict[str, Tensor] = {}

        point, pixel, valid = paired_features(views, views.contrast_pairs, points, shared_map)
        if self.terms.contrast:
            terms["contrast"] = info_nce(point, pixel, valid, self.options.temperature)
        if self.terms.codes:
            terms |= self._code_terms(*paired_features(views, views.code_pairs, points, shared_map))
        if self.decoder is not None:
            stride = self.options.decoder_stride
            assert stride is not None
            codes = self._decoded_codes(views, points, shared_map, stride)
            predicted = self.decoder(codes + enlarged(specific_map, views.size, stride))
            present = views.view.present[:, 0] > 0.5
            terms["reconstruction"] = reconstruction_loss(predicted, views.view.image, present)
        if self.occupancy is not None and views.queries is not None:
            terms |= self._occupancy_terms(self.occupancy, views.queries, points)
        if self.terms.orthogonality:
            terms["orthogonality"] = self._orthogonality(points, shared_map, specific_map)
        if self.terms.kl:
            terms["kl"] = gaussian_kl(points.specific)

        weighted = [getattr(self.terms, name) * value for name, value in terms.items()]
        loss = Loss(torch.stack(weighted).sum(), {n: x.detach() for n, x in terms.items()})
        tokens = None
        if dense:
            image = image_tokens(shared_map.detach(), specific_map.detach(), views.size)
            tokens = torch.cat([image, point_tokens(views, points)[0]], -1).detach()
        return Step(loss, views.view, tokens, monitored(points, point, pixel, valid))

    def point_features(self, views: CmcrViews) -> PointFeatures:
        """Return the features of voxels."""
        x = self.network(views.voxels)
        return PointFeatures(functional.normalize(self.shared(x), dim=1), self.specific(x))

    def _encode_image(self, views: CmcrViews) -> Tensor:
        keep = ~views.masked.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
        encoded: Tensor = self.image_encoder(views.view.image * keep[..., None])
        return encoded

    def _code_terms(self, point: Tensor, pixel: Tensor, valid: Tensor) -> dict[str, Tensor]:
        book, temperature = self.codebook, self.options.code_temperature
        assert temperature is not None
        if self.training:
            book.observe(point, pixel, valid)
        terms = {}
        if self.terms.commitment:
            own, other = (book.codes[book.assign(x)] for x in (point, pixel))
            terms["commitment"] = commitment(point, own, other, valid) + commitment(
                pixel, other, own, valid
            )
        if self.terms.matching:
            p, q = (code_log_posterior(x, book.codes, temperature) for x in (point, pixel))
            terms["matching"] = code_matching(p, q, valid)
        return terms

    def _decoded_codes(
        self, views: CmcrViews, points: PointFeatures, shared_map: Tensor, stride: int
    ) -> Tensor:
        """Return the codes (B, D, h, w) from which the image is decoded."""
        shared = functional.normalize(enlarged(shared_map, views.size, stride), dim=1)
        codes = self.codebook.quantize(shared.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if not self.options.geometry:
            return codes
        point_codes = self.codebook.quantize(points.shared)[views.returns.voxel]
        cell = views.returns.cell((views.masked.shape[1], views.masked.shape[2]))
        return with_geometry(codes, views.masked, point_codes, cell, stride)

    def _occupancy_terms(
        self, head: OccupancyHead, queries: Queries, points: PointFeatures
    ) -> dict[str, Tensor]:
        features = points.specific + self.codebook.quantize(points.shared)
        logits, intensity = head(features[queries.voxel], queries.offset_m)
        terms = {}
        if self.terms.occupancy:
            terms["occupancy"] = occupancy_loss(logits, queries.occupied)
        if self.terms.intensity:
            known = queries.near_return
            terms["intensity"] = intensity_loss(intensity, queries.intensity, known)
        return terms

    def _orthogonality(
        self, points: PointFeatures, shared_map: Tensor, specific_map: Tensor
    ) -> Tensor:
        per_row = bool(self.options.orthogonal_per_row)
        loss = orthogonality(points.shared, points.specific, per_row)
        if self.options.orthogonal_images:
            shared, specific = (
                x.permute(0, 2, 3, 1).flatten(0, 2) for x in (shared_map, specific_map)
            )
            loss = loss + orthogonality(functional.normalize(shared, dim=1), specific, per_row)
        return loss

    @torch.no_grad()
    def features(self, batch: Batch, modalities: Sequence[str] = FEATURE_MODALITIES) -> Features:
        """Return both heads' features on the patches of whole samples.

        ``image``: of the image encoder's map; ``companion``: means over the returns of a patch,
        with the share of patches that have any; ``fused``: both. They exist for returns that the
        image shows, though the 3D network has features for the others, too.
        """
        with evaluating(self):
            views = clean_views(batch, self.network.config.voxels)
            shared_map, specific_map = self.image_heads(self._encode_image(views))
            image = image_tokens(shared_map, specific_map, views.size)
            tokens, hit = point_tokens(views, self.point_features(views))
        seen = (views.view.present[:, :1] > 0.5).expand(hit.shape)
        parts = {
            "fused": (torch.cat([image * seen[..., None], tokens], -1), seen | hit),
            "image": (image, seen),
            "companion": (tokens, hit),
        }
        return {name: pooled_features(*parts[name]) for name in modalities}

    def after_step(self, step: int, steps: int) -> None:
        """Update the codebook."""
        self.codebook.update()

    def monitors(self, outcome: Step, step: int) -> dict[str, float]:
        """See ``monitor``."""
        return monitor(self.codebook, **outcome.monitored)

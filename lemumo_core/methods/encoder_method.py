"""Base of the methods that train one of this project's encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lemumo_core.data.samples import Batch
from lemumo_core.data.views import View, clean_view
from lemumo_core.methods.method import (
    FEATURE_MODALITIES,
    Features,
    Method,
    MethodOptions,
    ModalityFeatures,
    Units,
    evaluating,
)
from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.variants import build_encoder
from lemumo_core.model.vit_weights import load_vit
from lemumo_core.preprocess import Inputs


@dataclass(frozen=True)
class EncoderOptions(MethodOptions):
    """Options of the methods that train one of this project's encoders.

    Attributes:
        image_weights: file of a ViT's weights, of timm or DINOv2, that the camera's side of the
            encoder starts from (``model.vit_weights``).
    """

    image_weights: str | None = None


class EncoderMethod(Method):
    """An encoder, its features and its export; subclasses add views and loss.

    Args:
        options: of the method.
        model: whose encoder is trained.

    Raises:
        ValueError: the model has towers that are no ViTs.
    """

    def __init__(self, options: EncoderOptions, model: ModelConfig):
        super().__init__()
        self.image_weights = options.image_weights
        self.model, self.token_dim = model, model.token_dim
        encoder = build_encoder(model)
        if not isinstance(encoder, Encoder):
            raise ValueError(
                f"model.backbone is {model.backbone}, which DeCUR pretrains (--method DeCUR "
                f"--method.backbone {model.backbone}): this method needs vit"
            )
        self.encoder = encoder

    def initialize(self) -> None:
        """Load the weights that ``image_weights`` names."""
        if self.image_weights is not None:
            load_vit(self.encoder, "image", Path(self.image_weights))

    @property
    def exported_encoder(self) -> Encoder:
        """The encoder of ``features`` and ``exported``; a method may have a teacher."""
        return self.encoder

    @torch.no_grad()
    def features(self, batch: Batch, modalities: Sequence[str] = FEATURE_MODALITIES) -> Features:
        """Encode the clean view of samples, with all sensors and with each alone.

        An encoder of one modality has no features of the other; ``pooled`` is CLS.
        """
        view, encoder, found = clean_view(batch), self.exported_encoder, {}
        with evaluating(encoder):
            for name in modalities:
                inputs = view.inputs
                if name in MODALITIES:
                    if name not in encoder.modalities:
                        continue
                    inputs = keep_modality(inputs, name)
                cls, tokens = encoder(inputs)
                valid = (inputs.present > 0.5).any(1, keepdim=True).expand(tokens.shape[:2])
                found[name] = ModalityFeatures(tokens, cls, valid)
        return found

    @torch.no_grad()
    def frozen_tokens(self, view: View) -> Tensor:
        """Return the tokens (R, N, D) of a view, in evaluation mode, without gradient."""
        with evaluating(self.encoder):
            tokens: Tensor = self.encoder(view.inputs).tokens
        return tokens

    def units(self) -> Units:
        """Return the encoder's blocks, and the encoder to compile."""
        return Units(self.encoder.units(), (self.encoder,))

    def exported(self) -> tuple[ModelConfig, dict[str, Tensor]]:
        """Return the encoder."""
        weights = self.exported_encoder.state_dict()
        return self.model, {f"encoder.{name}": value for name, value in weights.items()}


def keep_modality(inputs: Inputs, name: str) -> Inputs:
    """Return inputs in which one modality is present, where it was, and no other."""
    kept = torch.eye(len(MODALITIES), device=inputs.present.device)[MODALITIES.index(name)]
    return inputs._replace(present=inputs.present * kept)

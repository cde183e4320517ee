"""Base of the methods that train one of this project's encoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lemumo_core.data.samples import Batch
from lemumo_core.data.views import View, clean_view
from lemumo_core.methods.method import (
    FEATURE_MODALITIES,
    Features,
    Method,
    ModalityFeatures,
    Units,
    evaluating,
)
from lemumo_core.model.config import MODALITIES, ModelConfig
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.variants import build_encoder


class EncoderMethod(Method):
    """An encoder, its features and its export; subclasses add views and loss.

    Args:
        model: whose encoder is trained.

    Raises:
        ValueError: the model has towers that are no ViTs.
    """

    def __init__(self, model: ModelConfig):
        super().__init__()
        self.model, self.token_dim = model, model.token_dim
        encoder = build_encoder(model)
        if not isinstance(encoder, Encoder):
            raise ValueError(
                f"model.backbone is {model.backbone}, which DeCUR pretrains (--method DeCUR "
                f"--method.backbone {model.backbone}): this method needs vit"
            )
        self.encoder = encoder

    @torch.no_grad()
    def features(self, batch: Batch, modalities: Sequence[str] = FEATURE_MODALITIES) -> Features:
        """Encode the clean view of samples, with all sensors and with each alone.

        An encoder of one modality has no features of the other; ``pooled`` is CLS.
        """
        view, found = clean_view(batch), {}
        with evaluating(self.encoder):
            for name in modalities:
                present = view.present
                if name in MODALITIES:
                    if name not in self.encoder.modalities:
                        continue
                    present = present * present.new_tensor([name == one for one in MODALITIES])
                cls, tokens = self.encoder(view.inputs._replace(present=present))
                valid = (present > 0.5).any(1, keepdim=True).expand(tokens.shape[:2])
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
        weights = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        return self.model, weights

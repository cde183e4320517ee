"""Image and companion to patch tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lemumo_core.model.config import MODALITIES, PATCH, ModelConfig
from lemumo_core.preprocess import Inputs

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PatchEmbed(nn.Module):
    """One linear patch embedding per modality, plus its modality embedding.

    A modality that is absent becomes zeros before the embedding (preset ``paper``) or, after it,
    one learned token in every cell (preset ``lemumo``), so that it differs from "no returns".

    Args:
        config: of the model.
        modalities: to embed.
        patch: pixels a side.
        dim: width D of the tokens; by default the encoder's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        config: ModelConfig,
        modalities: tuple[str, ...] = MODALITIES,
        patch: int = PATCH,
        dim: int = 0,
    ):
        super().__init__()
        dim = dim or config.dim
        self.modalities = modalities
        self.companion_channels = config.companion_channels
        channels = {"image": 3, "companion": self.companion_channels}
        for name in modalities:
            self.add_module(name, nn.Conv2d(channels[name], dim, patch, patch))
        # Rows: the modalities.
        shape = len(modalities), dim
        self.modality = nn.Parameter(torch.randn(shape) * 0.02)
        self.absent = nn.Parameter(torch.randn(shape) * 0.02) if config.preset == "lemumo" else None
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255, False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255, False)

    def forward(self, inputs: Inputs, shown: Tensor | None = None) -> list[Tensor]:
        """Embed the modalities.

        Args:
            inputs: tensors; the image may be floats from 0 to 255, too.
            shown: bool (B, 2, N), which patches of image and companion are not absent; None for
                all.

        Returns:
            Tokens of each modality, (B, N, D), with modality embeddings.
        """
        tokens = []
        for row, name in enumerate(self.modalities):
            if name == "image":
                # Cast first: TensorRT lets a uint8 tensor feed nothing but a Cast.
                x = (inputs.image.float().permute(0, 3, 1, 2) - self.mean) / self.std
            else:
                # Where in their pixels returns lie is for the depth refinement alone.
                x = inputs.companion[..., : self.companion_channels].permute(0, 3, 1, 2)
            # torch.where, not a product: content of an absent input may be NaN.
            exists = inputs.present[:, MODALITIES.index(name)].view(-1, 1, 1, 1) > 0.5
            patches = self.get_submodule(name)(torch.where(exists, x, 0.0))
            patches = patches.flatten(2).transpose(1, 2)
            seen = exists[:, 0]
            if shown is not None:
                seen = seen & shown[:, MODALITIES.index(name), :, None]
            if self.absent is not None:
                patches = torch.where(seen, patches, self.absent[row])
            elif shown is not None:  # as zeros would be embedded
                bias = self.get_parameter(f"{name}.bias")
                patches = torch.where(seen, patches, bias.to(patches.dtype))
            tokens.append(patches + self.modality[row])
        return tokens

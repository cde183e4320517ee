"""ResNet (arXiv 1512.03385), with the names of weights that torchvision and timm share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from lemumo_core.distributed import BatchNorm2d
from lemumo_core.model.deformable_attention import GROUP_DIM, HEAD_DIM, DeformableAttention


@dataclass(frozen=True)
class ResNetConfig:
    """Architecture of a ResNet.

    Attributes:
        blocks: of the four stages.
        bottleneck: blocks of three convolutions, four times as wide, or of two.
        width: channels of the first stage, before that factor.
        attention: deformable attention after stages 3 and 4 (``DeformableAttention``).
        head_dim, group_dim: of that attention.
    """

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    attention: bool = False
    head_dim: int = HEAD_DIM
    group_dim: int = GROUP_DIM

    @property
    def dims(self) -> tuple[int, int, int, int]:
        """Channels of the stages, which have strides 4, 8, 16 and 32."""
        first = self.width * (4 if self.bottleneck else 1)
        return first, 2 * first, 4 * first, 8 * first


class ResNetBlock(nn.Module):
    """A residual block; its last batch norm starts at 0, so that it starts as the identity."""

    def __init__(self, enter: int, width: int, leave: int, stride: int, bottleneck: bool):
        super().__init__()
        shapes = [(enter, width, 3, stride), (width, leave, 3, 1)]
        if bottleneck:
            shapes = [(enter, width, 1, 1), (width, width, 3, stride), (width, leave, 1, 1)]
        self.convolutions = len(shapes)
        for i, (given, made, kernel, step) in enumerate(shapes, 1):
            conv = nn.Conv2d(given, made, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", BatchNorm2d(made))
        nn.init.zeros_(self.get_submodule(f"bn{self.convolutions}").weight)  # type: ignore[arg-type]
        self.downsample = nn.Sequential()
        if stride > 1 or enter != leave:
            self.downsample.append(nn.Conv2d(enter, leave, 1, stride, bias=False))
            self.downsample.append(BatchNorm2d(leave))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to (B, enter, h, w)."""
        branch = x
        for i in range(1, self.convolutions + 1):
            branch = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(branch))
            branch = relu(branch) if i < self.convolutions else branch
        return relu(branch + self.downsample(x))


class ResNet(nn.Module):
    """A ResNet without its classifier.

    Args:
        config: which one.
        channels: of the input.
        size: (h, w) of the input, which the tables of the attention are made for.
    """

    def __init__(self, config: ResNetConfig, channels: int, size: tuple[int, int]):
        super().__init__()
        self.dims = config.dims
        self.conv1 = nn.Conv2d(channels, config.width, 7, 2, 3, bias=False)
        self.bn1 = BatchNorm2d(config.width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        enter = config.width
        for stage, (count, leave) in enumerate(zip(config.blocks, config.dims, strict=True)):
            layer = nn.Sequential()
            for i in range(count):
                stride = 2 if stage and not i else 1
                width = config.width * 2**stage
                layer.append(ResNetBlock(enter, width, leave, stride, config.bottleneck))
                enter = leave
            self.add_module(f"layer{stage + 1}", layer)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.attention = nn.ModuleDict()
        if config.attention:
            for stage, kernel, stride in ((3, 5, 2), (4, 3, 1)):
                cells = -(-size[0] // 2 ** (stage + 1)), -(-size[1] // 2 ** (stage + 1))
                self.attention[str(stage)] = DeformableAttention(
                    config.dims[stage - 1], cells, kernel, stride, config.head_dim, config.group_dim
                )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # As images come, (B, h, w, C) in memory: otherwise each call reorders.
                weight = module.weight.detach().contiguous(memory_format=torch.channels_last)
                module.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the four stages, strides 4 to 32, of (B, channels, h, w)."""
        x = self.maxpool(relu(self.bn1(self.conv1(x))))
        maps = []
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
            if str(stage) in self.attention:
                x = x + self.attention[str(stage)](x)
            maps.append(x)
        return maps

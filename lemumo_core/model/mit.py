"""Mix Transformer, the encoder of SegFormer (arXiv 2105.15203), with its names of weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lemumo_core.model.attention import attention
from lemumo_core.model.linear import Linear
from lemumo_core.model.stochastic_depth import drop_path

EPSILON = 1e-6


@dataclass(frozen=True)
class MitConfig:
    """Architecture of a Mix Transformer.

    Attributes:
        blocks: of the four stages.
        dims: channels of the stages, which have strides 4, 8, 16 and 32.
        heads: attention heads of the stages.
        reduction: keys are those of a map smaller by so many pixels a side.
        drop_path: rate of stochastic depth in the last block; it rises linearly from 0.
    """

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    dims: tuple[int, int, int, int] = (64, 128, 320, 512)
    heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    reduction: tuple[int, int, int, int] = (8, 4, 2, 1)
    drop_path: float = 0.1


class OverlapPatchEmbed(nn.Module):
    """A strided convolution whose windows overlap, and a norm."""

    def __init__(self, enter: int, dim: int, kernel: int, stride: int):
        super().__init__()
        self.proj = nn.Conv2d(enter, dim, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embed (B, enter, h, w): tokens (B, N, dim), and rows and columns of their grid."""
        x = self.proj(x)
        return self.norm(x.flatten(2).transpose(1, 2)), (x.shape[2], x.shape[3])


class ReducedAttention(nn.Module):
    """Attention to keys of a smaller map."""

    def __init__(self, dim: int, heads: int, reduction: int):
        super().__init__()
        self.heads = heads
        self.q, self.kv = Linear(dim, dim), Linear(dim, 2 * dim)
        self.proj = Linear(dim, dim)
        self.sr: nn.Conv2d | None = None
        if reduction > 1:
            self.sr = nn.Conv2d(dim, dim, reduction, reduction)
            self.norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Attend: (B, N, dim) of a grid of rows and columns, to the same shape."""
        keys = x
        if self.sr is not None:
            # A map smaller than the window has one key.
            window = self.sr.kernel_size
            padding = [max(0, side - n) for n, side in zip(size, window, strict=True)]
            grid = nn.functional.pad(x.mT.unflatten(2, size), (0, padding[1], 0, padding[0]))
            keys = self.norm(self.sr(grid).flatten(2).mT)
        parts = [self.q(x), *self.kv(keys).chunk(2, dim=-1)]
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.proj(attention(q, k, v).transpose(1, 2).flatten(2))


class DepthwiseConv(nn.Module):
    """A depthwise convolution on tokens, which also carries where they are."""

    def __init__(self, dim: int):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Convolve (B, N, dim) of a grid of rows and columns."""
        return self.dwconv(x.mT.unflatten(2, size)).flatten(2).mT


class MixFeedForward(nn.Module):
    """Linear map, depthwise convolution, GELU, linear map."""

    def __init__(self, dim: int):
        super().__init__()
        self.fc1, self.fc2 = Linear(dim, 4 * dim), Linear(4 * dim, dim)
        self.dwconv, self.act = DepthwiseConv(4 * dim), nn.GELU()

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Map (B, N, dim) of a grid of rows and columns."""
        return self.fc2(self.act(self.dwconv(self.fc1(x), size)))


class MitBlock(nn.Module):
    """Pre-norm block with stochastic depth on both branches."""

    def __init__(self, dim: int, heads: int, reduction: int, rate: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.attn = ReducedAttention(dim, heads, reduction)
        self.norm2 = nn.LayerNorm(dim, eps=EPSILON)
        self.mlp = MixFeedForward(dim)
        self.drop_path = rate

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Apply the block to (B, N, dim) of a grid of rows and columns."""
        rate = self.drop_path if self.training else 0.0
        x = drop_path(x, lambda x: self.attn(self.norm1(x), size), rate)
        return drop_path(x, lambda x: self.mlp(self.norm2(x), size), rate)


class MixTransformer(nn.Module):
    """A Mix Transformer without its classifier.

    Args:
        config: which one.
        channels: of the input.
    """

    def __init__(self, config: MitConfig, channels: int):
        super().__init__()
        self.dims, self.counts = config.dims, config.blocks
        total, done, enter = sum(config.blocks), 0, channels
        for i, (dim, count) in enumerate(zip(config.dims, config.blocks, strict=True)):
            kernel, stride = (3, 2) if i else (7, 4)
            self.add_module(f"patch_embed{i + 1}", OverlapPatchEmbed(enter, dim, kernel, stride))
            rates = [config.drop_path * (done + j) / (total - 1) for j in range(count)]
            shape = dim, config.heads[i], config.reduction[i]
            self.add_module(f"block{i + 1}", nn.ModuleList(MitBlock(*shape, r) for r in rates))
            self.add_module(f"norm{i + 1}", nn.LayerNorm(dim, eps=EPSILON))
            enter, done = dim, done + count
        self.apply(_initialize)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the four stages, strides 4 to 32, of (B, channels, h, w)."""
        maps = []
        for i in range(1, 5):
            tokens, size = self.get_submodule(f"patch_embed{i}")(x)
            for block in self.get_submodule(f"block{i}").children():
                tokens = block(tokens, size)
            x = self.get_submodule(f"norm{i}")(tokens).mT.unflatten(2, size)
            maps.append(x)
        return maps


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
        assert module.bias is not None
        nn.init.zeros_(module.bias)

"""One program for one process and for many: torchrun's and SLURM's ranks, DDP and FSDP2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from lemumo_core.faults import Fault
from lemumo_core.model.encoder import Encoder
from lemumo_core.model.fusion import FusionEncoder
from lemumo_core.model.transformer import Block
from lemumo_core.train.run_config import ScaleConfig


class Place(NamedTuple):
    """Where this process stands: its rank among ``world`` and its device."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0


@contextmanager
def ranks(batch: int) -> Iterator[Place]:
    """Join the process group that torchrun, or the SLURM script, announces in the environment.

    Raises:
        Fault: ``bad_batch`` where the batch cannot be shared out evenly.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if batch % world:
        raise Fault("bad_batch", f"a batch of {batch} cannot be shared evenly by {world} ranks")
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    if world > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Place(rank, world, device)
    finally:
        if world > 1:
            distributed.destroy_process_group()


def prepare_encoder(encoder: Encoder, config: ScaleConfig, place: Place) -> None:
    """Recomputed activations, compilation and sharding, in place.

    Weights keep their names. Call this before the optimiser is built.

    Raises:
        Fault: ``one_rank`` for shards without ranks to hold them.
    """
    blocks = [module for module in encoder.modules() if isinstance(module, Block)]
    if config.checkpoint_activations:
        for block in blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]
    if config.compile:
        encoder.compile()
    if config.sharding == "fsdp":
        if place.world == 1:
            raise Fault("one_rank", "fsdp shards over ranks, and this is one: use ddp or torchrun")
        _shard(encoder, blocks)


def _shard(encoder: Encoder, blocks: list[Block]) -> None:
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if isinstance(encoder, FusionEncoder):
        # Fusion reaches into the first block without calling it, so that it stays with the rest.
        blocks = blocks[1:]
    for block in blocks:
        fully_shard(block)
    if encoder.depth_branch is not None:  # called by itself
        fully_shard(encoder.depth_branch)
    fully_shard(encoder)
    register_fsdp_forward_method(encoder, "project")


def data_parallel(step: nn.Module, config: ScaleConfig, place: Place) -> nn.Module:
    """The step whose gradients are averaged over ranks."""
    if place.world == 1 or config.sharding == "fsdp":
        return step
    return DistributedDataParallel(step)


def full(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded; a collective operation where it is."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A full tensor, the same on all ranks, on the device of a parameter and sharded like it."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank."""
    if not distributed.is_initialized():
        return flag
    flags = torch.tensor(float(flag), device=device)
    distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    return bool(flags)


def from_first(text: str) -> str:
    """A text of rank 0, on all ranks."""
    texts = [text]
    if distributed.is_initialized():
        distributed.broadcast_object_list(texts)
    return texts[0]


def wait_for_all() -> None:
    """Let all ranks arrive."""
    if distributed.is_initialized():
        distributed.barrier()

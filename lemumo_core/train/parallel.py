"""One program for one process and for many: torchrun's and SLURM's ranks, DDP and FSDP2."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from lemumo_core.faults import Fault
from lemumo_core.methods.method import Units
from lemumo_core.train.run_config import ScaleConfig


class DistInfo(NamedTuple):
    """Rank of this process among ``world``, and its device."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Return whether this is the rank that writes."""
        return self.rank == 0


@contextmanager
def ranks(batch: int) -> Iterator[DistInfo]:
    """Join the process group that torchrun, or the SLURM script, announces in the environment.

    Raises:
        Fault: ``bad_batch`` where the batch cannot be shared out evenly; ``rank_ended`` in the
            block where a rank that others wait for has ended.
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
        # Flags and texts of ranks go over gloo: nothing of the device is waited for.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield DistInfo(rank, world, device)
    except RuntimeError as error:
        if world == 1 or "onnection" not in str(error):
            raise
        line = str(error).splitlines()[0]
        raise Fault("rank_ended", f"another rank ended, see what it printed ({line})") from error
    finally:
        if world > 1:
            leave_group()


def leave_group() -> None:
    """Destroy the process group of this rank; no DDP module may be referred to any more.

    DDP's reducer must not be the last to hold the group: it would free it without giving up the
    interpreter's lock, for which a thread of gloo may wait, for ever.
    """
    gc.collect()
    distributed.destroy_process_group()


def prepare(module: nn.Module, units: Units, config: ScaleConfig, dist: DistInfo) -> None:
    """Set up recomputed activations, compilation and sharding, in place.

    Weights keep their names. Call this before the optimiser is built.

    Args:
        module: what is trained.
        units: its parts (``Method.units``).
        config: what is asked for.
        dist: this process.

    Raises:
        Fault: ``one_rank`` for shards without ranks to hold them; ``no_bfloat16`` where it is asked
            for on a CPU without it.
    """
    if config.bfloat16 and dist.device.type == "cpu" and not has_bfloat16():
        raise Fault(
            "no_bfloat16",
            "this CPU emulates bfloat16, which is far slower than float32: leave out "
            "--scale.bfloat16",
        )
    if config.checkpoint_activations:
        for block in units.blocks:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    if config.compile:
        for network in units.networks:
            network.compile()
    if config.sharding == "fsdp":
        if dist.world == 1:
            raise Fault("one_rank", "fsdp shards over ranks, and this is one: use ddp or torchrun")
        _shard(module, units.blocks)


def _shard(module: nn.Module, blocks: Sequence[nn.Module]) -> None:
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for block in blocks:
        fully_shard(block)
    fully_shard(module)
    for name in ("monitors", "features"):  # what else uses weights
        register_fsdp_forward_method(module, name)


def cpu_autocast(config: ScaleConfig, dist: DistInfo) -> torch.autocast:
    """Return the context of a forward pass: networks on a CPU compute in bfloat16 if asked to."""
    enabled = config.bfloat16 and dist.device.type == "cpu"
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def has_bfloat16() -> bool:
    """Return whether this CPU multiplies in bfloat16 by instructions of its own."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in probes)


def data_parallel(module: nn.Module, config: ScaleConfig, dist: DistInfo) -> nn.Module:
    """Return the module whose gradients are averaged over ranks."""
    if dist.world == 1 or config.sharding == "fsdp":
        return module
    return DistributedDataParallel(module)


def full(tensor: Tensor) -> Tensor:
    """Gather a tensor that may be sharded; a collective operation where it is."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Move a full tensor of a parameter's shape, the same on all ranks, to where the parameter is.

    It is sharded as the parameter is, or lies in memory as the parameter does: an optimiser rounds
    otherwise where the orders differ, and a resumed run would not equal the whole one.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(parameter, DTensor):
        moved = tensor.to(parameter.device)
        return distribute_tensor(moved, parameter.device_mesh, parameter.placements)
    return torch.empty_like(parameter, dtype=tensor.dtype, requires_grad=False).copy_(tensor)


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set on any rank; no device is waited for (``ranks``)."""
    if not distributed.is_initialized():
        return flag
    flags = torch.tensor(float(flag), device="cpu")
    distributed.all_reduce(flags, distributed.ReduceOp.MAX)
    return bool(flags)


def from_first(text: str) -> str:
    """Send a text of rank 0 to all ranks."""
    texts = [text]
    if distributed.is_initialized():
        distributed.broadcast_object_list(texts)
    return texts[0]


def wait_for_all() -> None:
    """Wait until all ranks have arrived."""
    if distributed.is_initialized():
        distributed.barrier()

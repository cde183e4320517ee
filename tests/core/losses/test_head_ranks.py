"""The heads' losses: two ranks of unequal content are one rank that holds it all."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing

from lemumo_core.losses.centernet import CenterNetLoss, RawDetections
from lemumo_core.losses.depth import DepthLoss, PaperDepthLoss
from lemumo_core.losses.depth_mixture import DepthMixture
from lemumo_core.losses.segmentation import SegmentationLoss
from lemumo_core.train.parallel import leave_group
from tests.helpers.made_boxes import made_boxes

BATCH, GRID = 4, (16, 24)


def outcome(rows: slice) -> dict[str, Tensor]:
    """Losses of these rows of a batch, and gradients of a parameter that scales all predictions.

    The last two rows, a rank of their own, have no object and few labels.
    """
    g = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(BATCH, c, *GRID, generator=g).double()[rows] for c in (2, 2, 3, 1, 2, 3, 3, 1)
    ]
    boxes = torch.rand(BATCH, 5, 7, generator=g) * torch.tensor([8, 3, 30, 4, 2, 2, 3]) + 1
    ids = torch.tensor([[0, 1, 0, 1, 1]]).repeat(BATCH, 1)
    ids[2:] = -1
    K = torch.tensor([[60.0, 0, 48], [0, 60, 32], [0, 0, 1]]).expand(BATCH, 3, 3)[rows]
    truth = made_boxes(boxes[rows], ids[rows], K)
    true_m = torch.rand(BATCH, 64, 96, generator=g) * 80
    true_m[2:, 2:] = math.nan
    labels = torch.randint(0, 4, (BATCH, 64, 96), generator=g).to(torch.uint8)
    labels[2:, :50] = 255
    logits = torch.randn(BATCH, 4, *GRID, generator=g).double()[rows]
    said, confidence = torch.rand(2, BATCH, *GRID, generator=g).double()[:, rows]
    result = {}
    for name in ("centernet", "depth", "paper depth", "segmentation"):
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        if name == "centernet":
            *flat, depths_m, log_weights, log_spread = (m * scale for m in maps)
            depth = DepthMixture(depths_m, log_weights, log_spread)
            loss = CenterNetLoss(4)(RawDetections(*flat, depth=depth), truth, K)
        elif name == "segmentation":
            loss = SegmentationLoss()(logits * scale, labels[rows])
        else:
            how = PaperDepthLoss() if "paper" in name else DepthLoss()
            loss = how(said * 30 * scale, confidence * scale * 0.99, true_m[rows])
        loss.total.backward()
        if distributed.is_initialized():  # as DDP does
            distributed.all_reduce(scale.grad)
            scale.grad /= distributed.get_world_size()
        result[name], result[f"grad {name}"] = loss.total.detach(), scale.grad
    return result


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.save(outcome(slice(2 * rank, 2 * rank + 2)), f"{folder}/{rank}.pt")
    leave_group()


def test_two_ranks_are_one(tmp_path: Path) -> None:
    multiprocessing.start_processes(run_rank, (str(tmp_path),), nprocs=2, start_method="forkserver")
    expected = outcome(slice(None))
    assert all(value != 0 for value in expected.values())
    for rank in range(2):
        ours = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-8)

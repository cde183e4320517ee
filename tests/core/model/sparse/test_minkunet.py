"""Voxels of sweeps and the network on them."""

from __future__ import annotations

import pytest
import torch

from lemumo_core.model.sparse.minkunet import MinkUNet, SparseConfig
from lemumo_core.model.sparse.voxels import VoxelConfig, voxelize

SMALL = SparseConfig(width=0.125, voxels=VoxelConfig(size_m=0.5, features="height"))


def sweeps(count: int = 2, points: int = 300) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    xyz = (torch.rand(count, points, 3, generator=generator) - 0.5) * torch.tensor([20.0, 20, 4])
    intensity = torch.rand(count, points, 1, generator=generator) * 255
    return torch.cat([xyz, intensity], -1)


def of_points(network: MinkUNet, points: torch.Tensor) -> torch.Tensor:
    voxels = voxelize(points, network.config.voxels)
    return network(voxels)[voxels.row_of_point]


@pytest.fixture(scope="module")
def network() -> MinkUNet:
    torch.manual_seed(0)
    return MinkUNet(SMALL).eval()


def test_the_parameters_are_those_of_the_paper() -> None:
    modules = [MinkUNet(SparseConfig()), torch.nn.Linear(96, 64), torch.nn.Linear(96, 64)]
    assert sum(p.numel() for one in modules for p in one.parameters()) == 37_855_392


@pytest.mark.parametrize("cylindrical", [False, True])
def test_a_voxel_holds_its_points(cylindrical) -> None:
    config = VoxelConfig(size_m=0.5, cylindrical=cylindrical, azimuth_deg=5.0, features="height")
    points = sweeps()
    points[0, 5] = torch.inf  # padding
    points[1, 7] = 0.0  # no return
    points[1, 8, 0] = 1e6  # beyond all keys
    voxels = voxelize(points, config)
    row = voxels.row_of_point
    assert (row < 0).nonzero().tolist() == [[0, 5], [1, 7], [1, 8]]
    assert row.max() + 1 == len(voxels) == len(row[row >= 0].unique())
    assert (voxels.features[:, 0] - 1).abs().max() < 1e-6
    for v in (0, len(voxels) // 2, len(voxels) - 1):
        inside = row == v
        assert set(inside.nonzero()[:, 0].tolist()) == {int(voxels.sample[v])}
        mean = points[inside].mean(0)
        assert voxels.features[v, 1:].tolist() == pytest.approx(
            [mean[2].item() / 5, mean[3].item() / 255], abs=1e-5
        )
        xyz = points[inside][:, :3]
        if cylindrical:
            azimuth = torch.rad2deg(torch.atan2(xyz[:, 1], xyz[:, 0]))
            xyz = torch.stack([xyz[:, 0].hypot(xyz[:, 1]), azimuth / 10, xyz[:, 2]], 1)
        assert len((xyz / 0.5).floor().unique(dim=0)) == 1


@torch.no_grad()
def test_neither_order_nor_the_other_sweep_matters(network) -> None:
    points = sweeps()
    whole = of_points(network, points)
    order = torch.randperm(points.shape[1])
    torch.testing.assert_close(of_points(network, points[:, order]), whole[:, order])
    torch.testing.assert_close(of_points(network, points[1:]), whole[1:])


@torch.no_grad()
def test_a_shift_by_the_largest_stride_changes_nothing(network) -> None:
    # Whole multiples of a power of two: the shift rounds nothing.
    points = sweeps()
    points[..., :3] = (points[..., :3] * 64).round() / 64
    moved = points.clone()
    moved[..., 0] += 16 * SMALL.voxels.size_m
    torch.testing.assert_close(of_points(network, moved), of_points(network, points))


def test_an_empty_sweep_and_few_points_pass() -> None:
    network = MinkUNet(SMALL)
    for points in (torch.zeros(1, 4, 4), sweeps(2, 1), sweeps(1, 0)):
        x = network(voxelize(points, SMALL.voxels))
        assert x.isfinite().all() and x.shape[1] == SMALL.channels
        x.sum().backward()


def test_bad_options_are_named() -> None:
    for options in ({"width": 0.01}, {"backend": "tpu"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            SparseConfig(**options)
    with pytest.raises(ValueError, match="positive"):
        VoxelConfig(size_m=0.0)

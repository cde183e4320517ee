"""Towers that are no ViTs, exported: ResNet with deformable attention, and Mix Transformer."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn.functional import pixel_unshuffle

from lemumo_core.export.graph import OUTPUTS, export_onnx, half_precision
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.model.config import BACKBONES, PATCH, ModelConfig
from lemumo_core.model.conv_towers import MITS, RESNETS, ConvTower
from lemumo_core.model.mit import MitConfig
from lemumo_core.model.perception import Outputs, PerceptionModel
from lemumo_core.model.resnet import ResNetConfig
from lemumo_core.preprocess import Inputs


def flat(self: ConvTower, x: torch.Tensor, dense: bool = True) -> tuple[torch.Tensor, ...]:
    """Stand for the forward of the companion's tower, whose layers are those of the image's."""
    return x.mean((2, 3)), pixel_unshuffle(x, PATCH).flatten(2).mT[..., : self.token_dim]


class HeadsAlone(PerceptionModel):
    """Its outputs are those of the heads: tracing how they are decoded takes longest."""

    def decode(self, raw, intrinsics) -> Outputs:
        detections = raw.detections
        maps = (detections.heatmap, *list(detections.regressed.values())[:2])
        maps += (raw.depth_m, raw.depth_confidence, raw.segmentation)
        return Outputs(*(each + 1 for each in maps))


@pytest.mark.parametrize("backbone", ["resnet50_rda", "mit_b2"])
def test_a_graph_of_any_batch_gives_what_torch_gives(backbone, monkeypatch, tmp_path) -> None:
    resnet = ResNetConfig((1, 1, 1, 1), False, 16, True, head_dim=16, group_dim=32)
    mit = MitConfig((1, 1, 1, 1), dims=(8, 16, 16, 32), heads=(1, 2, 2, 4))
    monkeypatch.setitem(RESNETS, "resnet50_rda", resnet)
    monkeypatch.setitem(MITS, "mit_b2", mit)
    dims = (resnet if backbone in RESNETS else mit).dims
    monkeypatch.setitem(BACKBONES, backbone, dims)
    config = ModelConfig(
        height=48,
        width=64,
        companion="raster",
        companion_bands=3,
        variant="late",
        backbone=backbone,
        head_preset="fcn" if backbone in RESNETS else "paper",
    )
    torch.manual_seed(0)
    model = HeadsAlone(config).eval()
    tower = model.encoder.towers["companion"]
    tower.forward = partial(flat, tower)
    export_onnx(model, tmp_path / "any.onnx", {"name": "test"}, dynamic=True)
    batch = random_inputs(config.input_spec, 3, seed=7)
    with torch.no_grad():
        expected = model(Inputs(*map(torch.from_numpy, batch)))
    graphs = {"any": (batch, 1e-4)}
    if backbone in RESNETS:  # a Mix Transformer's layers are a ViT's
        export_onnx(half_precision(model), tmp_path / "half.onnx", {"name": "test"}, dynamic=False)
        graphs["half"] = Inputs(*(x[:1] for x in batch)), 2e-2
    for graph, (given, tolerance) in graphs.items():
        session = onnxruntime.InferenceSession(
            str(tmp_path / f"{graph}.onnx"), providers=["CPUExecutionProvider"]
        )
        got = dict(zip(OUTPUTS, session.run(list(OUTPUTS), given._asdict()), strict=True))
        for name, value in expected._asdict().items():
            wanted = value[: len(given.image)]
            np.testing.assert_allclose(got[name], wanted, tolerance, 0.1 * tolerance, err_msg=name)

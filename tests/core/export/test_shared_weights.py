"""A package holds its weights once, and its graphs say the same as with weights of their own."""

from __future__ import annotations

import shutil

import numpy as np
import onnxruntime
import pytest
import torch

from lemumo_core.export.shared_weights import share_weights
from lemumo_core.faults import Fault
from lemumo_core.inference.inputs import random_inputs
from lemumo_core.inference.model_manifest import manifest_of
from lemumo_core.inference.onnx_file import external_data
from lemumo_core.inference.package import WEIGHTS_NAME, load_package, write_package
from lemumo_core.model.perception import load_model, save_weights, with_half_weights


def outputs(path, inputs) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(str(path)).run(None, inputs._asdict())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_graph_with_shared_weights_says_the_same(model, graphs, tmp_path, precision) -> None:
    path = shutil.copy(graphs[precision], tmp_path / "model.onnx")
    inputs = random_inputs(model.config.input_spec, 1)
    before, size = outputs(path, inputs), path.stat().st_size
    save_weights(model, tmp_path / WEIGHTS_NAME)
    share_weights(path, tmp_path / WEIGHTS_NAME)
    assert external_data(path) == [WEIGHTS_NAME] and path.stat().st_size < 0.6 * size
    for got, expected in zip(outputs(path, inputs), before, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_half_weights_are_loaded_as_they_were_rounded(model, tmp_path) -> None:
    rounded = with_half_weights(model)
    save_weights(rounded, tmp_path / "half", torch.float16)
    save_weights(model, tmp_path / "whole")
    assert (tmp_path / "half").stat().st_size < 0.52 * (tmp_path / "whole").stat().st_size
    loaded = load_model(model.config, tmp_path / "half").state_dict()
    changed = 0
    for name, tensor in rounded.state_dict().items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)
        changed += not torch.equal(tensor, model.state_dict()[name])
    assert changed, "a copy was rounded, the model was not"


def test_the_weights_count_in_the_graphs_digest(model, graphs, tmp_path) -> None:
    manifest = manifest_of(model.config, "test", trained=False)
    digests = []
    for scale in (1.0, 2.0):
        path = tmp_path / str(scale)
        path.mkdir()
        shutil.copy(graphs["fp32"], path / "model.onnx")
        save_weights(model, path / WEIGHTS_NAME)
        share_weights(path / "model.onnx", path / WEIGHTS_NAME)
        data = bytearray((path / WEIGHTS_NAME).read_bytes())
        data[-1] ^= int(scale) - 1  # one bit of one weight, in the second one
        (path / WEIGHTS_NAME).write_bytes(data)
        digests.append(write_package(path, manifest).graph_sha256("model.onnx"))
    assert digests[0] != digests[1]
    (tmp_path / "2.0" / WEIGHTS_NAME).unlink()
    with pytest.raises(Fault, match="which is missing"):
        load_package(tmp_path / "2.0")

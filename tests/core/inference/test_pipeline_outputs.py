"""A network whose outputs are not what a package promises is refused, before memory is taken."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.faults import Fault
from lemumo_core.inference.backends import TensorSpec
from lemumo_core.inference.pipeline import OUTPUT_SHAPES, check_outputs

SIZES = {"K": 100, "box": 7, "h": 64, "w": 176}


def good() -> dict[str, TensorSpec]:
    return {
        name: TensorSpec((1, *(SIZES.get(size, size) for size in shape)), np.dtype(np.float32))
        for name, shape in OUTPUT_SHAPES.items()
    }


def test_good_outputs_pass() -> None:
    check_outputs(good() | {"raw.heatmap": TensorSpec((1, 5), np.dtype(np.float32))})


def test_boxes_of_a_2d_model_have_four_numbers() -> None:
    flat = TensorSpec((1, 100, 4), np.dtype(np.float32))
    check_outputs(good() | {"boxes": flat}, numbers_of_box=4)
    with pytest.raises(Fault, match="output boxes"):
        check_outputs(good(), numbers_of_box=4)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("boxes", (1, 100, 8)),
        ("boxes", (1, 100, 4)),
        ("boxes", (1, 100)),
        ("scores", (1, 99)),
        ("depth", (1, "height", 176)),
        ("labels", (1, 64, None)),
        ("labels", (1, 32, 176)),
        ("depth", (1, -1, 176)),
    ],
)
def test_other_shapes_are_named(name, shape) -> None:
    with pytest.raises(Fault, match="output") as error:
        check_outputs(good() | {name: TensorSpec(shape, np.dtype(np.float32))})
    assert error.value.reason == "bad_package"


def test_a_missing_output_is_named() -> None:
    outputs = good()
    del outputs["labels"]
    with pytest.raises(Fault, match="output labels is None"):
        check_outputs(outputs)


def test_outputs_that_would_fill_the_memory_are_refused() -> None:
    huge = TensorSpec((1, 1 << 20, 1 << 20), np.dtype(np.float32))
    maps = {name: huge for name in ("depth", "depth_confidence", "labels")}
    with pytest.raises(Fault, match="would take"):
        check_outputs(good() | maps)

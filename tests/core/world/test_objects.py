"""The catalogue: every class as large as in the world, models that differ, people with limbs."""

from __future__ import annotations

import numpy as np
import pytest

from lemumo_core.taxonomy import DETECTION_CLASSES, SEGMENTATION_CLASSES
from lemumo_core.world import objects
from lemumo_core.world.solids import PAINT, SOLID, TAPERED, extent
from tests.helpers.surface_points import surface_points

LENGTH_WIDTH_HEIGHT_M = {
    "car": ((3.5, 5.6), (1.7, 2.3), (1.3, 2.2)),
    "truck": ((6, 11), (2.2, 2.9), (2.4, 4)),
    "bus": ((9, 13), (2.4, 2.7), (2.8, 3.4)),
    "motorcycle": ((1.8, 2.4), (0.6, 1.0), (1.3, 1.9)),
    "bicycle": ((1.5, 2.0), (0.4, 0.8), (1.4, 2.0)),
    "pedestrian": ((0.3, 1.3), (0.4, 0.9), (1.45, 2.0)),
}
SEGMENTATION = {
    **dict.fromkeys(("truck", "bus"), "large_vehicle"),
    **dict.fromkeys(("motorcycle", "bicycle"), "two_wheeler"),
}


def _all(split: str, label: str) -> list[np.ndarray]:
    models = range(objects.MODELS_PER_CLASS)
    return [objects.build(label, k, split, np.random.default_rng(k)) for k in models]


@pytest.mark.parametrize("label", DETECTION_CLASSES)
@pytest.mark.parametrize("split", objects.SPLITS)
def test_sizes_and_labels_are_those_of_the_class(label, split):
    for model in _all(split, label):
        assert model.dtype == SOLID
        low, high = extent(model)
        for size, (least, most) in zip(high - low, LENGTH_WIDTH_HEIGHT_M[label], strict=True):
            assert least < size < most
        assert -0.01 < low[2] < 0.06, "stands on the ground"
        names = {tuple(SEGMENTATION_CLASSES)[k] for k in model["label"]}
        assert names == {SEGMENTATION.get(label, label)}
        assert (model["color"] >= 0).all() and (model["color"] <= 1).all()
        assert (model["half"] > 0).all()
        assert ((model["taper"] >= 0) & (model["taper"] <= 1)).all()


@pytest.mark.parametrize("label", DETECTION_CLASSES)
def test_bounds_touch_the_surface_on_all_sides(label):
    for model in _all("train", label)[:3]:
        points = np.concatenate([surface_points(part) for part in model])
        low, high = extent(model)
        np.testing.assert_allclose(low, points.min(axis=0), atol=0.01)
        np.testing.assert_allclose(high, points.max(axis=0), atol=0.01)


@pytest.mark.parametrize("label", DETECTION_CLASSES)
def test_no_two_models_of_any_split_have_one_shape(label):
    shapes = set()
    for split in objects.SPLITS:
        for k in range(objects.MODELS_PER_CLASS):
            model = objects.build(label, k, split, np.random.default_rng(0))
            shapes.add(model["half"].tobytes())
    assert len(shapes) == len(objects.SPLITS) * objects.MODELS_PER_CLASS


def test_one_model_comes_in_several_paints_but_one_shape():
    one, other = (objects.build("car", 0, "train", np.random.default_rng(k)) for k in (1, 2))
    np.testing.assert_array_equal(one["half"], other["half"])
    assert (one["color"] != other["color"]).any()
    again = objects.build("car", 0, "train", np.random.default_rng(1))
    assert one.tobytes() == again.tobytes()


def test_the_roof_of_a_car_is_painted_and_covers_its_glass():
    for model in _all("train", "car"):
        body = model[0]
        top = model["center"][:, 2] + model["half"][:, 2]
        flat = (model["shape"] == TAPERED) & (
            np.abs(top - top[model["shape"] == TAPERED].max()) < 1e-4
        )
        (roof,) = model[flat]
        assert roof["material"] == PAINT
        np.testing.assert_array_equal(roof["color"], body["color"])
        (glass,) = model[(model["shape"] == TAPERED) & (model["material"] != PAINT)]
        # Each half length of the roof's floor is that of the glass's ceiling.
        for sign, side in ((1, 0), (-1, 1)):
            ceiling = glass["center"][0] + sign * glass["half"][0] * (1 - glass["taper"][side])
            floor = roof["center"][0] + sign * roof["half"][0]
            assert floor == pytest.approx(ceiling, abs=1e-4)
        assert roof["half"][1] == pytest.approx(
            glass["half"][1] * (1 - glass["taper"][2]), abs=1e-4
        )


def test_who_moves_is_warm_and_strides():
    def built(label, moving):
        return objects.build(label, 0, "train", np.random.default_rng(0), moving)

    for label in ("car", "truck", "bus", "motorcycle"):
        assert built(label, True)["warmth"].max() > 10 > built(label, False)["warmth"][0]
    car = built("car", False)
    assert car["warmth"].max() < 5, "a parked car's engine is cold"
    walks, stands = (np.subtract(*extent(built("pedestrian", m))[::-1])[0] for m in (True, False))
    assert walks > stands + 0.1


def test_an_unknown_class_is_an_error():
    with pytest.raises(ValueError):
        objects.build("tram", 0, "train", np.random.default_rng(0))

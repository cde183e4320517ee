"""Views: image, returns, camera and labels agree under any crop and flip; what the reference does
wrong (shrunk depth maps, farthest return wins, unflipped boxes) cannot happen."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lemumo_core.data.canvas_labels import CanvasLabels
from lemumo_core.data.crops import Crops, draw_crops
from lemumo_core.data.photometric import PHOTOMETRIC, Changes, Photometric, draw_changes
from lemumo_core.data.render_returns import seen_returns
from lemumo_core.data.resampling import by_column, gaussian_taps, resample
from lemumo_core.data.return_masks import ReturnMasks, masked
from lemumo_core.data.samples import Batch, collate, sample
from lemumo_core.data.views import MultiCrop, MultiCropConfig, Shot, View, clean_view, render
from lemumo_core.frame import Frame, Labels
from lemumo_core.geometry.boxes import box_corners, box_rotation
from lemumo_core.geometry.camera import Camera
from lemumo_core.preprocess import InputSpec
from lemumo_core.taxonomy import Taxonomy
from tests.helpers.made_boxes import made_boxes

H, W = 96, 160
LIDAR, THERMAL = InputSpec(H, W, "lidar", 2), InputSpec(H, W, "thermal", 2)
CAMERA = Camera(W, H, 120.0, 118.0, 83.3, 45.1)
CONFIG = MultiCropConfig(global_size=(64, 96), local_size=(32, 48))


BY_BEAM = torch.zeros(1), torch.zeros(1, dtype=torch.int64), torch.ones(1)
"""A mask of whole beams."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(count: int = 3, spec: InputSpec = LIDAR, points: int = 2000) -> Batch:
    """Noise with labels; returns lie anywhere on the canvas, at 1.1 to 120 m."""
    g = generator(7)
    uv = torch.rand(count, points, 2, generator=g) * torch.tensor([W, H]) - 0.5
    z = 1.1 + 119 * torch.rand(count, points, 1, generator=g)
    boxes = torch.randn(count, 5, 7, generator=g)
    boxes[..., 3:6].abs_()
    ids = torch.tensor([0, 1, 2, 0, -1]).expand(count, 5)
    intrinsics = torch.from_numpy(CAMERA.K.astype(np.float32)).repeat(count, 1, 1)
    thermal = torch.rand(count, H, W, 2, generator=g)
    thermal[..., 1] = (torch.arange(W) > 20).float()
    thermal[..., 0] *= thermal[..., 1]
    return Batch(
        canvas=spec,
        image=torch.randint(0, 256, (count, H, W, 3), dtype=torch.uint8, generator=g),
        present=torch.ones(count, 2),
        intrinsics=intrinsics,
        returns=torch.cat([uv, z], 2) if spec is LIDAR else torch.empty(count, 0, 3),
        picture=None if spec is LIDAR else thermal,
        labels=CanvasLabels(
            label_map=torch.randint(0, 12, (count, H, W), dtype=torch.uint8, generator=g),
            point_labels=torch.randint(
                0, 12, (count, points if spec is LIDAR else 0), dtype=torch.uint8, generator=g
            ),
            depth_m=torch.rand(count, H, W, generator=g),
            boxes=made_boxes(boxes, ids, intrinsics, torch.rand(count, 5), ids.int()),
        ),
    )


@st.composite
def crops(draw) -> tuple[int, int, int, int, int]:
    """left, top, width, height, flipped"""
    width, height = draw(st.integers(24, W)), draw(st.integers(24, H))
    left, top = draw(st.integers(0, W - width)), draw(st.integers(0, H - height))
    return left, top, width, height, draw(st.integers(0, 1))


SIZES = st.sampled_from([(64, 96), (32, 48), (96, 160)])


def shown(batch: Batch, crop, size) -> View:
    crops = Crops(torch.tensor([crop] * len(batch)), (H, W), size)
    (view,) = render(batch, [Shot(crops)])
    return view


def camera_of(crop, size) -> Camera:
    left, top, width, height, flipped = crop
    camera = CAMERA.cropped(left, top, width, height).scaled(size[1], size[0])
    return camera.flipped() if flipped else camera


@settings(max_examples=30, deadline=None)
@given(crops(), SIZES, st.integers(0, 1000))
def test_points_land_on_the_image_content_they_have_in_the_full_view(crop, size, seed) -> None:
    """The image says in its colours where each pixel comes from; the view's camera must lead a
    point to the colours of its place in the full view, and the depth map to its depth."""
    left, top, width, height, flipped = crop
    rng = np.random.default_rng(seed)
    uv = np.array([left, top]) + rng.uniform(0.1, 0.9, 2) * [width, height] - 0.5
    point = CAMERA.unproject(uv[None]) * rng.uniform(2, 60)
    v, u = np.mgrid[:H, :W].astype(np.float32)
    image = np.stack([u, v, 0 * u], axis=-1)  # linear, so no symmetric filter changes it
    returns = torch.tensor([[[*uv, point[0, 2]]]], dtype=torch.float32)
    batch = Batch(
        LIDAR,
        torch.from_numpy(image)[None],
        torch.ones(1, 2),
        torch.from_numpy(CAMERA.K.astype(np.float32))[None],
        returns,
    )
    view = shown(batch, crop, size)
    K = view.intrinsics[0].double().numpy()
    np.testing.assert_allclose(K, camera_of(crop, size).K, rtol=1e-5, atol=1e-4)

    mirrored = point[0] * [-1 if flipped else 1, 1, 1]
    x, y, _ = K @ mirrored / mirrored[2]
    pixels = view.image[0].float().numpy()
    found = cv2.remap(pixels, np.float32([[x]]), np.float32([[y]]), cv2.INTER_LINEAR)[0, 0, :2]
    # 1/2 for the rounding to uint8; 1/32 pixel of remap
    tolerance = 0.52 + np.array([width / size[1], height / size[0]]) / 32
    border = 2 * np.maximum(1, [size[1] / width, size[0] / height])
    if ((border < [x, y]) & ([x, y] < np.array(size[::-1]) - 1 - border)).all():
        assert (np.abs(found - uv) < tolerance).all()
    row, column = np.argwhere(view.companion[0, ..., 1].numpy())[0]
    assert np.abs([column - x, row - y]).max() < 0.5 + 1e-3
    assert view.companion[0, row, column, 0] == pytest.approx(point[0, 2] / 80)


@settings(max_examples=12, deadline=None)
@given(crops(), SIZES)
def test_resampling_is_interpolate_of_the_cropped_image(crop, size) -> None:
    left, top, width, height, flipped = crop
    batch = batch_of(2)
    cut = batch.image[:, top : top + height, left : left + width].permute(0, 3, 1, 2).float()
    expected = functional.interpolate(cut, size, mode="bilinear", antialias=True)
    expected = expected.flip(3) if flipped else expected
    ours = shown(batch, crop, size).image.permute(0, 3, 1, 2).float()
    assert (ours - expected).abs().max() < 0.501


def depth_by_loop(returns, crop, size) -> np.ndarray:
    """A z-buffer from the definition, in float64."""
    left, top, width, height, flipped = crop
    depth = np.full(size, np.inf)
    for u, v, z in returns.double().numpy():
        x, y = (u + 0.5 - left) / width * size[1], (v + 0.5 - top) / height * size[0]
        x = size[1] - x if flipped else x
        if 0 <= x < size[1] and 0 <= y < size[0]:
            depth[int(y), int(x)] = min(depth[int(y), int(x)], z)
    return depth


@settings(max_examples=10, deadline=None)
@given(crops(), SIZES)
def test_no_view_shows_a_depth_that_no_return_had(crop, size) -> None:
    """Neither averages nor farthest returns (spec section 9, items 5 and 6)."""
    batch = batch_of(1)
    value, valid = shown(batch, crop, size).companion[0].unbind(-1)
    measured = (batch.returns[0, :, 2] / 80).clamp(max=1)
    assert torch.isin(value[valid > 0], measured).all()
    assert (value[valid == 0] == 0).all()
    expected = depth_by_loop(batch.returns[0], crop, size)
    clipped = np.where(np.isinf(expected), 0, np.minimum(expected / 80, 1))
    same = np.isclose(value.numpy(), clipped, atol=1e-6)
    assert (~same).sum() <= 4  # float32 may put a return that falls on a pixel's edge beyond it


def test_depth_does_not_depend_on_the_density_of_returns() -> None:
    """Item 5: one return in a hundred pixels keeps its depth when the view shrinks."""
    batch = batch_of(1, points=150)
    batch.returns[..., 2] = 20.0
    for size in ((16, 32), (48, 80), (96, 160), (192, 320)):
        value, valid = shown(batch, (0, 0, W, H, 0), size).companion[0].unbind(-1)
        assert valid.sum() > 50
        assert (value[valid > 0] == 0.25).all()


def test_the_nearest_return_wins_when_a_view_shrinks() -> None:
    """Item 6: a pedestrian in front of a wall stays in front of it."""
    batch = batch_of(1, points=2)
    batch.returns[0] = torch.tensor([[40.0, 40.0, 50.0], [41.0, 41.0, 5.0]])
    value = shown(batch, (0, 0, W, H, 0), (16, 32)).companion[0, ..., 0]
    assert value[value > 0].tolist() == [5 / 80]


def test_a_flip_flips_everything() -> None:
    """Item 9, and that image, maps and labels of a flipped view are the mirrored view."""
    batch = batch_of()
    straight, flipped = (shown(batch, (10, 5, 120, 70, f), (64, 96)) for f in (0, 1))
    assert torch.equal(flipped.image, straight.image.flip(2))
    assert torch.equal(flipped.companion, straight.companion.flip(2))
    assert torch.equal(flipped.labels.label_map, straight.labels.label_map.flip(2))
    assert torch.equal(flipped.labels.depth_m, straight.labels.depth_m.flip(2))
    for view in straight, flipped:
        assert view.labels.boxes.class_ids.tolist() == batch.labels.boxes.class_ids.tolist()
    assert torch.equal(straight.labels.boxes.boxes_3d, batch.labels.boxes.boxes_3d)
    mirror = np.array([-1.0, 1, 1])
    before, after = (view.labels.boxes.boxes_3d.double().numpy() for view in (straight, flipped))
    for b in range(3):
        for k in range(4):
            ours, mirrored = (box_corners(x[b, k][None])[0] for x in (after, before))
            for corner in mirrored * mirror:
                assert np.abs(ours - corner).max(axis=1).min() < 1e-5
            forward = box_rotation(before[b, k, 6])[:, 0] * mirror  # front and rear are not swapped
            np.testing.assert_allclose(box_rotation(after[b, k, 6])[:, 0], forward, atol=1e-5)
        np.testing.assert_array_equal(after[b, 4], before[b, 4])  # padding
    yaw = after[:, :4, 6]
    assert (yaw >= -np.pi - 1e-6).all() and (yaw <= np.pi + 1e-6).all()


@settings(max_examples=10, deadline=None)
@given(crops(), SIZES)
def test_labels_are_the_nearest_pixels(crop, size) -> None:
    left, top, width, height, flipped = crop
    batch = batch_of(1)
    labels = shown(batch, crop, size).labels
    rows = np.floor(top + (np.arange(size[0]) + 0.5) * height / size[0]).astype(int)
    columns = np.floor(left + (np.arange(size[1]) + 0.5) * width / size[1]).astype(int)
    columns = columns[::-1] if flipped else columns
    for ours, source in (
        (labels.label_map, batch.labels.label_map),
        (labels.depth_m, batch.labels.depth_m),
    ):
        np.testing.assert_array_equal(ours[0], source[0].numpy()[rows[:, None], columns])


def test_unlabelled_pixels_take_the_label_and_depth_of_the_return_they_show() -> None:
    batch = batch_of(1)
    batch.labels.label_map.fill_(255)
    batch.labels.depth_m.fill_(torch.nan)
    crop, size = (10, 5, 120, 70, 1), (32, 48)
    labels = shown(batch, crop, size).labels
    depth = depth_by_loop(batch.returns[0], crop, size)
    # What the camera does not see gives no label; NumPy's rule is held in test_depth_projection.
    seen = seen_returns(batch, 1)[0]
    assert 0 < seen.sum() < len(seen)
    point_labels = torch.where(seen, batch.labels.point_labels[0], 255)
    label_of = dict(zip(batch.returns[0, :, 2].tolist(), point_labels.tolist(), strict=True))
    label_of[np.inf] = 255
    expected = np.vectorize(label_of.get)(depth)
    assert (labels.label_map[0].numpy() != expected).sum() <= 4
    assert (labels.label_map[0][labels.depth_m[0].isnan()] == 255).all()


def test_masked_returns_are_truth_as_the_lidar_measured_them() -> None:
    """All that the other returns do not hide, whatever dense depth says."""
    batch = replace(batch_of(1), beams=torch.arange(2000)[None] % 16)
    assert batch.labels.depth_m.max() < batch.returns[..., 2].min()
    crop, size = (0, 0, W, H, 0), (H, W)
    shot = Shot(Crops(torch.tensor([crop]), (H, W), size), None, ReturnMasks(*BY_BEAM))
    (view,) = render(batch, [shot])
    hidden = masked(ReturnMasks(*BY_BEAM), batch.beams) & seen_returns(batch, 1)
    expected = depth_by_loop(batch.returns[0][hidden[0]], crop, size)
    found = view.labels.masked[0, 0].nan_to_num(np.inf).numpy()
    assert np.array_equal(found, expected) and np.isfinite(found).sum() > 100


def test_multi_crop_gives_the_views_of_the_config() -> None:
    batch = batch_of(2)
    local_only = {"local_views": 0}
    views = MultiCrop(CONFIG)(batch, generator())
    for view, rows, size in zip(views, (4, 8), ((64, 96), (32, 48)), strict=True):
        assert view.image.shape == (rows, *size, 3) and view.image.dtype == torch.uint8
        assert view.companion.shape == (rows, *size, 2) and view.companion.dtype == torch.float32
        assert view.intrinsics.shape == (rows, 3, 3) and view.present.shape == (rows, 2)
        assert view.labels.boxes.boxes_3d.shape == (rows, 5, 7)
        assert view.labels.boxes.known_3d.shape == (rows,)
    (single,) = MultiCrop(MultiCropConfig(1, **local_only))(batch, generator())
    assert len(single.image) == 2


def test_row_v_b_shows_sample_b() -> None:
    batch = batch_of(3)
    for b in range(3):
        batch.image[b] = 50 * b
        batch.returns[b, :, 2] = 8.0 * (b + 1)
    for view in MultiCrop(
        MultiCropConfig(2, 4, (64, 96), (32, 48), photometric=PHOTOMETRIC["none"])
    )(batch, generator()):
        sample = torch.arange(len(view.image)) % 3
        assert (view.image == (50 * sample)[:, None, None, None]).all()
        value, valid = view.companion.unbind(-1)
        assert torch.equal(value, (valid * 0.1 * (sample[:, None, None] + 1)).float())


def test_the_generator_alone_determines_the_views() -> None:
    batch, crop = batch_of(2), MultiCrop(CONFIG)
    first = crop(batch, generator(3))
    torch.manual_seed(1)  # the global state must not matter
    for a, b, c in zip(first, crop(batch, generator(3)), crop(batch, generator(4)), strict=True):
        assert torch.equal(a.image, b.image) and torch.equal(a.companion, b.companion)
        assert torch.equal(a.intrinsics, b.intrinsics)
        assert not torch.equal(a.intrinsics, c.intrinsics)


def test_autocast_changes_nothing() -> None:
    batch = batch_of(1)
    original = MultiCrop(CONFIG)(batch, generator())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = MultiCrop(CONFIG)(batch, generator())
    assert all(torch.equal(a.image, b.image) for a, b in zip(original, mixed, strict=True))


@pytest.mark.parametrize("area", [(0.05, 0.4), (0.4, 1.0), (1.0, 1.0)])
def test_drawn_crops_are_as_asked(area) -> None:
    table = draw_crops(4000, (H, W), (32, 32), area, (3 / 4, 4 / 3), (0.5, 0.0), generator()).table
    left, top, width, height, flipped = table.double().unbind(1)
    assert (left >= 0).all() and (top >= 0).all()
    assert (left + width <= W).all() and (top + height <= H).all()
    share, ratio = width * height / (W * H), (width / W) / (height / H)
    assert area[0] * 0.96 < share.min() and share.max() < area[1] * 1.04
    assert share.mean() == pytest.approx(sum(area) / 2, abs=0.01)
    assert ratio.min() > 0.74 * 0.97 and ratio.max() < 1.34 * 1.03
    assert ratio.log().mean().abs() < 0.02
    assert flipped.mean() == pytest.approx(0.5, abs=0.03)
    if area[1] < 1:
        assert (left == 0).any() and (left + width == W).any()


# Appearance


def image_changes(**values: float) -> Changes:
    names = ("brightness", "contrast", "saturation", "hue", "sigma", "gain", "thermal_contrast")
    rare = ("solarized", "raster_gray", "raster_sigma")
    neutral = dict.fromkeys(names, 1.0) | dict.fromkeys((*rare, "hue", "sigma"), 0.0) | values
    names += rare
    return Changes(torch.tensor([[neutral[name] for name in names]]), 7)


def test_color_factors_are_those_of_their_definitions() -> None:
    image = batch_of(1).image.float()
    x = image[0].double().numpy()
    gray = (x @ [0.299, 0.587, 0.114])[..., None]
    for name, f, other in (
        ("brightness", 0.4, 0 * x),
        ("contrast", 1.7, gray.mean() + 0 * x),
        ("saturation", 0.3, gray),
        ("saturation", 0.0, gray),
        ("hue", 0.0, x),
    ):
        ours = image_changes(**{name: f}).of_image(image)[0]
        np.testing.assert_allclose(ours, f * x + (1 - f) * other, atol=2e-2)


def test_hue_keeps_luma_and_gray_and_turns_colors() -> None:
    image = torch.tensor([[[[200.0, 60, 60], [90, 90, 90]]]]).expand(1, 8, 2, 3)
    for turns in (-0.2, 0.1, 1 / 3):
        turned = image_changes(hue=turns, sigma=0.0)._replace(blur_taps=1).of_image(image)[0, 0]
        luma = turned.double() @ torch.tensor([0.299, 0.587, 0.114]).double()
        np.testing.assert_allclose(luma, [101.86, 90], atol=0.05)
        np.testing.assert_allclose(turned[1], 90, atol=0.05)
        assert (turned[0] - image[0, 0, 0]).abs().max() > 10
    full = image_changes(hue=1.0)._replace(blur_taps=1).of_image(image)
    np.testing.assert_allclose(full, image, atol=0.05)


def test_blur_is_opencvs() -> None:
    images = batch_of(2).image.float()
    sigma = torch.tensor([0.0, 1.3])
    taps = (gaussian_taps(sigma, n, 7) for n in (H, W))
    ours = resample(by_column(images), *taps)
    assert torch.equal(ours[0], images[0])
    expected = cv2.GaussianBlur(images[1].numpy(), (7, 7), 1.3, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(ours[1], expected, atol=1e-2)


def test_photometric_changes_never_reach_the_companion_of_lidar() -> None:
    batch = batch_of(2)
    strong, none = (
        MultiCrop(MultiCropConfig(2, 0, (64, 96), photometric=PHOTOMETRIC[name]))(
            batch, generator()
        )
        for name in ("flir", "none")
    )
    assert torch.equal(strong[0].companion, none[0].companion)
    assert torch.equal(strong[0].labels.label_map, none[0].labels.label_map)
    assert not torch.equal(strong[0].image, none[0].image)


def test_solarized_images_are_those_of_pillow() -> None:
    levels = torch.arange(256.0).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    found = (
        image_changes(solarized=1.0)
        ._replace(blur_taps=1, solarizes=True)
        .of_image(levels)
        .flatten(0, 2)[:, 0]
    )
    expected = np.where(np.arange(256) < 128, np.arange(256), 255 - np.arange(256))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_rasters_turn_gray_and_blur_over_what_is_known() -> None:
    value = torch.rand(1, 12, 16, 3, generator=generator())
    valid = torch.ones(1, 12, 16, 1, dtype=torch.bool)
    valid[:, :, :4] = False
    gray = image_changes(raster_gray=1.0).of_picture(value, valid)
    torch.testing.assert_close(gray[0, :, 4:, 0], value[0, :, 4:].mean(-1))
    blurs = image_changes(raster_sigma=1.5)._replace(raster_blur_taps=5)
    constant = blurs.of_picture(torch.where(valid, 0.4, 9.0).expand_as(value), valid)
    torch.testing.assert_close(constant[:, :, 4:], torch.full_like(constant[:, :, 4:], 0.4))
    assert blurs.of_picture(value, valid)[:, :, 4:].std() < 0.5 * value.std()


def test_upended_views_are_views_upside_down() -> None:
    batch = batch_of(1, LIDAR)
    upright, upended = (shown(batch, (4, 2, 96, 64, flip), (32, 48)) for flip in (1, 3))
    for name in ("image", "companion"):
        one, other = getattr(upright, name), getattr(upended, name)
        assert (one.flip(1).float() - other.float()).abs().max() <= (1 if name == "image" else 0)
    labels, turned = upright.labels, upended.labels
    assert torch.equal(labels.label_map.flip(1), turned.label_map)
    exists = labels.boxes.class_ids >= 0
    mirror = torch.tensor([1.0, -1, 1, 1, 1, 1, 1])
    boxes_3d = labels.boxes.boxes_3d[exists], turned.boxes.boxes_3d[exists]
    assert exists.any() and torch.equal(boxes_3d[0] * mirror, boxes_3d[1])
    torch.testing.assert_close(labels.boxes.boxes_2d[..., 1], 31 - turned.boxes.boxes_2d[..., 3])
    drawn = MultiCrop(MultiCropConfig(1, 0, (64, 96), vertical_flip=1.0))(batch, generator())
    assert drawn[0].crops.upended.all()


def test_an_absent_image_stays_absent() -> None:
    batch = batch_of(1)
    batch.image.zero_()
    assert all((view.image == 0).all() for view in MultiCrop(CONFIG)(batch, generator()))


def test_thermal_has_its_own_changes_and_keeps_its_validity() -> None:
    batch = batch_of(2, THERMAL)
    only_thermal = Photometric(
        jitter_p=0, gray_p=0, blur_p=0, thermal_gain=0.5, thermal_contrast=0.5
    )
    (changed,), (original,) = (
        MultiCrop(MultiCropConfig(2, 0, (64, 96), photometric=p))(batch, generator())
        for p in (only_thermal, PHOTOMETRIC["none"])
    )
    assert torch.equal(changed.image, original.image)
    (value, valid), (before, valid_before) = (v.companion.unbind(-1) for v in (changed, original))
    assert torch.equal(valid, valid_before) and 0 < valid.mean() < 1
    assert (value[valid == 0] == 0).all() and value.min() >= 0 and value.max() <= 1
    assert not torch.equal(value, before)
    stronger = image_changes(gain=1.2, thermal_contrast=0.5)
    gained = stronger.of_picture(before[:1, ..., None], valid[:1, ..., None] > 0)[..., 0]
    mean = before[0][valid[0] > 0].mean()
    expected = (1.2 * (mean + 0.5 * (before[0] - mean))).clamp(0, 1)
    torch.testing.assert_close(gained[0], expected)


def test_thermal_at_the_edge_of_what_is_seen_is_not_darkened() -> None:
    batch = batch_of(1, THERMAL)
    batch.picture[..., 0] = 0.7 * batch.picture[..., 1]
    value, valid = shown(batch, (3, 2, 150, 90, 0), (32, 48)).companion[0].unbind(-1)
    assert 0 < valid.mean() < 1
    torch.testing.assert_close(value, 0.7 * valid)


def test_drawn_changes_follow_their_probabilities() -> None:
    columns = draw_changes(PHOTOMETRIC["waymo"], 4000, generator()).table.double().unbind(1)
    brightness, _, saturation, hue, sigma, gain, *_ = columns
    assert (brightness == 1).double().mean() == pytest.approx(0.2, abs=0.03)
    assert (saturation == 0).double().mean() == pytest.approx(0.2, abs=0.03)
    assert 0.2 <= brightness.min() < 0.25 and 1.75 < brightness.max() <= 1.8
    assert hue.abs().max() <= 0.2 and hue.mean().abs() < 0.01
    assert sigma.min() >= 0.1 and sigma.max() <= 2 and gain.std() > 0.1
    assert draw_changes(PHOTOMETRIC["nuscenes"], 4, generator()).blur_taps == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"global_views": 0},
        {"local_views": -1},
        {"global_size": (100, 224)},
        {"local_scale": (0.4, 0.05)},
        {"global_scale": (0.4, 1.5)},
        {"aspect": (1.1, 2.0)},
        {"flip": 2.0},
    ],
)
def test_bad_configs_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
        MultiCropConfig(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"jitter_p": 2}, {"hue": 0.6}, {"blur_taps": 4}, {"blur_sigma": (0.0, 1.0)}, {"contrast": -1}],
)
def test_bad_strengths_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Photometric(**wrong)


def test_the_whole_canvas_is_itself() -> None:
    batch = batch_of(2)
    view = clean_view(batch)
    assert torch.equal(view.image, batch.image)
    assert torch.equal(view.labels.label_map, batch.labels.label_map)
    assert torch.equal(view.intrinsics, batch.intrinsics)


WIDE = Camera(320, 240, 150.0, 151.0, 163.0, 118.0, "plumb_bob", (-0.28, 0.07, 1e-3, -2e-3, 0.0))


@settings(max_examples=20, deadline=None)
@given(crops(), SIZES, st.integers(0, 1000))
def test_boxes_of_a_distorted_camera_lie_where_the_view_shows_them(crop, size, seed) -> None:
    """Centres and 2D boxes against the camera's own model, moved by ``camera_of``'s operations."""
    rng = np.random.default_rng(seed)
    boxes = np.zeros((6, 7), np.float32)
    boxes[:, 2] = rng.uniform(3, 60, 6)
    boxes[:, :2] = rng.uniform((-0.8, -0.5), (0.8, 0.5), (6, 2)) * boxes[:, 2:3]
    boxes[5, 2] = -4.0
    low = rng.uniform(0, (200, 150), (6, 2))
    boxes_2d = np.hstack([low, low + rng.uniform(5, 90, (6, 2))]).astype(np.float32)
    labels = Labels(boxes_3d=boxes, boxes_2d=boxes_2d, class_names=("car",) * 6)
    image = np.zeros((240, 320, 3), np.uint8)
    batch = collate([sample(Frame(0, "c", WIDE, image, labels=labels), LIDAR, Taxonomy(("car",)))])
    ours = shown(batch, crop, size).labels.boxes

    left, top, width, height, flipped = crop
    canvas = WIDE.scaled(W, 120).cropped(0, 120 - H, W, H)
    camera = canvas.cropped(left, top, width, height).scaled(size[1], size[0])
    mirror = np.array([-1.0 if flipped else 1.0, 1, 1])
    camera = camera.flipped() if flipped else camera
    uv, valid = camera.project(boxes[:, :3].astype(np.float64) * mirror)
    np.testing.assert_allclose(ours.centers[0].numpy(), uv, atol=2e-3)
    assert not valid[5] and valid[:5].all()
    pinhole = boxes[:5, :2] * mirror[:2] / boxes[:5, 2:3] * (camera.fx, camera.fy)
    assert np.abs(uv[:5] - pinhole - (camera.cx, camera.cy)).max() > 0.5  # distortion matters

    scale = np.array([size[1] / width, size[0] / height])
    moved = (boxes_2d.reshape(6, 2, 2) + 0.5) * 0.5 - (0, 120 - H) - (left, top)
    moved = (moved * scale - 0.5).reshape(6, 4)
    if flipped:
        moved[:, [0, 2]] = size[1] - 1 - moved[:, [2, 0]]
    cut = moved.reshape(6, 2, 2).clip(0, np.array([size[1] - 1, size[0] - 1])).reshape(6, 4)
    np.testing.assert_allclose(ours.boxes_2d[0].numpy(), cut, atol=2e-3)
    assert ours.known_2d.all() and ours.known_3d.all()

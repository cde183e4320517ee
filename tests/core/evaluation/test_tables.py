"""Names of metrics outside of tables are those that tables have."""

from __future__ import annotations

import pytest

from lemumo_core.evaluation.tables import metric_name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("depth_mae_m", "depth MAE, m"),
        ("nearest_mae_m", "depth MAE of the nearest return, m"),
        ("map_xy", "mAP XY of Le MuMo JEPA"),
        ("constant_miou", "mIoU of the most frequent class everywhere"),
        ("some_other", "some other"),
    ],
)
def test_a_metric_is_named_with_the_one_that_it_is_a_detail_of(key, name) -> None:
    assert metric_name(key) == name

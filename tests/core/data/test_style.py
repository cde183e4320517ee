"""Random styles change how images look, and nothing of where things are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, zoom

from lemumo_core.data.photometric import PHOTOMETRIC, Photometric, draw_changes
from lemumo_core.data.style import draw_styles

ROWS, HEIGHT, WIDTH = 6, 24, 40


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def images() -> torch.Tensor:
    return 255 * torch.rand(ROWS, HEIGHT, WIDTH, 3, generator=generator())


def test_a_style_is_response_light_and_a_convolution_that_keeps_the_statistics() -> None:
    """Against NumPy and SciPy, image by image and channel by channel."""
    styles = draw_styles(1.0, ROWS, generator())
    ours = styles.of_image(images())
    for row, image in enumerate(images().double().numpy()):
        gamma, kernels = styles.gamma[row].numpy(), styles.kernels[row].double().numpy()
        light = np.exp(
            zoom(styles.log_light[row, 0].double().numpy(), (HEIGHT / 4, WIDTH / 4), order=1)
        )
        lit = (image / 255) ** gamma * light[..., None]
        for channel in range(3):
            mixed = sum(
                correlate(lit[..., source], kernels[channel, source], mode="nearest")
                for source in range(3)
            )
            own = lit[..., channel]
            mixed = (mixed - mixed.mean()) / mixed.std(ddof=1) * own.std(ddof=1) + own.mean()
            share = float(styles.mix[row])
            expected = (255 * (own + share * (mixed - own))).clip(0, 255)
            np.testing.assert_allclose(ours[row, ..., channel], expected, atol=2e-2)


def test_what_has_no_style_stays_as_it_is() -> None:
    styles = draw_styles(0.5, 400, generator())
    styled = styles.mix > 0
    assert styled.double().mean() == pytest.approx(0.5, abs=0.08)
    neutral = styles._replace(**{k: v[~styled][:ROWS] for k, v in styles._asdict().items()})
    torch.testing.assert_close(neutral.of_image(images()), images(), atol=1e-3, rtol=0)


def test_styles_come_with_the_changes_of_views() -> None:
    changes = draw_changes(Photometric(style_p=1.0, blur_p=0.0), ROWS, generator())
    assert changes.styles is not None
    plain = changes._replace(styles=None)
    expected = plain.of_image(changes.styles.of_image(images()))
    assert torch.equal(changes.of_image(images()), expected)
    rows = torch.tensor([4, 1])
    assert torch.equal(changes.of_rows(rows).of_image(images()[rows])[1], expected[1])
    assert draw_changes(PHOTOMETRIC["waymo"], ROWS, generator()).styles is None
    with pytest.raises(ValueError, match="style_p is 2"):
        Photometric(style_p=2.0)

# SPDX-License-Identifier: Apache-2.0
"""Changes of colour against PIL, and against a loop with colorsys; jitter draws and orders them evenly."""

import colorsys
import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from pluri.ssl import draw
from pluri.vision import color


def keys(n):
    return draw.fold(torch.tensor(draw.key(0, "vision")), torch.arange(n))


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pil(image):
    array = np.asarray(image, dtype=np.float32) / 255
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_brightness_contrast_and_saturation_equal_those_of_pil(name, factor, pictures):
    operation, enhance = {
        "brightness": (color.brightness, ImageEnhance.Brightness),
        "contrast": (color.contrast, ImageEnhance.Contrast),
        "saturation": (color.saturation, ImageEnhance.Color),
    }[name]
    images = pictures(6)
    ours = operation(images / 255.0, torch.full((6, 1, 1, 1), factor))
    for image, mine in zip(images, ours, strict=True):
        wanted = from_pil(enhance(to_pil(image)).enhance(factor))
        assert (mine - wanted).abs().max() < 2.01 / 255  # PIL rounds the grey it blends with, and the result


def test_grey_is_that_of_pil(pictures):
    images = pictures(6)
    for image, mine in zip(images, color.to_grey(images / 255.0), strict=True):
        assert (mine - from_pil(to_pil(image).convert("L"))).abs().max() < 1.01 / 255
    grey = pictures(2, channels=1) / 255.0
    assert color.to_grey(grey) is grey
    for operation in (color.saturation, color.hue):
        assert torch.equal(operation(grey, torch.full((2, 1, 1, 1), 0.3)), grey)


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.07, 0.5])
def test_hue_is_turned_as_a_loop_with_colorsys_does(shift):
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    images[0, :, 0, :4] = torch.tensor([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0]]).T
    images[0, :, 1, :4] = torch.tensor([[1, 1, 0.2], [0, 1, 1], [0.3, 0, 0.3], [0, 0, 1]]).T
    wanted = torch.zeros_like(images)
    for i in range(2):
        for y in range(6):
            for x in range(6):
                hue, saturation, value = colorsys.rgb_to_hsv(*images[i, :, y, x].tolist())
                wanted[i, :, y, x] = torch.tensor(colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value))
    assert (color.hue(images, torch.full((2, 1, 1, 1), shift)) - wanted).abs().max() < 1e-5


def test_hue_is_roughly_that_of_pils_hsv(pictures):
    images = pictures(4)
    for shift in (-24, 13):
        for image, mine in zip(images, color.hue(images / 255.0, torch.full((4, 1, 1, 1), shift / 255)), strict=True):
            h, s, v = to_pil(image).convert("HSV").split()
            turned = Image.merge("HSV", (h.point([(i + shift) % 256 for i in range(256)]), s, v)).convert("RGB")
            error = (mine - from_pil(turned)).abs()
            assert error.mean() < 2 / 255 and error.max() < 12 / 255


@pytest.mark.parametrize("which", range(4))
def test_jitter_draws_its_factors_evenly_within_their_strength(which):
    a, b, c, d = (one if which == number else 0.0 for number, one in enumerate((0.4, 0.4, 0.2, 0.1)))
    strength = a, b, c, d
    base = torch.tensor([0.5, 0.3, 0.4])[:, None, None] + torch.tensor([[-0.05, 0.05]])
    out = color.jitter(base.expand(4000, -1, -1, -1).contiguous(), keys(4000), strength)
    if which == 3:
        hue = [colorsys.rgb_to_hsv(*pixel)[0] for pixel in out[:, :, 0, 0].tolist()]
        start = colorsys.rgb_to_hsv(*base[:, 0, 0].tolist())[0]
        drawn = np.array([(x - start + 0.5) % 1.0 - 0.5 for x in hue])
    else:
        grey = color.to_grey(base[None])
        middle = {0: torch.zeros(1), 1: grey.mean(), 2: grey[0, :, 0, 0]}[which]
        drawn = ((out[:, 0, 0, 0] - middle) / (base[0, 0, 0] - middle)).numpy() - 1.0
    assert np.abs(drawn).max() < strength[which] * 1.001 and abs(drawn.mean()) < 0.04 * strength[which]
    assert np.abs(np.quantile(drawn / strength[which], [0.25, 0.5, 0.75]) - [-0.5, 0.0, 0.5]).max() < 0.06


def test_jitter_is_the_four_operations_one_after_the_other_in_every_order():
    """With the factors that one operation alone shows, each image equals one of the 24 orders; all 24 occur alike."""
    n, strength = 1200, (0.4, 0.4, 0.2, 0.1)
    images = torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(1)).expand(n, -1, -1, -1) * 0.5 + 0.2
    out = color.jitter(images, keys(n), strength)
    factors = 1.0 + (2.0 * draw.uniform(draw.fold(keys(n), "factors"), 4) - 1.0) * torch.tensor(strength)
    factors[:, 3] -= 1.0
    operations = (color.brightness, color.contrast, color.saturation, color.hue)
    errors = []
    for order in itertools.permutations(range(4)):
        x = images
        for number in order:
            x = operations[number](x, factors[:, number, None, None, None])
        errors.append((x - out).abs().amax((1, 2, 3)))
    best, order = torch.stack(errors).min(0)
    assert best.max() < 1e-5
    counts = torch.bincount(order, minlength=24)
    assert counts.min() > 20 and counts.max() < 90  # 50 each

# SPDX-License-Identifier: Apache-2.0
"""Views of images: crops, blur and solarising against PIL, scipy and a loop; each view its image's and key's alone."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from pluri.ssl import draw
from pluri.vision.augment import (
    ImageViewsConfig,
    ViewConfig,
    blur,
    crop_and_flip,
    crop_boxes,
    resize_weights,
    small_views,
)

PLAIN = ViewConfig(crop=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0, solarise=0.0)


def keys(n):
    return draw.fold(torch.tensor(draw.key(0, "vision")), torch.arange(n))


def middling(images):
    """Without the darkest and brightest: PIL cuts off between its two passes what overshoots."""
    return (images * 0.4 + 76).to(torch.uint8)


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pil(image):
    array = np.asarray(image, dtype=np.float32) / 255
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 90), (200, 20), (33, 32)])
@pytest.mark.parametrize("crop", [(0.08, 1.0), (0.9, 1.0), (0.2, 0.2)])
def test_crop_boxes_equal_a_loop_of_ten_tries(height, width, crop):
    config = ViewConfig(crop=crop)
    boxes = crop_boxes(keys(400), config, height, width)
    u = draw.uniform(draw.fold(keys(400), "crop"), 22).double()
    same = 0
    for box, numbers in zip(boxes.tolist(), u.tolist(), strict=True):
        for area, ratio in zip(numbers[:10], numbers[10:20], strict=True):
            area = height * width * (crop[0] + area * (crop[1] - crop[0]))
            ratio = math.exp(math.log(3 / 4) + ratio * (math.log(4 / 3) - math.log(3 / 4)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                wanted = [int(numbers[20] * (height - h + 1)), int(numbers[21] * (width - w + 1)), h, w]
                break
        else:
            w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
            wanted = [(height - h) / 2, (width - w) / 2, h, w]
            assert max(abs(a - b) for a, b in zip(box, wanted, strict=True)) <= 0.5
            wanted = box
        same += box == wanted
    assert same >= 396  # single precision rounds the other way now and then
    top, left, h, w = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= height).all() and (left + w <= width).all()
    assert (boxes == boxes.round()).all() and (h >= 1).all() and (w >= 1).all()


def test_areas_ratios_and_places_of_crops_fill_their_ranges():
    boxes = crop_boxes(keys(6000), ViewConfig(crop=(0.2, 0.6)), 200, 200).double()
    area, ratio = boxes[:, 2] * boxes[:, 3] / 200**2, (boxes[:, 3] / boxes[:, 2]).log()
    assert 0.19 < area.min() < 0.21 and 0.59 < area.max() < 0.61 and abs(area.mean() - 0.4) < 0.01
    limit = math.log(4 / 3)
    assert ratio.abs().max() < limit + 0.02 and ratio.mean().abs() < 0.01
    assert (ratio.abs() < limit / 2).double().mean().item() == pytest.approx(0.5, abs=0.02)
    for start, side in ((boxes[:, 0], boxes[:, 2]), (boxes[:, 1], boxes[:, 3])):
        place = (start + 0.5) / (201 - side)
        assert place.quantile(torch.tensor([0.25, 0.5, 0.75]).double()).sub(
            torch.tensor([0.25, 0.5, 0.75])
        ).abs().max() < 0.02  # fmt: skip


@pytest.mark.parametrize(("height", "width", "size"), [(40, 56, 24), (23, 19, 32), (97, 60, 16)])
def test_resized_crops_equal_those_of_interpolate_and_of_pil(height, width, size, pictures):
    images = middling(pictures(12, height, width))
    config = ViewConfig(flip=0.0)
    out = crop_and_flip(images, keys(12), config, size)
    mirrored = crop_and_flip(images, keys(12), dataclasses.replace(config, flip=1.0), size)
    assert torch.allclose(mirrored, out.flip(3), atol=1e-6)
    for image, mine, box in zip(images, out, crop_boxes(keys(12), config, height, width).int().tolist(), strict=True):
        top, left, h, w = box
        piece = image[None, :, top : top + h, left : left + w] / 255.0
        wanted = F.interpolate(piece, size=(size, size), mode="bicubic", antialias=True)[0].clamp(0, 1)
        assert (mine - wanted).abs().max() < 1e-4
        small = to_pil(image).crop((left, top, left + w, top + h)).resize((size, size), Image.Resampling.BICUBIC)
        assert (mine - from_pil(small)).abs().max() < 2.01 / 255


def test_resizing_to_the_same_size_changes_nothing_and_weights_add_up():
    weights = resize_weights(torch.tensor([3.0, 0.0]), torch.tensor([20.0, 20.0]), 30, 20)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 20))
    assert torch.allclose(weights[0, :, 3:23], torch.eye(20), atol=1e-6) and not weights[0, :, 23:].any()
    assert torch.allclose(weights[1, :, :20], torch.eye(20), atol=1e-6)


def test_uint8_images_and_their_float_versions_give_the_same_views(pictures):
    images = pictures(4)
    views = small_views().build()
    assert torch.allclose(views(images, None, keys(4), 0)[0], views(images / 255.0, None, keys(4), 0)[0], atol=1e-5)


@pytest.mark.parametrize("sizes", [(40, 40), (64, 100), (21, 224)])
def test_blur_equals_scipys_gaussian_filter(sizes):
    ndimage = pytest.importorskip("scipy.ndimage")
    images = torch.rand(5, 3, *sizes, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 0.5, 1.0, 1.7, 2.0])
    radius = max(1, round(min(sizes) / 20))
    for image, mine, width in zip(images, blur(images, sigma), sigma.tolist(), strict=True):
        wanted = image.numpy().astype(np.float64)
        for axis in (1, 2):
            wanted = ndimage.gaussian_filter1d(wanted, width, axis=axis, mode="mirror", radius=radius)
        assert np.abs(mine.numpy() - wanted).max() < 1e-5


def unnormalised(config, images, view=0):
    out, lengths = config.build()(images, None, keys(len(images)), view)
    assert lengths is None and out.dtype == torch.float32
    channels = images.shape[1]
    return out * torch.tensor(config.std)[:channels, None, None] + torch.tensor(config.mean)[:channels, None, None]


def test_solarised_views_are_those_of_pil(pictures):
    images = pictures(6)
    config = ImageViewsConfig(size=40, first=dataclasses.replace(PLAIN, solarise=1.0), second=PLAIN)
    for image, mine in zip(images, unnormalised(config, images), strict=True):
        assert (mine - from_pil(ImageOps.solarize(to_pil(image), 128))).abs().max() < 1e-5
    assert (unnormalised(config, images, view=1) - images / 255.0).abs().max() < 1e-5


@pytest.mark.parametrize("what", ["flip", "jitter", "grey", "blur", "solarise"])
def test_each_operation_is_applied_with_its_probability(what, pictures):
    images = pictures(1, 24, 24).expand(1500, -1, -1, -1)
    settings = {what: 0.3, "strength": (0.4, 0.4, 0.4, 0.2), "sigma": (0.5, 2.0)}
    config = ImageViewsConfig(size=24, first=dataclasses.replace(PLAIN, **settings), second=PLAIN)
    changed = (unnormalised(config, images) - images[:1] / 255.0).abs().amax((1, 2, 3)) > 1e-4
    assert abs(changed.float().mean() - 0.3) < 0.04


def test_operations_are_chosen_independently_of_one_another(pictures):
    images = pictures(1, 24, 24).expand(2000, -1, -1, -1)
    happened = []
    for what in ("flip", "jitter", "grey", "blur", "solarise"):
        settings = {what: 0.5, "strength": (0.4, 0.4, 0.4, 0.2), "sigma": (0.5, 2.0)}
        config = ImageViewsConfig(size=24, first=dataclasses.replace(PLAIN, **settings))
        happened.append((unnormalised(config, images) - images[:1] / 255.0).abs().amax((1, 2, 3)) > 1e-4)
    shared = torch.corrcoef(torch.stack(happened).float()) - torch.eye(5)
    assert shared.abs().max() < 0.08


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("config", [ImageViewsConfig(size=32), small_views()], ids=["imagenet", "cifar"])
def test_a_view_depends_on_nothing_but_its_image_and_key(config, channels, pictures):
    images = pictures(12, channels=channels)
    make = config.build()
    for view in (0, 1):
        batch, _ = make(images, None, keys(12), view)
        assert batch.shape == (12, channels, 32, 32) and torch.isfinite(batch).all()
        order = torch.tensor([5, 3, 11, 0, 8, 1, 2, 4, 6, 7, 9, 10])
        assert (make(images[order], None, keys(12)[order], view)[0] - batch[order]).abs().max() < 1e-5
        for i in range(12):
            alone, _ = make(images[i : i + 1], None, keys(12)[i : i + 1], view)
            assert (alone[0] - batch[i]).abs().max() < 1e-5


def test_views_differ_between_keys_and_between_the_first_and_the_second(pictures):
    images = pictures(1).expand(20, -1, -1, -1)
    config = dataclasses.replace(small_views(), second=small_views().first)
    first, second = (config.build()(images, None, keys(20), view)[0] for view in (0, 1))
    assert len({tuple(view.flatten().tolist()) for view in torch.cat([first, second])}) == 40


def test_grey_views_have_equal_channels(pictures):
    config = ImageViewsConfig(size=40, first=dataclasses.replace(PLAIN, grey=1.0))
    images = pictures(3)
    out = unnormalised(config, images)
    assert (out - out[:, :1]).abs().max() < 1e-5
    for image, mine in zip(images, out, strict=True):
        assert (mine[:1] - from_pil(to_pil(image).convert("L"))).abs().max() < 1.01 / 255

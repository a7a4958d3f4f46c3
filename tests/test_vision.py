# SPDX-License-Identifier: Apache-2.0
"""Images: views against PIL, colorsys and scipy; every kind of file; patches against unfold and convolution."""

import colorsys
import dataclasses
import gzip
import io
import math
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.nn import functional as F

from pluri.ssl import draw
from pluri.ssl.data import BadItem
from pluri.vision import color, pickles
from pluri.vision.augment import (
    ImageViewsConfig,
    ViewConfig,
    blur,
    crop_and_flip,
    crop_boxes,
    resize_weights,
    small_views,
)
from pluri.vision.frontend import PatchFrontEndConfig, interpolate_positions
from pluri.vision.images import ImageDataConfig, read_image

PLAIN = ViewConfig(crop=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0, solarise=0.0)


def keys(n, name="vision"):
    return draw.fold(torch.tensor(draw.key(0, name)), torch.arange(n))


def pictures(n, height=40, width=40, channels=3, seed=0):
    """(n, C, H, W) uint8: smooth colours with edges and noise, not all equally bright."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 10.0
    out = []
    for _ in range(n):
        phase, slant = rng.random((2, channels, 1, 1)) * 6
        waves = 0.5 + 0.4 * np.sin(slant * x + y + phase) + 0.3 * (np.sin(x * 2 + phase) > 0.6)
        out.append(waves * rng.uniform(0.4, 1.1) + 0.05 * rng.standard_normal((channels, height, width)))
    return torch.from_numpy((np.stack(out) * 255).clip(0, 255).astype(np.uint8))


def middling(images):
    """Without the darkest and brightest: PIL cuts off between its two passes what overshoots."""
    return (images * 0.4 + 76).to(torch.uint8)


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pil(image):
    array = np.asarray(image, dtype=np.float32) / 255
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


# Colours


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_brightness_contrast_and_saturation_equal_those_of_pil(name, factor):
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


def test_grey_is_that_of_pil():
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


def test_hue_is_roughly_that_of_pils_hsv():
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
    import itertools

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


# Crops


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
def test_resized_crops_equal_those_of_interpolate_and_of_pil(height, width, size):
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


def test_uint8_images_and_their_float_versions_give_the_same_views():
    images = pictures(4)
    views = small_views().build()
    assert torch.allclose(views(images, None, keys(4), 0)[0], views(images / 255.0, None, keys(4), 0)[0], atol=1e-5)


# Blur, solarise, and the whole


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


def unnormalised(config, images, view=0, name="vision"):
    out, lengths = config.build()(images, None, keys(len(images), name), view)
    assert lengths is None and out.dtype == torch.float32
    channels = images.shape[1]
    return out * torch.tensor(config.std)[:channels, None, None] + torch.tensor(config.mean)[:channels, None, None]


def test_solarised_views_are_those_of_pil():
    images = pictures(6)
    config = ImageViewsConfig(size=40, first=dataclasses.replace(PLAIN, solarise=1.0), second=PLAIN)
    for image, mine in zip(images, unnormalised(config, images), strict=True):
        assert (mine - from_pil(ImageOps.solarize(to_pil(image), 128))).abs().max() < 1e-5
    assert (unnormalised(config, images, view=1) - images / 255.0).abs().max() < 1e-5


@pytest.mark.parametrize("what", ["flip", "jitter", "grey", "blur", "solarise"])
def test_each_operation_is_applied_with_its_probability(what):
    images = pictures(1, 24, 24).expand(1500, -1, -1, -1)
    settings = {what: 0.3, "strength": (0.4, 0.4, 0.4, 0.2), "sigma": (0.5, 2.0)}
    config = ImageViewsConfig(size=24, first=dataclasses.replace(PLAIN, **settings), second=PLAIN)
    changed = (unnormalised(config, images) - images[:1] / 255.0).abs().amax((1, 2, 3)) > 1e-4
    assert abs(changed.float().mean() - 0.3) < 0.04


def test_operations_are_chosen_independently_of_one_another():
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
def test_a_view_depends_on_nothing_but_its_image_and_key(config, channels):
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


def test_views_differ_between_keys_and_between_the_first_and_the_second():
    images = pictures(1).expand(20, -1, -1, -1)
    config = dataclasses.replace(small_views(), second=small_views().first)
    first, second = (config.build()(images, None, keys(20), view)[0] for view in (0, 1))
    assert len({tuple(view.flatten().tolist()) for view in torch.cat([first, second])}) == 40


def test_grey_views_have_equal_channels():
    config = ImageViewsConfig(size=40, first=dataclasses.replace(PLAIN, grey=1.0))
    images = pictures(3)
    out = unnormalised(config, images)
    assert (out - out[:, :1]).abs().max() < 1e-5
    for image, mine in zip(images, out, strict=True):
        assert (mine[:1] - from_pil(to_pil(image).convert("L"))).abs().max() < 1.01 / 255


# Image files


def pixels(height=8, width=8, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_images_are_turned_as_their_exif_says(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels()).save(tmp_path / "a.png", exif=exif)
    found = read_image(tmp_path / "a.png", 8, 3).permute(1, 2, 0).numpy()
    assert (found == TURNS[orientation](pixels())).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # PIL's own
def test_a_broken_exif_block_spoils_only_the_orientation(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\xff\xff rubbish")
    assert (read_image(tmp_path / "a.png", 8, 3).permute(1, 2, 0).numpy() == pixels()).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode, tmp_path):
    array = pixels(channels=len(mode))
    image = Image.merge(mode, [Image.fromarray(array[..., i]) for i in range(len(mode))])
    image.save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png", 8, 3).permute(1, 2, 0).numpy().astype(np.float64)
    cover = array[..., -1:] / 255.0
    assert np.abs(found - (array[..., :-1] * cover + 255 * (1 - cover))).max() <= 1


def test_palettes_are_looked_up_and_their_transparent_colour_is_white(tmp_path):
    colours = pixels(1, 4)[0]
    index = np.random.default_rng(1).integers(0, 4, (8, 8), dtype=np.uint8)
    image = Image.frombytes("P", (8, 8), index.tobytes())
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=2)
    image.save(tmp_path / "half.png", transparency=bytes([255, 128, 255, 255]))
    assert (read_image(tmp_path / "plain.png", 8, 3).permute(1, 2, 0).numpy() == colours[index]).all()
    colours[2] = 255
    assert (read_image(tmp_path / "clear.png", 8, 3).permute(1, 2, 0).numpy() == colours[index]).all()
    found = read_image(tmp_path / "half.png", 8, 3).permute(1, 2, 0).numpy()
    wanted = pixels(1, 4)[0][1] * (128 / 255) + 255 * (127 / 255)
    assert (np.abs(found[index == 1] - wanted) <= 1).all()


def test_grey_levels_of_16_bits_are_scaled_to_8(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        assert np.abs(read_image(tmp_path / name, 8, 1)[0].numpy() - deep / 257).max() < 1.01
    assert read_image(tmp_path / "a.png", 8, 3).shape == (3, 8, 8)


def test_a_dark_image_of_16_bits_stays_dark(tmp_path):
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path / "dark.png")
    assert read_image(tmp_path / "dark.png", 8, 1).max() <= 1


def test_the_first_frame_of_several_and_other_colour_spaces_are_read(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (200, 10, 90)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif", 8, 3) == 200).all()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    found = read_image(tmp_path / "a.jpg", 8, 3)
    assert (found[0] > 250).all() and (found[1:] < 5).all()
    Image.new("1", (8, 8), 1).save(tmp_path / "one.png")
    assert (read_image(tmp_path / "one.png", 8, 1) == 255).all()


@pytest.mark.parametrize(("height", "width"), [(40, 80), (60, 30), (31, 20), (10, 15), (3, 60)])
def test_the_shorter_side_is_scaled_and_the_middle_cut_out(height, width, tmp_path):
    array = middling(pictures(1, height, width))[0]
    to_pil(array).save(tmp_path / "a.png")
    scale = 20 / min(height, width)
    shape = max(20, round(height * scale)), max(20, round(width * scale))
    wanted = F.interpolate(array[None] / 255.0, size=shape, mode="bicubic", antialias=True)[0].clamp(0, 1) * 255
    top, left = (shape[0] - 20) // 2, (shape[1] - 20) // 2
    found = read_image(tmp_path / "a.png", 20, 3)
    assert found.dtype == torch.uint8
    assert (found - wanted[:, top : top + 20, left : left + 20]).abs().max() < 2.01


def images(path, split="train", **settings):
    return ImageDataConfig(path=str(path), **{"held_out": 0.0, "size": 16, **settings}).build(split, Path(path))


def test_a_folder_names_its_classes_and_takes_the_part_that_is_asked_for(tmp_path):
    for i, name in enumerate(("cat/b.png", "cat/a.PNG", "dog/c.jpg", "ant/deep/d.bmp", "cat/notes.txt")):
        for part in ("train", "test"):
            place = tmp_path / part / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".txt"):
                place.write_text("no picture")
            elif part == "train" or i < 2:
                Image.fromarray(pixels(seed=i)).save(place)
    data = images(tmp_path)
    assert [data.lasting_name(i) for i in range(4)] == ["ant/deep/d.bmp", "cat/a.PNG", "cat/b.png", "dog/c.jpg"]
    assert data.classes == ["cat", "deep", "dog"] and [data.label(r) for r in data.epoch(0).records] == [1, 0, 0, 2]
    assert data.name(data.epoch(0).records[1]) == str(tmp_path / "train" / "cat" / "a.PNG")
    assert len(images(tmp_path, part="test").records) == 2
    assert data.load(data.epoch(0).records[0], 0).inputs.shape == (3, 16, 16)
    assert images(tmp_path, channels=1).load(data.epoch(0).records[0], 0).inputs.shape == (1, 16, 16)


def test_places_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no images in"):
        images(tmp_path)
    with pytest.raises(ValueError, match="set --data.path"):
        images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="set --data.path"):
        ImageDataConfig().build("train", tmp_path)


def test_the_held_out_split_goes_by_path_and_stays_where_the_folder_goes(samples, tmp_path):
    parts = {split: images(samples["images"], split, held_out=0.3) for split in ("train", "held_out")}
    listed = {split: {data.lasting_name(int(r[0])) for r in data.records} for split, data in parts.items()}
    assert len(listed["train"] | listed["held_out"]) == 48 and not listed["train"] & listed["held_out"]
    assert 5 <= len(listed["held_out"]) <= 25
    shutil.copytree(samples["images"], tmp_path / "moved")
    Image.fromarray(pixels()).save(tmp_path / "moved" / "a_new_one.png")
    moved = images(tmp_path / "moved", "held_out", held_out=0.3)
    assert {moved.lasting_name(int(r[0])) for r in moved.records} - {"a_new_one.png"} == listed["held_out"]


# CIFAR


def python2(value):
    """Protocol 2 as Python 2's cPickle wrote the official files: byte strings, old names, "u1" as a byte string."""
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(key) + python2(one) for key, one in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(python2(one) for one in value) + b"e"
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    assert isinstance(value, np.ndarray)
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"".join(python2(side) for side in value.shape) + b"\x86"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return made + b"(K\x01" + shape + kind + b"\x89" + python2(value.tobytes()) + b"tb"


def cifar(n, seed=0, labels=b"labels"):
    rng = np.random.default_rng(seed)
    return {
        b"batch_label": b"training batch 1 of 1",
        labels: rng.integers(0, 10, n).tolist(),
        b"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
        b"filenames": [b"%d.png" % i for i in range(n)],
    }


def test_the_hand_made_python_2_pickle_is_one():
    content = pickle.loads(b"\x80\x02" + python2(cifar(5)) + b".", encoding="bytes")
    assert content[b"labels"] == cifar(5)[b"labels"] and (content[b"data"] == cifar(5)[b"data"]).all()


def test_the_official_files_of_cifar_10_are_read(tmp_path):
    for i in (1, 2):
        (tmp_path / f"data_batch_{i}").write_bytes(b"\x80\x02" + python2(cifar(5, i)) + b".")
    (tmp_path / "test_batch").write_bytes(b"\x80\x02" + python2(cifar(3, 9)) + b".")
    data = images(tmp_path)
    wanted = np.concatenate([cifar(5, i)[b"data"] for i in (1, 2)]).reshape(10, 3, 32, 32)
    assert (torch.stack([data.load(r, 0).inputs for r in data.records]).numpy() == wanted).all()
    assert data.labels == cifar(5, 1)[b"labels"] + cifar(5, 2)[b"labels"]
    assert len(images(tmp_path, part="test").records) == 3


def test_the_official_files_of_cifar_100_are_read(tmp_path):
    for name, n in (("train", 6), ("test", 2)):
        content = {**cifar(n, labels=b"fine_labels"), b"coarse_labels": [0] * n}
        (tmp_path / name).write_bytes(b"\x80\x02" + python2(content) + b".")
    data = images(tmp_path)
    assert data.labels == cifar(6)[b"labels"] and len(images(tmp_path, part="test").records) == 2


@pytest.mark.parametrize("protocol", range(6))
def test_files_in_cifars_format_that_python_3_wrote_are_read(protocol, tmp_path):
    content = {key.decode(): value for key, value in cifar(4).items()}
    for table in (cifar(4), content):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps(table, protocol))
        data = images(tmp_path)
        assert data.channels == 3 and data.labels == content["labels"]
        found = torch.stack([data.load(r, 0).inputs for r in data.records]).numpy()
        assert (found.reshape(4, -1) == content["data"]).all()


class Malicious:
    """Pickles to a call."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_nothing_in_it_runs(protocol, tmp_path):
    target = tmp_path / "target"
    calls = (
        (os.mkdir, str(target)),
        (os.system, f"touch {target}"),
        (eval, f"open({str(target)!r}, 'w')"),
        (np.memmap, str(target), "uint8", "w+", 0, (4,)),
        (np.save, str(target), 1),
        (io.open, str(target), "w"),
    )
    for call in calls:
        for content in (Malicious(*call), {**cifar(2), b"more": Malicious(*call)}):
            (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content, protocol))
            with pytest.raises(BadItem, match="it wants"):
                pickles.read(tmp_path / "data_batch_1")
            with pytest.raises(ValueError, match="data_batch_1: no CIFAR file"):
                images(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data_batch_1"]


@pytest.mark.parametrize(
    "content",
    [
        {**cifar(3), b"data": np.zeros((3, 3072), np.float32)},
        {**cifar(3), b"data": np.zeros((3, 3072), object)},
        {**cifar(3), b"data": np.zeros((3, 100), np.uint8)},
        {**cifar(3), b"labels": [1, 2]},
        {**cifar(3), b"labels": ["a", "b", "c"]},
        {b"labels": [1]},
        [1, 2],
        "text",
    ],
    ids=["floats", "objects", "width", "few_labels", "names", "no_data", "list", "string"],
)
def test_pickles_of_anything_else_are_bad(content, tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(BadItem, match="no CIFAR file"):
        pickles.read(tmp_path / "a")


def test_pickles_that_were_cut_off_or_spoilt_are_bad(tmp_path):
    whole = pickle.dumps(cifar(2), 4)
    rng = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole[: int(rng.integers(0, len(whole) - 1))])
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(BadItem):
            pickles.read(tmp_path / "a")


def test_a_pickle_that_asks_for_all_memory_is_bad(tmp_path):
    shape = b"\x8a\x06\x00\x00\x00\x00\x00\x7f"  # some 10^14 bytes
    (tmp_path / "a").write_bytes(b"\x80\x02cnumpy\nndarray\n" + shape + b"\x85X\x02\x00\x00\x00u1\x86R.")
    with pytest.raises(BadItem):
        pickles.read(tmp_path / "a")


# IDX


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, packed, n=7, part="train", between="-"):
    rng = np.random.default_rng(n)
    pictures_, labels = rng.integers(0, 256, (n, 9, 11), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)
    for name, array in (("images", pictures_), ("labels", labels)):
        content = idx(array)
        path = folder / f"{part}-{name}{between}idx{array.ndim}-ubyte"
        if packed:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)
    return pictures_, labels.tolist()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("between", ["-", "."])
def test_idx_files_are_read_packed_and_plain(packed, between, tmp_path):
    wanted, labels = write_idx(tmp_path, packed, between=between)
    write_idx(tmp_path, packed, 3, "t10k", between)
    data = images(tmp_path)
    found = torch.stack([data.load(r, 0).inputs for r in data.epoch(0).records]).numpy()
    assert (found == wanted[:, None]).all() and data.labels == labels and data.channels == 1
    assert len(images(tmp_path, part="test").records) == 3


def test_idx_files_that_are_cut_off_or_of_another_kind_are_refused_by_name(tmp_path):
    write_idx(tmp_path, False)
    path = tmp_path / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for content, message in (
        (whole[:-1], "692 bytes where its header promises 693"),
        (whole + b"x", "694 bytes"),
        (whole[:10], "no IDX file"),
        (b"\0\0\x0d\x03" + whole[4:], "no IDX file"),
        (idx(np.zeros((6, 9, 11), np.uint8)), "6 images but 7 labels"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"train-images-idx3-ubyte: {message}"):
            images(tmp_path)
    path.with_name("train-images-idx3-ubyte.gz").write_bytes(gzip.compress(whole)[:-20])
    path.unlink()
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz: cannot be read"):
        images(tmp_path)


def test_a_spoilt_packed_idx_file_is_refused_by_name(tmp_path):
    write_idx(tmp_path, True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:10] + b"\xff" * 100)
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz: cannot be read"):
        images(tmp_path)


def test_a_folder_with_both_the_packed_and_the_plain_files_holds_each_image_once(tmp_path):
    for packed in (True, False):
        write_idx(tmp_path, packed)
    assert len(images(tmp_path).records) == 7


def test_the_held_out_split_of_arrays_goes_by_their_pixels(tmp_path):
    wanted, _ = write_idx(tmp_path, False, 300)
    parts = [images(tmp_path, split, held_out=0.2).records[:, 0] for split in ("train", "held_out")]
    assert sorted(np.concatenate(parts).tolist()) == list(range(300)) and 40 <= len(parts[1]) <= 80
    turned = tmp_path / "turned"
    turned.mkdir()
    (turned / "train-images-idx3-ubyte").write_bytes(idx(wanted[::-1].copy()))
    data = images(turned, "held_out", held_out=0.2)
    assert sorted(299 - data.records[:, 0]) == parts[1].tolist() and set(data.labels) == {0}


# Data that are really there


def trial(name):
    root = os.environ.get("PLURI_TRIAL_DATA")
    if not root or not Path(root, "vision", name).is_dir():
        pytest.skip("PLURI_TRIAL_DATA names no folder with it")
    return Path(root, "vision", name)


@pytest.mark.parametrize(("part", "count"), [("train", 6000), ("test", 1500)])
def test_the_mnist_that_is_there_loads(part, count):
    data = images(trial("mnist"), part=part)
    assert len(data.records) == len(data.labels) == count and set(data.labels) == set(range(10))
    assert data.load(data.records[0], 0).inputs.shape == (1, 28, 28)
    means = [data.load(r, 0).inputs.float().mean().item() for r in data.records[:500]]
    assert np.mean(means) == pytest.approx(0.1307 * 255, rel=0.1)


@pytest.mark.parametrize(("part", "count"), [("train", 1500), ("test", 500)])
def test_the_cifar_10_that_is_there_loads(part, count):
    data = images(trial("cifar10") / "cifar-10-batches-py", part=part)
    assert len(data.records) == len(data.labels) == count and set(data.labels) == set(range(10))
    found = torch.stack([data.load(r, 0).inputs for r in data.records]).float() / 255
    assert found.shape == (count, 3, 32, 32)
    assert found.mean((0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.02)


def test_the_cifar_10_that_is_there_as_a_folder_loads():
    data = images(trial("cifar10") / "images", size=32)
    assert len(data.records) == 6000 and len(data.classes) == 10 and np.bincount(data.labels).tolist() == [600] * 10
    assert len(images(trial("cifar10") / "images", part="test").records) == 1500
    found = torch.stack([data.load(r, 0).inputs for r in data.records[::20]]).float() / 255
    assert found.mean((0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.03)


# Patches


def front_end(**settings):
    torch.manual_seed(0)
    return PatchFrontEndConfig(**{"size": 32, "patch": 8, "width": 24, **settings}).build()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 40), (8, 8)])
@pytest.mark.parametrize("token", [True, False])
def test_patches_equal_unfold_and_their_vectors_a_convolution(height, width, token):
    module = front_end(class_token=token)
    x = torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(0))
    units = module.units(x)
    T = height * width // 64
    assert units.lengths is None and module.unit_width == 192 and module.unit_lengths(x, None).tolist() == [T] * 3
    assert torch.equal(units.values, F.unfold(x, 8, stride=8).transpose(1, 2))
    with torch.no_grad():
        module.project.bias.normal_()
        if module.class_token is not None:
            module.class_token.normal_()
        vectors = module.embed(units.values)
        wanted = F.conv2d(x, module.project.weight.view(24, 3, 8, 8), module.project.bias, stride=8).flatten(2)
    assert vectors.shape == (3, T + int(token), 24) and module.prefix == int(token)
    assert (vectors[:, int(token) :] - wanted.transpose(1, 2)).abs().max() < 1e-5
    if module.class_token is not None:
        assert torch.equal(vectors[:, 0], module.class_token.expand(3, -1))


def test_pixels_are_normalised_and_come_back_as_pictures():
    module = front_end()
    x = pictures(3, 32, 48)
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (module.config.mean, module.config.std))
    values = module.units(x).values
    assert torch.allclose(values, module.units((x / 255.0 - mean) / std).values, atol=1e-6)
    assert (module.pictures(values, 32) - x / 255.0).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(2, 3, 32, 30), (2, 3, 20, 32), (2, 1, 32, 32), (2, 4, 32, 32)])
def test_images_of_a_wrong_size_are_refused_with_both_sizes(shape):
    module = front_end()
    for call in (module.units, lambda x: module.unit_lengths(x, None)):
        with pytest.raises(ValueError, match=f"{shape[1]} x {shape[2]} x {shape[3]}.*3 channels.*multiples of 8"):
            call(torch.zeros(shape))


def test_settings_that_cannot_work_are_refused(samples):
    with pytest.raises(ValueError, match="front_end.size 30 is no multiple of front_end.patch 8"):
        PatchFrontEndConfig(size=30, patch=8)
    with pytest.raises(ValueError, match="front_end.mean"):
        PatchFrontEndConfig(channels=1)
    with pytest.raises(ValueError, match="for images"):
        PatchFrontEndConfig().fitted(None)
    assert PatchFrontEndConfig().positions == 197 and front_end(class_token=False).config.positions == 16


def test_the_front_end_takes_its_channels_from_the_data(samples, tmp_path):
    config = PatchFrontEndConfig(size=32, patch=8)
    assert config.fitted(images(samples["images"])) == config
    write_idx(tmp_path, False)
    grey = config.fitted(images(tmp_path))
    assert grey.channels == 1 and grey.mean == pytest.approx((0.449,)) and grey.std == pytest.approx((0.226,))


@pytest.mark.parametrize("new", [(4, 4), (6, 6), (3, 7), (14, 2)])
def test_positions_for_another_grid_equal_those_of_transformers(new):
    modeling = pytest.importorskip("transformers.models.vit.modeling_vit")
    config = pytest.importorskip("transformers").ViTConfig(hidden_size=24, image_size=32, patch_size=8)
    theirs = modeling.ViTEmbeddings(config)
    with torch.no_grad():
        theirs.position_embeddings.normal_(generator=torch.Generator().manual_seed(0))
        T = 1 + new[0] * new[1]
        wanted = theirs.interpolate_pos_encoding(torch.zeros(1, T, 24), new[0] * 8, new[1] * 8)[0]
        found = interpolate_positions(theirs.position_embeddings[0], (4, 4), new)
        bare = interpolate_positions(theirs.position_embeddings[0, 1:], (4, 4), new, prefix=0)
    assert found.shape == (T, 24) and (found - wanted).abs().max() < 1e-5 and torch.equal(bare, found[1:])
    if new == (4, 4):
        assert (found - theirs.position_embeddings[0]).abs().max() < 1e-6

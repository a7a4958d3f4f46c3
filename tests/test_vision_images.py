# SPDX-License-Identifier: Apache-2.0
"""Image files of every kind become the pixels that are meant; folders of them, their classes and what is held out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pluri.vision.images import ImageDataConfig, read_image


def middling(images):
    """Without the darkest and brightest: PIL cuts off between its two passes what overshoots."""
    return (images * 0.4 + 76).to(torch.uint8)


def to_pil(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


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
def test_the_shorter_side_is_scaled_and_the_middle_cut_out(height, width, pictures, tmp_path):
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

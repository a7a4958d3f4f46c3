# SPDX-License-Identifier: Apache-2.0
"""Patches against unfold and convolution, positions for other grids against transformers, refused sizes."""

import struct
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from pluri.vision.frontend import PatchFrontEndConfig, interpolate_positions
from pluri.vision.images import ImageDataConfig


def images(path, split="train", **settings):
    return ImageDataConfig(path=str(path), **{"held_out": 0.0, "size": 16, **settings}).build(split, Path(path))


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


def test_pixels_are_normalised_and_come_back_as_pictures(pictures):
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


def test_settings_that_cannot_work_are_refused():
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
    grey_images = struct.pack(">4B3I", 0, 0, 8, 3, 7, 9, 11) + bytes(7 * 9 * 11)  # an IDX file
    (tmp_path / "train-images-idx3-ubyte").write_bytes(grey_images)
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

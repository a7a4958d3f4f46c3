# SPDX-License-Identifier: Apache-2.0
"""IDX files, which MNIST comes in, are read packed and plain; spoilt ones are refused by name."""

import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from pluri.ssl.data import BadItem, held_out
from pluri.vision import arrays, pickles
from pluri.vision.images import ImageDataConfig


def images(path, split="train", **settings):
    return ImageDataConfig(path=str(path), **{"held_out": 0.0, "size": 16, **settings}).build(split, Path(path))


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, packed, n=7, part="train", between="-"):
    rng = np.random.default_rng(n)
    pictures, labels = rng.integers(0, 256, (n, 9, 11), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)
    for name, array in (("images", pictures), ("labels", labels)):
        content = idx(array)
        path = folder / f"{part}-{name}{between}idx{array.ndim}-ubyte"
        if packed:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
        else:
            path.write_bytes(content)
    return pictures, labels.tolist()


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


def write_cifar(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3072), dtype=np.uint8)
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": pixels, b"labels": [3, 1] * 20}, 2))


@pytest.mark.parametrize("kind", ["packed", "plain", "cifar"])
def test_a_second_opening_reads_no_pixel_file_unless_one_has_changed(kind, tmp_path, monkeypatch):
    folder, cache = tmp_path / "data", tmp_path / "cache"
    folder.mkdir()
    write_cifar(folder) if kind == "cifar" else write_idx(folder, kind == "packed", 40)

    def build(split="train"):
        return ImageDataConfig(path=str(folder), held_out=0.2).build(split, cache)

    first = build()
    whole = ImageDataConfig(path=str(folder), held_out=0.0).build("train", tmp_path / "nothing")
    assert whole.arrays is not None
    names = [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in whole.arrays]
    assert first.records[:, 0].tolist() == [i for i, name in enumerate(names) if not held_out(name, 0.2)]
    assert first.records.dtype == np.int64 and first.names == whole.names == names
    assert not (tmp_path / "nothing").exists()

    def refuse(path, *_):
        raise BadItem("read again")

    monkeypatch.setattr(pickles, "read", refuse)
    monkeypatch.setattr(arrays, "_idx_array", refuse)
    again, other = build(), build("held_out")
    assert (again.records == first.records).all() and again.labels == first.labels == whole.labels
    assert (
        again.channels == whole.channels
        and again.classes == whole.classes
        and again.name(np.array([5])) == whole.name(np.array([5]))
    )
    assert again.arrays is not None and (again.arrays == whole.arrays).all()
    assert isinstance(again.arrays.base, np.memmap)
    assert sorted([*again.records[:, 0], *other.records[:, 0]]) == list(range(40)) and len(other.records) > 0
    for path in folder.iterdir():
        before = path.stat().st_mtime_ns
        os.utime(path, ns=(before + 10**9, before + 10**9))
        with pytest.raises(ValueError, match="read again"):
            build()
        os.utime(path, ns=(before, before))
    assert len(build().records) == len(first.records)


def test_the_held_out_split_of_arrays_goes_by_their_pixels(tmp_path):
    wanted, _ = write_idx(tmp_path, False, 300)
    parts = [images(tmp_path, split, held_out=0.2).records[:, 0] for split in ("train", "held_out")]
    assert sorted(np.concatenate(parts).tolist()) == list(range(300)) and 40 <= len(parts[1]) <= 80
    turned = tmp_path / "turned"
    turned.mkdir()
    (turned / "train-images-idx3-ubyte").write_bytes(idx(wanted[::-1].copy()))
    data = images(turned, "held_out", held_out=0.2)
    assert sorted(299 - data.records[:, 0]) == parts[1].tolist() and set(data.labels) == {0}

# SPDX-License-Identifier: Apache-2.0
"""CIFAR's pickles are read as Python 2 and 3 wrote them; nothing in a malicious one ever runs."""

import io
import os
import pickle
import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from pluri.ssl.data import BadItem
from pluri.vision import pickles
from pluri.vision.images import ImageDataConfig


def images(path, split="train", **settings):
    return ImageDataConfig(path=str(path), **{"held_out": 0.0, "size": 16, **settings}).build(split, Path(path))


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


def written():
    """A file with a place for every error: as Python 2 wrote it, and in each of Python 3's protocols."""
    return [b"\x80\x02" + python2(cifar(3)) + b".", *(pickle.dumps(cifar(3), protocol) for protocol in range(6))]


def test_pickles_that_were_cut_off_are_bad(tmp_path):
    rng = np.random.default_rng(0)
    for whole in written():
        for _ in range(20):
            (tmp_path / "a").write_bytes(whole[: int(rng.integers(0, len(whole) - 1))])
            with pytest.raises(BadItem):
                pickles.read(tmp_path / "a")


def test_spoilt_pickles_load_or_are_refused_by_name(tmp_path):
    path = tmp_path / "data_batch_1"
    rng = random.Random(0)
    loaded, refused = 0, 0
    for whole in written():
        for _ in range(80):
            content = bytearray(whole)
            for _ in range(rng.randint(1, 3)):
                place = rng.randrange(200)  # from either end, where what is not pixels stands
                content[rng.choice([place, -1 - place, rng.randrange(len(whole))])] = rng.randrange(256)
            path.write_bytes(content)
            try:
                assert images(tmp_path).records.shape == (3, 1)
                loaded += 1
            except ValueError as error:
                assert type(error) is ValueError and isinstance(error.__cause__, BadItem)
                assert str(error).startswith(f"{path}: no CIFAR file: ") and "\n" not in str(error)
                refused += 1
    assert min(loaded, refused) > 100


SPOILT = {  # what stands in the file, and the same with one or two bytes spoilt
    "key": (b"U\x04data", b"U\x04d\xd0ta"),
    "frame": (pickle.dumps(cifar(3), 4)[:11], pickle.dumps(cifar(3), 4)[:10] + b"\xff"),
    "length": (b"B\x00\x24\x00\x00", b"B\x00\x24\x00\x07"),
    "long_length": (b"B\x00\x24\x00\x00", b"\x8e\x00\x24\x00\x00"),
    "number": (b"r\x01\x01\x00\x00", b"r\x01\x01\x00\x01"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_one_spoilt_byte_reserves_no_memory_and_is_named(what, tmp_path):
    if what == "key":
        whole = written()[0]
    elif what == "number":  # of a remembered object: 0x101 becomes 0x1000101, for which Python would reserve 256 MiB
        whole = pickle.dumps(cifar(300), 2)
    else:
        whole = pickle.dumps(cifar(3), 4)
    assert SPOILT[what][0] in whole
    (tmp_path / "a").write_bytes(whole.replace(*SPOILT[what]))
    tracemalloc.start()
    try:
        with pytest.raises(BadItem, match="no CIFAR file: "):
            pickles.read(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 16e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("label", [-1, 1 << 16, (1 << 31) - 1, 1 << 200])
def test_labels_that_no_class_can_have_are_bad(label, tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps({**cifar(3), b"labels": [0, label, 1]}))
    with pytest.raises(BadItem, match="its labels are not all from 0 to 65535"):
        pickles.read(tmp_path / "a")


def test_a_pickle_that_asks_for_all_memory_is_bad(tmp_path):
    shape = b"\x8a\x06\x00\x00\x00\x00\x00\x7f"  # some 10^14 bytes
    (tmp_path / "a").write_bytes(b"\x80\x02cnumpy\nndarray\n" + shape + b"\x85X\x02\x00\x00\x00u1\x86R.")
    with pytest.raises(BadItem):
        pickles.read(tmp_path / "a")

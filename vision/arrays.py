# SPDX-License-Identifier: Apache-2.0
"""The images of CIFAR's python files or of IDX files (MNIST) as one array, kept where it can be mapped into memory."""

import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..ssl.cache import digest, once, state
from ..ssl.data import BadItem
from . import pickles

CIFAR = {"train": ("data_batch_*", "train"), "test": ("test_batch", "test")}
IDX = {"train": "train", "test": "t10k"}
_VERSION = 1  # of what is kept


class Arrays(NamedTuple):
    """Images that come as arrays."""

    pixels: np.ndarray  # (n, C, H, W) uint8
    labels: list[int]
    names: list[str]  # digests of the pixels: an image stays in its split wherever it stands


def find(root: Path, part: str, kept: Path | None) -> Arrays | None:
    """The images of the official files in `root`, or None if there are no such files.

    Args:
        kept: folder in which they are found again, by the names, sizes and times of the files; None: nothing is kept.
    Raises: ValueError naming the file that cannot be used.
    """
    files, read = _cifar_files(root, part), pickles.read
    if not files:
        files, read = _idx_files(root, part), _read_idx
    if not files:
        return None
    if kept is None:
        return _join(files, read)
    sources = {source for path in files for source in (path, _labels_beside(path)) if source.is_file()}
    name = f"images-{digest(_VERSION, state(sorted(sources)))}"
    folder = once(kept / name, lambda beside: _keep(_join(files, read), beside))
    notes = json.loads((folder / "notes.json").read_text())
    return Arrays(np.asarray(np.load(folder / "pixels.npy", mmap_mode="r")), notes["labels"], notes["names"])


def _join(files: list[Path], read: Callable[[Path], tuple[np.ndarray, list[int]]]) -> Arrays:
    parts, labels = [], []
    for path in files:
        try:
            images, its = read(path)
        except BadItem as error:
            raise ValueError(f"{path}: {error}") from error
        parts.append(images)
        labels += its
    pixels = np.concatenate(parts)
    return Arrays(pixels, labels, [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in pixels])


def _keep(arrays: Arrays, folder: Path) -> None:
    folder.mkdir()
    np.save(folder / "pixels.npy", arrays.pixels)
    (folder / "notes.json").write_text(json.dumps({"labels": arrays.labels, "names": arrays.names}))


def _cifar_files(root: Path, part: str) -> list[Path]:
    patterns = CIFAR.get(part, ())
    return sorted(path for pattern in patterns for path in root.glob(pattern) if path.is_file())


def _idx_files(root: Path, part: str) -> list[Path]:
    found = [path for path in root.glob(f"{IDX.get(part, part)}*images*idx3*") if path.is_file()]
    plain = {path.name for path in found if path.suffix != ".gz"}  # torchvision leaves the packed file beside it
    return sorted(path for path in found if path.suffix != ".gz" or path.stem not in plain)


def _labels_beside(path: Path) -> Path:
    return path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))


def _read_idx(path: Path) -> tuple[np.ndarray, list[int]]:
    """Images (n, 1, H, W) uint8 of an IDX file, and the labels of its neighbour (all 0 if there is none)."""
    images = _idx_array(path, 3)
    beside = _labels_beside(path)
    labels = _idx_array(beside, 1).tolist() if beside.is_file() else [0] * len(images)
    if len(labels) != len(images):
        raise BadItem(f"{len(images)} images but {len(labels)} labels in {beside.name}")
    return images[:, None], labels


def _idx_array(path: Path, dimensions: int) -> np.ndarray:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BadItem(f"cannot be read: {error}") from error
    head = 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes((0, 0, 8, dimensions)):
        raise BadItem(f"no IDX file of {dimensions}-dimensional uint8")
    shape = struct.unpack(f">{dimensions}I", content[4:head])
    if len(content) - head != int(np.prod(shape)):
        raise BadItem(f"{len(content) - head} bytes where its header promises {int(np.prod(shape))}")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)

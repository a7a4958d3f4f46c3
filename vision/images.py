# SPDX-License-Identifier: Apache-2.0
"""Images from a folder, from CIFAR's python files, or from IDX files (MNIST), as squares of one size."""

import dataclasses
import gzip
import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..ssl import hub
from ..ssl.data import BadItem, DataConfig, Dataset, Epoch, Item, held_out
from . import pickles

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
CIFAR = {"train": ("data_batch_*", "train"), "test": ("test_batch", "test")}
IDX = {"train": "train", "test": "t10k"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageDataConfig(DataConfig):
    """Where the images are.

    `path` is a folder of images (of any depth; subfolders name classes), a folder with CIFAR's `data_batch_*` (or
    CIFAR-100's `train`), or one with IDX files (`train-images-idx3-ubyte`, also .gz). If the folder has a subfolder
    named as `part`, that one is read.
    """

    size: int = 224  # pixels, side; the shorter side is scaled to it and the middle cut out; arrays keep their size
    channels: int = 3
    part: str = "train"  # or "test", where official files have both

    def build(self, split: str, cache: Path) -> "ImageDataset":
        path = self.path and str(hub.as_files(self.path, "image", cache))
        return ImageDataset(dataclasses.replace(self, path=path), split)


class ImageDataset(Dataset):
    """Square images (C, size, size) uint8, one size for all.

    Small sets that come as arrays are held in memory; files are decoded when they are asked for: turned as their EXIF
    says, converted to RGB or grey (transparency on white, the first frame of several), the shorter side scaled to
    `size` with antialiasing, the middle cut out.
    """

    unit = "images"
    ragged = False

    def __init__(self, config: ImageDataConfig, split: str) -> None:
        self.config = config
        self.channels = config.channels
        root = _find_root(config)
        self.root = root
        self.paths: list[Path] = []
        self.arrays: np.ndarray | None = None  # (n, C, H, W)
        self.labels: list[int] = []
        self.classes: list[str] = []
        if files := _cifar_files(root, config.part):
            self._read_arrays(files, pickles.read)
        elif files := _idx_files(root, config.part):
            self._read_arrays(files, _read_idx)
        else:
            self._list_files(root)
        names = [self.lasting_name(i) for i in range(self._count())]
        wanted = split == "held_out"
        kept = [i for i, name in enumerate(names) if held_out(name, config.held_out) == wanted]
        self.records = np.array(kept, dtype=np.int64).reshape(-1, 1)

    def _count(self) -> int:
        return len(self.paths) if self.arrays is None else len(self.arrays)

    def _read_arrays(self, files: list[Path], read: Callable[[Path], tuple[np.ndarray, list[int]]]) -> None:
        arrays = []
        for path in files:
            try:
                images, labels = read(path)
            except BadItem as error:
                raise ValueError(f"{path}: {error}") from error
            arrays.append(images)
            self.labels += labels
        self.arrays = np.concatenate(arrays)
        self.channels = self.arrays.shape[1]
        self.classes = [str(label) for label in range(max(self.labels, default=0) + 1)]

    def _list_files(self, root: Path) -> None:
        for folder, folders, files in os.walk(root):
            folders.sort()
            self.paths += [Path(folder, name) for name in sorted(files) if name.lower().endswith(SUFFIXES)]
        if not self.paths:
            raise ValueError(f"no images in {root}: set data.path to a folder of images, CIFAR or IDX files")
        names = [path.parent.name if path.parent != root else "" for path in self.paths]
        self.classes = sorted(set(names))
        number = {name: i for i, name in enumerate(self.classes)}
        self.labels = [number[name] for name in names]

    def lasting_name(self, i: int) -> str:
        """What decides the split: the path below the root, or the pixels themselves."""
        if self.arrays is None:
            return str(self.paths[i].relative_to(self.root))
        return hashlib.blake2b(self.arrays[i].tobytes(), digest_size=16).hexdigest()

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, np.ones(len(self.records)))

    def load(self, record: np.ndarray, key: int) -> Item:
        i = int(record[0])
        if self.arrays is not None:
            return Item(torch.from_numpy(self.arrays[i].copy()))
        return Item(read_image(self.paths[i], self.config.size, self.config.channels))

    def label(self, record: np.ndarray) -> int:
        """The number of the item's class in `classes`."""
        return self.labels[int(record[0])]

    def name(self, record: np.ndarray) -> str:
        i = int(record[0])
        return f"{self.root}[{i}]" if self.arrays is not None else str(self.paths[i])

    def save_assets(self, folder: Path) -> None:
        pass


def _find_root(config: ImageDataConfig) -> Path:
    if not config.path:
        raise ValueError("no images named: set --data.path to a folder of images, CIFAR or IDX files")
    root = Path(config.path)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder: set --data.path to a folder of images, CIFAR or IDX files")
    return root / config.part if (root / config.part).is_dir() else root


def _cifar_files(root: Path, part: str) -> list[Path]:
    patterns = CIFAR.get(part, ())
    return sorted(path for pattern in patterns for path in root.glob(pattern) if path.is_file())


def _idx_files(root: Path, part: str) -> list[Path]:
    found = [path for path in root.glob(f"{IDX.get(part, part)}*images*idx3*") if path.is_file()]
    plain = {path.name for path in found if path.suffix != ".gz"}  # torchvision leaves the packed file beside it
    return sorted(path for path in found if path.suffix != ".gz" or path.stem not in plain)


def _read_idx(path: Path) -> tuple[np.ndarray, list[int]]:
    """Images (n, 1, H, W) uint8 of an IDX file, and the labels of its neighbour (all 0 if there is none)."""
    images = _idx_array(path, 3)
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
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


def read_image(path: Path, size: int, channels: int) -> torch.Tensor:
    """One image file as (C, size, size) uint8. Raises BadItem if it cannot be decoded."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return _square(_upright(image), size, channels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, ZeroDivisionError, struct.error) as error:
        raise BadItem(f"cannot be decoded: {' '.join(str(error).split())}") from error


def _upright(image):  # noqa: ANN001, ANN202  PIL is imported late
    from PIL import ImageOps

    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except (ZeroDivisionError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return image  # a broken EXIF block spoils the orientation, not the picture


def _square(image, size: int, channels: int) -> torch.Tensor:  # noqa: ANN001
    from PIL import Image

    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        array = np.asarray(image, dtype=np.float64)
        brightest = array.max(initial=0.0)
        top = 65535.0 if image.mode.startswith("I;16") or brightest > 255.0 else 255.0
        if image.mode == "F" and brightest <= 1.0:
            top = 1.0
        image = Image.fromarray((array.clip(0.0, top) * (255.0 / top)).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image)
    image = image.convert("L" if channels == 1 else "RGB")
    width, height = image.size
    if (width, height) != (size, size):
        scale = size / min(width, height)
        shape = max(size, round(width * scale)), max(size, round(height * scale))
        image = image.resize(shape, Image.Resampling.BICUBIC)
        left, top = (shape[0] - size) // 2, (shape[1] - size) // 2
        image = image.crop((left, top, left + size, top + size))
    array = np.array(image, dtype=np.uint8).reshape(size, size, channels)
    return torch.from_numpy(array.transpose(2, 0, 1).copy())

# SPDX-License-Identifier: Apache-2.0
"""Images from a folder, from CIFAR's python files, or from IDX files (MNIST), as squares of one size."""

import dataclasses
import os
import struct
from pathlib import Path

import numpy as np
import torch

from ..ssl import hub
from ..ssl.data import BadItem, DataConfig, Dataset, Epoch, Item, all_held_out
from . import arrays

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")


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
        # Evaluations hold nothing out: they read a corpus once, and leave nothing beside it.
        kept = cache if self.held_out > 0 else None
        return ImageDataset(dataclasses.replace(self, path=path), split, kept)


class ImageDataset(Dataset):
    """Square images (C, size, size) uint8, one size for all.

    Small sets that come as arrays are mapped into memory, or held there; files are decoded when they are asked for:
    turned as their EXIF says, converted to RGB or grey (transparency on white, the first frame of several), the shorter
    side scaled to `size` with antialiasing, the middle cut out.
    """

    unit = "images"
    ragged = False

    def __init__(self, config: ImageDataConfig, split: str, kept: Path | None) -> None:
        self.config = config
        self.root = _find_root(config)
        found = arrays.find(self.root, config.part, kept)
        self.arrays: np.ndarray | None = None  # (n, C, H, W)
        if found is None:
            self.channels = config.channels
            self.names, self.labels, self.classes = _list_files(self.root)
        else:
            self.arrays, self.labels, self.names = found
            self.channels = found.pixels.shape[1]
            self.classes = [str(label) for label in range(max(self.labels, default=0) + 1)]
        wanted = split == "held_out"
        self.records = np.flatnonzero(all_held_out(self.names, config.held_out) == wanted)[:, None]

    def lasting_name(self, i: int) -> str:
        """What decides the split: the path below the root, or a digest of the pixels."""
        return self.names[i]

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, np.ones(len(self.records)))

    def load(self, record: np.ndarray, key: int) -> Item:
        i = int(record[0])
        if self.arrays is not None:
            return Item(torch.from_numpy(self.arrays[i].copy()))
        return Item(read_image(self.root / self.names[i], self.config.size, self.config.channels))

    def label(self, record: np.ndarray) -> int:
        """The number of the item's class in `classes`."""
        return self.labels[int(record[0])]

    def name(self, record: np.ndarray) -> str:
        i = int(record[0])
        return f"{self.root}[{i}]" if self.arrays is not None else str(self.root / self.names[i])

    def save_assets(self, folder: Path) -> None:
        pass


def _find_root(config: ImageDataConfig) -> Path:
    if not config.path:
        raise ValueError("no images named: set --data.path to a folder of images, CIFAR or IDX files")
    root = Path(config.path)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder: set --data.path to a folder of images, CIFAR or IDX files")
    return root / config.part if (root / config.part).is_dir() else root


def _list_files(root: Path) -> tuple[list[str], list[int], list[str]]:
    """Paths below the root, their classes' numbers, and the classes."""
    names, places = [], []
    for folder, folders, files in os.walk(root):
        folders.sort()
        below = os.path.relpath(folder, root)
        here = [name for name in sorted(files) if name.lower().endswith(SUFFIXES)]
        names += here if below == os.curdir else [os.path.join(below, name) for name in here]
        places += ["" if below == os.curdir else os.path.basename(below)] * len(here)
    if not names:
        raise ValueError(f"no images in {root}: set data.path to a folder of images, CIFAR or IDX files")
    classes = sorted(set(places))
    number = {name: i for i, name in enumerate(classes)}
    return names, [number[name] for name in places], classes


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

# SPDX-License-Identifier: Apache-2.0
"""`pluri extract`: an encoder's states for every item of a corpus, one .npy file each.

Items of like length share a batch, padding is not computed on, and the next batch is read and the last one written
while the encoder works. A run that was cut off goes on where it stopped.
"""

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..speech.corpus import AudioDataConfig
from ..ssl import memory
from ..ssl.data import Dataset, Epoch, Item, Loader
from ..ssl.encoder import Backbone, Encoded
from ..ssl.packing import Rows
from ..ssl.parallel import find_device
from ..ssl.positions import LearnedPositionsConfig, SinusoidalPositionsConfig
from ..ssl.tables import text_of
from ..vision.images import ImageDataConfig
from .encoders import Start, fingerprint, load, modality, pixel_shape, text_tokenizer
from .features import COST, check_layer, good_records
from .host import behind
from .labelled import Texts

AHEAD = 64  # files that may wait to be written


class States(NamedTuple):
    """What the encoder says of one item."""

    record: np.ndarray  # the item's
    layers: np.ndarray  # (L, T, D) float32: the encoder's input and each block's output, or the chosen one alone


@torch.inference_mode()
def states(
    backbone: Backbone,
    data: Dataset,
    layer: int | None = None,
    precision: str = "fp32",
    workers: int = 0,
    bad: list[tuple[str, str]] | None = None,
) -> Iterator[States]:
    """The states of every item, longest first or shortest first, as the loader has sorted them.

    Args:
        backbone: on the device that is to do the work, in eval mode.
        layer: None: all of them; 0 the encoder's input, k the output of block k, -1 the normalised output.
        precision: "fp32", or "bf16" for autocast; what comes out is float32.
        bad: names and reasons of items that cannot be read are added to it.
    """
    device = next((parameter.device for parameter in backbone.parameters()), torch.device("cpu"))
    if device.type == "cpu":
        memory.keep()
    loader = Loader(dataset=data, batch=COST[data.unit], seed=0, workers=workers, pin=device.type == "cuda")

    def encoded() -> Iterator[tuple[tuple[list[np.ndarray], Rows], list[Tensor]]]:
        for loaded in loader.all():
            if bad is not None:
                bad.extend(loaded.bad)
            if loaded.batch is None:
                continue
            batch = loaded.batch.to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
                out = backbone(batch.inputs, batch.lengths, layers=layer != -1)
            yield (good_records(loaded, data), out.rows), _chosen(out, layer)

    for (records, rows), layers in behind(encoded()):
        for record, start, end in zip(records, rows.starts[:-1], rows.starts[1:], strict=True):
            yield States(record, torch.stack([x[start:end] for x in layers]).float().numpy())


def _chosen(encoded: Encoded, layer: int | None) -> list[Tensor]:
    """The chosen layers of a batch, (N, D) each."""
    if layer is None:
        return encoded.packed_layers
    return [encoded.packed if layer == -1 else encoded.packed_layers[layer]]


class _Rest(Dataset):
    """The items of a dataset that have no file yet."""

    def __init__(self, inner: Dataset, keep: list[int]) -> None:
        self.inner, self.unit, self.ragged = inner, inner.unit, inner.ragged
        records, sizes = inner.epoch(0)
        self.records, self.sizes = records[keep], sizes[keep]

    def epoch(self, key: int) -> Epoch:
        return Epoch(self.records, self.sizes)

    def load(self, record: np.ndarray, key: int) -> Item:
        return self.inner.load(record, key)

    def name(self, record: np.ndarray) -> str:
        return self.inner.name(record)

    def save_assets(self, folder: Path) -> None:
        pass


def _open(path: str, backbone: Backbone, cache: Path) -> tuple[Dataset, list[Path]]:
    """The corpus in the form that the backbone takes, whole, and the name of each item's file."""
    kind = modality(backbone)
    if kind == "speech":
        audio = AudioDataConfig(path=path, longest=float("inf"), shortest=0.0, held_out=0.0).build("train", cache)
        names = []
        for record in audio.records:
            clip = audio.clips[int(record[0])]
            names.append(f"{clip.path}@{clip.start:g}" if clip.start else clip.path)
        return audio, [_relative(name) for name in names]
    if kind == "vision":
        size, channels = pixel_shape(backbone)
        images = ImageDataConfig(path=path, size=size, channels=channels, held_out=0.0).build("train", cache)
        if images.arrays is not None:
            return images, [Path(f"{int(record[0]):08d}") for record in images.records]
        return images, [_relative(images.lasting_name(int(record[0]))) for record in images.records]
    written = text_of(Path(path)).split("\n")
    lines = {number: line for number, line in enumerate(written, start=1) if line.strip()}
    if not lines:
        raise ValueError(f"{path} has no lines")
    texts = Texts(list(lines.values()), text_tokenizer(backbone), _longest(backbone), path)
    return texts, [Path(f"{number:08d}") for number in lines]


def _longest(backbone: Backbone) -> int:
    """Tokens that the encoder's positions reach, or 512."""
    positions = backbone.encoder.config.positions
    known = isinstance(positions, LearnedPositionsConfig | SinusoidalPositionsConfig)
    return positions.length if known else 512


def _relative(name: str) -> Path:
    """A path that stays within a folder: no root and no step upwards."""
    return Path(*(part for part in Path(name).parts if part not in ("..", "/", "\\")))


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.partial")
    with beside.open("wb") as file:
        np.save(file, array)
    beside.rename(path)


def extract(
    backbone: Backbone, path: str, out: Path, layer: int | None = None, precision: str = "fp32", half: bool = False,
    workers: int = 1, settings: list[object] | None = None,
) -> tuple[int, list[tuple[str, str]]]:  # fmt: skip
    """Writes the states of every item of a corpus that has no file yet.

    Args:
        settings: what decides the states besides, to be refused where `out` has files of others; None: nothing is.
    Returns: how many were written, and the items that could not be read with the reasons.
    Raises: ValueError for a corpus of another kind, or a layer that the encoder has not.
    """
    if layer is not None:
        check_layer(backbone, layer)
    if not Path(path).exists():
        raise ValueError(f"{path} does not exist")
    out.mkdir(parents=True, exist_ok=True)
    data, names = _open(path, backbone, out / "cache")
    if settings is not None:
        _same_as_before(out, settings)
    numbers = data.epoch(0).records[:, 0].tolist()
    files = {number: out / f"{name}.npy" for number, name in zip(numbers, names, strict=True)}
    if len(set(files.values())) < len(files):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"two items would both be written to {twice}.npy: extract them into folders of their own")
    missing = [i for i, number in enumerate(numbers) if not files[number].is_file()]
    bad = list(data.bad)
    if not missing:
        return 0, bad
    written = 0
    with ThreadPoolExecutor(2) as pool:
        waiting: list[Future[None]] = []
        for item in states(backbone, _Rest(data, missing), layer, precision, workers, bad):
            array = item.layers.astype(np.float16) if half else item.layers
            waiting.append(pool.submit(_write, files[int(item.record[0])], array[0] if layer is not None else array))
            written += 1
            while len(waiting) > AHEAD:
                waiting.pop(0).result()
        for one in waiting:
            one.result()
    return written, bad


def _same_as_before(out: Path, settings: list[object]) -> None:
    """Raises ValueError if the folder holds what other settings gave: its files would be taken for these settings'."""
    file = out / "extract.json"
    if file.is_file():
        if json.loads(file.read_text()) != settings:
            raise ValueError(f"{out} holds states of {json.loads(file.read_text())}: choose another --out")
        return
    file.write_text(json.dumps(settings) + "\n")


def main(words: list[str]) -> None:
    """`pluri extract ENCODER INPUTS --out DIR`."""
    parser = argparse.ArgumentParser(prog="pluri extract", description=__doc__, allow_abbrev=False)
    parser.add_argument("encoder", help="a run directory, a Hugging Face folder or hub name, random:RECIPE, fbank, ...")
    parser.add_argument("inputs", help="a folder, a file or a manifest; of text, a file with an item on each line")
    parser.add_argument("--out", type=Path, required=True, help="folder; it gets NAME.npy for each item")
    parser.add_argument(
        "--layer",
        default="all",
        help="all: (depth + 1, T, D); k: the output of block k, (T, D); -1: the normalised last",
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--half", action="store_true", help="write float16")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--workers", type=int, default=1, help="processes that read")
    known = parser.parse_args(words)
    if known.layer != "all" and not known.layer.lstrip("-").isdigit():
        parser.error(f"--layer is all or a number, not {known.layer}")
    layer = None if known.layer == "all" else int(known.layer)
    backbone = load(known.encoder).to(find_device(known.device))
    weights, inputs = fingerprint(Start("", backbone)), str(Path(known.inputs).resolve())
    settings = [known.encoder, known.layer, known.precision, known.half, inputs, weights]
    written, bad = extract(
        backbone, known.inputs, known.out, layer, known.precision, known.half, known.workers, settings
    )
    for name, reason in bad[:3]:
        print(f"left out: {name}: {reason}")
    if bad:
        rows = [json.dumps({"item": name, "reason": reason}) + "\n" for name, reason in bad]
        (known.out / "bad_items.jsonl").write_text("".join(rows))
        print(f"left out: {len(bad)} in all, named in {known.out / 'bad_items.jsonl'}")
    print(f"{known.out}: {written} files written")

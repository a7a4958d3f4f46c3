# SPDX-License-Identifier: Apache-2.0
"""Data sets of the Hugging Face hub as ordinary files, so that they are read as a user's own are."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

PREFIX = "hf:"
# How files begin whose name says nothing of what they hold.
_MAGIC = {b"fLaC": ".flac", b"RIFF": ".wav", b"OggS": ".ogg", b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}


def as_files(path: str, kind: Literal["text", "audio", "image"], cache: Path) -> Path:
    """Where the files of `path` are: there, or, for `hf:NAME` or `hf:NAME:CONFIG`, in a folder that this writes.

    Of a data set the split "train" is taken: documents from the column "text"; audio and images from the first column
    of that type, as they are stored; images in a folder for each class, if they have classes.

    Raises: ValueError if the extra `datasets` is missing, or the data set or its column cannot be had.
    """
    if not path.startswith(PREFIX):
        return Path(path)
    folder = cache / f"hub-{hashlib.blake2b(path.encode(), digest_size=8).hexdigest()}"
    if not folder.is_dir():
        beside = folder.with_suffix(f".{os.getpid()}.partial")
        beside.mkdir(parents=True)
        try:
            _write(_rows(path, kind), beside)
            if not folder.is_dir():  # another rank may have been faster
                beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def _rows(path: str, kind: Literal["text", "audio", "image"]) -> Iterator[tuple[str, bytes]]:
    """The files of a data set: names and contents."""
    try:
        import datasets  # pyright: ignore[reportMissingImports]  an extra
        from datasets.exceptions import DatasetsError  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(f"{path} names a data set of the hub: pip install 'pluri[datasets]' to use it") from error
    name, _, config = path.removeprefix(PREFIX).partition(":")
    try:
        data = datasets.load_dataset(name, config or None, split="train")
    except (OSError, ValueError, DatasetsError) as error:
        raise ValueError(f"{path} cannot be had: {' '.join(str(error).split())[:160]}") from error
    assert isinstance(data, datasets.Dataset)
    if kind == "text":
        if "text" not in data.features:
            raise ValueError(f'{path} has no column "text": it has {", ".join(data.features)}')
        documents = ("\n".join(line for line in text.splitlines() if line.strip()) for text in data["text"] if text)
        yield "text.txt", "\n\n".join(documents).encode()
        return
    sought = datasets.Audio if kind == "audio" else datasets.Image
    column = next((name for name, feature in data.features.items() if isinstance(feature, sought)), None)
    if column is None:
        raise ValueError(f"{path} has no column of {kind}: it has {', '.join(data.features)}")
    classes = next((name for name, feature in data.features.items() if isinstance(feature, datasets.ClassLabel)), None)
    for number, row in enumerate(data.cast_column(column, sought(decode=False))):
        assert isinstance(row, dict)
        content, suffix = _content(row[column])
        below = f"{data.features[classes].int2str(row[classes])}/" if classes and kind == "image" else ""
        yield f"{below}{number:08d}{suffix}", content


def _content(stored: dict[str, Any]) -> tuple[bytes, str]:
    """A stored file and its suffix."""
    content = stored["bytes"] if stored["bytes"] is not None else Path(stored["path"]).read_bytes()
    named = Path(stored["path"] or "").suffix
    return content, named or next((s for magic, s in _MAGIC.items() if content.startswith(magic)), ".mp3")


def _write(rows: Iterator[tuple[str, bytes]], folder: Path) -> None:
    for name, content in rows:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)

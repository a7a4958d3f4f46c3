# SPDX-License-Identifier: Apache-2.0
"""Text files to documents and sentences, whatever the files hold: prose, one sentence a line, Chinese, or rubbish."""

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".txt", ".text", ".txt.gz", ".parquet")
LONGEST = 2000  # characters of a sentence; longer ones are cut, at a space if there is one

# A sentence ends after its stop and the quotes that close it: before a space and a capital, digit or opening quote in
# alphabetic scripts; anywhere after a full-width stop.
_END = re.compile(
    r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[^\W_a-z])|(?<=[。！？；…])[」』”’）]*(?![。！？；…」』”’）])"
)


def files(path: Path) -> list[Path]:
    """The text files at `path`, a file or a folder of any depth. Raises ValueError if there are none."""
    if not path.exists():
        raise ValueError(f"{path} does not exist: set --data.path to a text file or a folder of them")
    if path.is_file():
        return [path]
    found = []
    for folder, folders, names in os.walk(path):
        folders.sort()
        found += [Path(folder, name) for name in sorted(names) if name.lower().endswith(SUFFIXES)]
    if not found:
        raise ValueError(f"no text files in {path}: it needs {', '.join(SUFFIXES)}")
    return found


def sentences(line: str) -> list[str]:
    """The sentences of a line, none longer than LONGEST characters."""
    out = []
    start = 0
    ends = [match.end() for match in _END.finditer(line)]
    for end in [*ends, len(line)]:
        while start < end:
            stop = end
            if stop - start > LONGEST:  # by places in the line: copying what is left of a huge one would never end
                stop = line.rfind(" ", start + LONGEST // 2, start + LONGEST)
                stop = start + LONGEST if stop < 0 else stop
            if piece := line[start:stop].strip():
                out.append(piece)
            start = stop
    return out


def documents(path: Path, bad: list[tuple[str, str]]) -> Iterator[list[str]]:
    """The documents of a file, each a list of lines.

    Lines are sentences or paragraphs; an empty line ends a document, and so does the end of the file. In parquet files
    each row of the column "text" is a document. What cannot be read is put into `bad` with its reason.
    """
    if path.name.lower().endswith(".parquet"):
        yield from _parquet(path, bad)
        return
    lines: list[str] = []
    undecodable = 0
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            if b"\0" in file.peek(8192)[:8192]:
                bad.append((str(path), "not a text file: it has zero bytes"))
                return
            for raw in file:
                text = raw.decode("utf-8", "replace").removeprefix("\ufeff").strip()
                undecodable += "\ufffd" in text
                if text:
                    lines.append(text)
                elif lines:
                    yield lines
                    lines = []
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        bad.append((str(path), f"cannot be read: {reason}"))
    if undecodable:
        bad.append((str(path), f"{undecodable} lines are not UTF-8; the bytes in question were left out"))
    if lines:
        yield lines


def _parquet(path: Path, bad: list[tuple[str, str]]) -> Iterator[list[str]]:
    try:
        from pyarrow import ArrowInvalid  # pyright: ignore[reportMissingImports]
        from pyarrow.parquet import ParquetFile  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(f"{path} is parquet: pip install 'pluri[datasets]' to read it") from error
    try:
        table = ParquetFile(path)
    except ArrowInvalid:
        bad.append((str(path), "not a parquet file"))
        return
    if "text" not in table.schema_arrow.names:
        bad.append((str(path), 'has no column "text"'))
        return
    for part in table.iter_batches(columns=["text"]):
        for text in part.column("text").to_pylist():
            lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
            if lines:
                yield lines

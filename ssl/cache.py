# SPDX-License-Identifier: Apache-2.0
"""What was made of files once is found again by their names, sizes and times, and is there whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path


def state(found: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Names, sizes and times of files."""
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found]


def digest(*parts: object) -> str:
    """16 hex digits that stand for these values, which JSON can write."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def once(place: Path, make: Callable[[Path], object]) -> Path:
    """`place`, a file or a folder; if it is not there, `make` writes it under another name, which is then changed."""
    if place.exists():
        return place
    beside = place.with_name(f"{place.name}.{os.getpid()}.partial")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(beside, ignore_errors=True)
    make(beside)
    try:
        beside.rename(place)
    except OSError:  # another process was faster; what it wrote is the same
        if not place.is_dir():
            raise
        shutil.rmtree(beside)
    return place

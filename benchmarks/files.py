# SPDX-License-Identifier: Apache-2.0
"""Small result files that are there whole or not at all, whenever the process is killed."""

import json
import math
import os
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Writes beside the place, then renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    beside.write_bytes(content)
    beside.replace(path)


def write_text(path: Path, text: str) -> None:
    """The same for a text, in UTF-8."""
    write_bytes(path, text.encode())


def plain(value: Any) -> Any:
    """The same value of JSON's types with None for numbers that are not finite, which JSON has no words for."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """The same for a value of JSON's types."""
    write_text(path, json.dumps(value) + "\n")

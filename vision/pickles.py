# SPDX-License-Identifier: Apache-2.0
"""CIFAR's python files, read by an unpickler that admits nothing but dicts, lists, strings and uint8 arrays."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from ..ssl.data import BadItem

CLASSES = 1 << 16  # at most: a name is kept for every class up to the greatest label, and a spoilt one may be anything
_ARRAY = object()  # stands for numpy.ndarray, which a file may name but not call: that would reserve memory

# Bytes of each opcode's argument; those below 0 end with the line, or say their length in as many bytes as stated here.
_ARGUMENTS = {info.code: 0 if info.arg is None else info.arg.n for info in pickletools.opcodes}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}


class _Unpickler(pickle.Unpickler):
    """Refuses every global but the few that numpy arrays are made of, in numpy's old and new spelling."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _reconstruct
        if module == "numpy" and name == "ndarray":
            return _ARRAY
        if module == "numpy" and name == "dtype":
            return _dtype
        if name == "_frombuffer" and module in ("numpy.core.numeric", "numpy._core.numeric"):
            return _frombuffer
        if module == "_codecs" and name == "encode":
            return _encode
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def _reconstruct(kind: object, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    if kind is not _ARRAY:
        raise pickle.UnpicklingError("it wants an array of another class")
    return np.ndarray.__new__(np.ndarray, (0,), np.uint8)


def _frombuffer(content: bytes, kind: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    if kind != np.uint8 or order not in ("C", "F"):
        raise pickle.UnpicklingError(f"it holds numbers of type {kind}, not uint8")
    return np.frombuffer(content, np.uint8).reshape(shape, order="C" if order == "C" else "F")


def _dtype(kind: str | bytes, *rest: object) -> np.dtype:
    if isinstance(kind, bytes):  # as Python 2 wrote it
        kind = kind.decode("latin1")
    if kind not in ("u1", "uint8"):
        raise pickle.UnpicklingError(f"it holds numbers of type {kind}, not uint8")
    return np.dtype("u1")


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin1" if encoding == "latin1" else "utf-8")


def _check_sizes(content: bytes) -> None:
    """Refuses a pickle with lengths, or numbers of remembered objects, that its file is too short for.

    Python's unpickler believes them: it keeps 16 bytes for every object up to the greatest number, so that one spoilt
    byte in a file of a few megabytes would have it fill 64 GB.
    """
    at, code = 0, ""
    while code != "." and at < len(content):
        code = chr(content[at])
        start = at + 1
        size = _ARGUMENTS.get(code)
        if size is None:
            raise pickle.UnpicklingError(f"there is no opcode {code!r}")
        if size == pickletools.UP_TO_NEWLINE:
            at = content.index(b"\n", start) + 1
            at = content.index(b"\n", at) + 1 if code in "ci" else at  # a module's line and a name's
        else:
            if size in _LENGTHS:
                start += _LENGTHS[size]
                size = int.from_bytes(content[at + 1 : start], "little")
            at = start + size
        number = 0
        if code in "pqr":
            number = int(content[start:at]) if code == "p" else int.from_bytes(content[start:at], "little")
        if max(at, number) > len(content):
            raise pickle.UnpicklingError("it promises more than it holds")


def read(path: Path) -> tuple[np.ndarray, list[int]]:
    """Images (n, 3, 32, 32) uint8 and labels of one file of CIFAR-10 or CIFAR-100 (fine labels).

    Raises: BadItem if the file is no such file, or wants anything else to be made while it is read.
    """
    packed = path.read_bytes()
    try:
        _check_sizes(packed)
        content = _Unpickler(io.BytesIO(packed), encoding="bytes").load()
    except (
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        EOFError,
        AttributeError,
        LookupError,
        OverflowError,
    ) as error:
        raise BadItem(f"no CIFAR file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadItem("no CIFAR file: it holds no dict")
    table = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    data = table.get("data")
    labels = table.get("labels", table.get("fine_labels"))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise BadItem("no CIFAR file: its data is no (n, 3072) array of uint8")
    if not isinstance(labels, list) or len(labels) != len(data) or not all(isinstance(x, int) for x in labels):
        raise BadItem("no CIFAR file: its labels are no list of one number an image")
    if not all(0 <= label < CLASSES for label in labels):
        raise BadItem(f"no CIFAR file: its labels are not all from 0 to {CLASSES - 1}")
    return data.reshape(-1, 3, 32, 32), labels

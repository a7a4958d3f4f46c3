# SPDX-License-Identifier: Apache-2.0
"""CIFAR's python files, read by an unpickler that admits nothing but dicts, lists, strings and uint8 arrays."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..ssl.data import BadItem


class _Unpickler(pickle.Unpickler):
    """Refuses every global but the few that numpy arrays are made of, in numpy's old and new spelling."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _reconstruct
        if module == "numpy" and name == "ndarray":
            return np.ndarray
        if module == "numpy" and name == "dtype":
            return _dtype
        if name == "_frombuffer" and module in ("numpy.core.numeric", "numpy._core.numeric"):
            return _frombuffer
        if module == "_codecs" and name == "encode":
            return _encode
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    if kind is not np.ndarray:
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


def read(path: Path) -> tuple[np.ndarray, list[int]]:
    """Images (n, 3, 32, 32) uint8 and labels of one file of CIFAR-10 or CIFAR-100 (fine labels).

    Raises: BadItem if the file is no such file, or wants anything else to be made while it is read.
    """
    try:
        content = _Unpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except (pickle.UnpicklingError, ValueError, TypeError, EOFError, AttributeError, LookupError, MemoryError) as error:
        raise BadItem(f"no CIFAR file: {error}") from error
    if not isinstance(content, dict):
        raise BadItem("no CIFAR file: it holds no dict")
    table = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
    data = table.get("data")
    labels = table.get("labels", table.get("fine_labels"))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise BadItem("no CIFAR file: its data is no (n, 3072) array of uint8")
    if not isinstance(labels, list) or len(labels) != len(data) or not all(isinstance(x, int) for x in labels):
        raise BadItem("no CIFAR file: its labels are no list of one number an image")
    return data.reshape(-1, 3, 32, 32), labels

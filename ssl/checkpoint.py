# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are there whole or not at all: written beside their place, synced to disk, then renamed.

A checkpoint is a folder: `model.safetensors` (weights), `optimizer.pt` (its state, loadable with weights_only),
`state.json` (step and place in the data) and `manifest.json` (size and sha256 of the others).
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def save(folder: Path, weights: dict[str, Tensor], optimizer: dict[str, Any], state: dict[str, Any]) -> None:
    """Writes the checkpoint `folder`, which must not exist as a finished one; a half-written one is replaced."""
    from safetensors.torch import save_file

    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is in the way of a checkpoint: it is not a folder")
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    # Tied weights share memory, which safetensors refuses: each name gets its own copy on the CPU.
    save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}, beside / WEIGHTS)
    torch.save(optimizer, beside / OPTIMIZER)
    (beside / STATE).write_text(json.dumps(state))
    manifest = {path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for path in sorted(beside.iterdir())}
    (beside / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in [*beside.iterdir(), beside]:
        _sync(path)
    if folder.exists():
        shutil.rmtree(folder)
    beside.rename(folder)
    _sync(folder.parent)


WEIGHTS, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.pt", "state.json", "manifest.json"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def name(step: int) -> str:
    """The folder name of the checkpoint after `step` steps."""
    return f"step_{step:08d}"


def step_of(folder: Path) -> int:
    """The inverse of `name`."""
    return int(folder.name.removeprefix("step_"))


def all_in(run: Path) -> list[Path]:
    """The finished checkpoints of a run, oldest first."""
    return sorted(path for path in run.glob("step_*") if (path / MANIFEST).is_file())


def latest(run: Path) -> Path | None:
    """The newest finished checkpoint of a run."""
    return next(reversed(all_in(run)), None)


def check(folder: Path) -> None:
    """Raises ValueError unless every file is as the manifest says."""
    for file in json.loads((folder / MANIFEST).read_text()):
        _check(folder, file)


def _check(folder: Path, file: str) -> None:
    path, entry = folder / file, json.loads((folder / MANIFEST).read_text())[file]
    if not path.is_file() or path.stat().st_size != entry["bytes"] or _digest(path) != entry["sha256"]:
        raise ValueError(f"{path} is damaged: delete {folder} to fall back to the checkpoint before it")


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, on the CPU. Raises ValueError unless they are as its manifest says."""
    _check(folder, WEIGHTS)
    return _weights(folder)


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / WEIGHTS)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Weights, optimiser state and run state of a checkpoint, checked against its manifest, on the CPU."""
    check(folder)
    optimizer = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True)
    return _weights(folder), optimizer, json.loads((folder / STATE).read_text())


def prune(run: Path, keep: int) -> None:
    """Deletes all but the newest `keep` checkpoints of a run."""
    found = all_in(run)
    for folder in found[: max(0, len(found) - keep)]:
        shutil.rmtree(folder, ignore_errors=True)  # each rank may get here

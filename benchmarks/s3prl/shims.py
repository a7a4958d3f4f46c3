# SPDX-License-Identifier: Apache-2.0
"""Lets s3prl 0.4.18 import and read audio beside a torchaudio that it was not written for, while it is asked for.

torchaudio 2.9 has neither backends nor sox, and its `load` needs torchcodec; the wheel of s3prl asks for tensorboardX
and catalyst without naming them. Everything is taken back at the end, and the rest of the process sees nothing of it.
"""

import argparse
import contextlib
import importlib.machinery
import importlib.util
import io
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...speech import audio

_ABSENT = object()


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """What s3prl asks for is there as long as this lasts. Raises ValueError if s3prl is not installed."""
    if importlib.util.find_spec("s3prl") is None:
        raise ValueError("s3prl is not installed: pip install 'pluri[s3prl]'")
    import torchaudio

    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # old names of torch's, at every other import of s3prl
        if "set_audio_backend" not in torchaudio.__dict__:
            _put(stack, torchaudio.__dict__, "set_audio_backend", _set_audio_backend)
        if importlib.util.find_spec("torchcodec") is None:
            _put(stack, torchaudio.__dict__, "load", load)
        for name, module in _stand_ins().items():
            _put(stack, sys.modules, name, module)
            if name.startswith("torchaudio."):
                _put(stack, torchaudio.__dict__, name.removeprefix("torchaudio."), module)
        # Its checkpoints hold the words that it was called with. Mockingjay's and its kin it unpickles whole.
        stack.enter_context(torch.serialization.safe_globals([argparse.Namespace]))
        yield


def quiet(name: str) -> ModuleType:
    """A module of s3prl's, without what it prints while it is imported. To be called while the shims are applied."""
    with contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module(name)


def _put(stack: contextlib.ExitStack, into: dict[str, Any], name: str, value: object) -> None:
    """Sets an entry until the stack is left."""
    before = into.get(name, _ABSENT)
    into[name] = value

    def restore() -> None:
        if before is _ABSENT:
            into.pop(name, None)
        else:
            into[name] = before

    stack.callback(restore)


def _stand_ins() -> dict[str, ModuleType]:
    """The modules that are not there."""
    from torch.utils.tensorboard.writer import SummaryWriter

    found: dict[str, ModuleType] = {}
    if importlib.util.find_spec("torchaudio.sox_effects") is None:
        names = {"apply_effects_file": apply_effects_file, "apply_effects_tensor": None}
        found["torchaudio.sox_effects"] = _module("torchaudio.sox_effects", names)
    if importlib.util.find_spec("tensorboardX") is None:
        found["tensorboardX"] = _module("tensorboardX", {"SummaryWriter": SummaryWriter})
    if importlib.util.find_spec("catalyst") is None:
        sampler = _module("catalyst.data.sampler", {"DistributedSamplerWrapper": None})  # for several processes only
        data = _module("catalyst.data", {"sampler": sampler})
        found |= {"catalyst": _module("catalyst", {"data": data}), "catalyst.data": data, sampler.__name__: sampler}
    return found


def _module(name: str, names: dict[str, object]) -> ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(names)
    return module


def _set_audio_backend(name: str) -> None:
    """There is one way of reading audio, and nothing to be set."""


def apply_effects_file(path: str, effects: Sequence[Sequence[str]]) -> tuple[Tensor, int]:
    """A file through the effects of sox that SUPERB's tasks use: one channel, 16 kHz, and a gain.

    The rate is changed by pluri's own resampler (`speech/audio.py`), not sox's.
    Returns: (1, S) float32, and 16000.
    Raises: ValueError for another effect.
    """
    decibels = 0.0
    for effect in effects:
        match list(effect):
            case ["channels", "1"] | ["rate", "16000"]:
                pass
            case ["gain", value]:
                decibels += float(value)
            case _:
                raise ValueError(
                    f"sox is not there, and its effect {' '.join(effect)} has no stand-in: use pluri's task"
                )
    return audio.read(Path(path))[None] * 10.0 ** (decibels / 20.0), audio.RATE


def load(
    path: str, frame_offset: int = 0, num_frames: int = -1, normalize: bool = True, channels_first: bool = True
) -> tuple[Tensor, int]:
    """A file's samples (channels, S) or, channels not first, (S, channels), float32, and its rate: torchaudio's `load`
    without torchcodec."""
    import soundfile

    assert normalize
    samples, rate = soundfile.read(str(path), num_frames, frame_offset, dtype="float32", always_2d=True)
    wave = torch.from_numpy(samples)
    return (wave.T.contiguous() if channels_first else wave), rate

# SPDX-License-Identifier: Apache-2.0
"""What a frozen encoder says of clips: the states of some layers, frame by frame or their mean over each clip.

Mean pooling and everything before it in SUPERB's head for whole utterances is linear, so a clip's mean vectors are all
that such a head ever needs (`utterance/heads.py`).
Shape letters: B clips, S samples, N frames of all clips, L layers, D width.
"""

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...ssl.config import to_dict
from ...ssl.encoder import Backbone
from ...ssl.packing import Rows
from ..encoders import Start, fingerprint, modality, settings_of
from ..host import Sent, send, to_device
from .clips import Clips, batches, loaded, pad, read_or_why
from .featurizer import FeaturizerConfig, frames, hop, normalized

Precision = Literal["fp32", "bf16"]


class Frames(NamedTuple):
    """States of some clips, back to back."""

    x: Tensor  # (N, L, D) float32
    lengths: list[int]  # frames of each clip; 1 each where they are means


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is read of an encoder."""

    backbone: Backbone
    layers: tuple[int, ...]
    normalize: bool  # layer norm without scale and shift, before the mean, of a single layer too
    pooled: bool  # one vector for each clip and layer: the mean over its frames
    precision: Precision = "fp32"

    @classmethod
    def of(cls, backbone: Backbone, config: FeaturizerConfig, pooled: bool, precision: Precision) -> "Reading":
        """What a featuriser reads. Raises ValueError if the encoder takes no waveforms, or lacks the layer."""
        if modality(backbone) != "speech":
            raise ValueError(f"SUPERB needs an encoder of speech; this one takes {modality(backbone)}")
        return cls(backbone, config.chosen(backbone.encoder.config.depth), config.normalize, pooled, precision)

    @property
    def width(self) -> int:
        """D."""
        return self.backbone.encoder.config.width

    def key(self) -> str:
        """Changes with the encoder's weights or settings, and with what is read of it."""
        front_end = to_dict(settings_of(self.backbone))
        weights = fingerprint(Start("", self.backbone))
        return json.dumps([weights, front_end, self.layers, self.normalize, self.pooled, self.precision])

    @torch.inference_mode()
    def __call__(self, waves: Sequence[Tensor]) -> Frames:
        """The states of waveforms (S,), on the encoder's device, which is not waited for."""
        self.backbone.eval()
        # Raw features have no parameters, but buffers.
        device = next((x.device for x in (*self.backbone.parameters(), *self.backbone.buffers())), torch.device("cpu"))
        inputs, lengths = pad(waves)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            encoded = self.backbone(to_device(inputs, device), lengths)
        x = torch.stack([encoded.packed_layers[layer].float() for layer in self.layers], dim=1)  # (N, L, D)
        x, rows = _cut(x, encoded.rows, hop(self.backbone.front_end), lengths.tolist())
        if self.normalize:
            x = normalized(x)
        if self.pooled:
            mean = rows.mean(x.flatten(1)).unflatten(1, x.shape[1:])  # (B, L, D)
            return Frames(mean, [1] * len(waves))
        return Frames(x, rows.lengths)


def _cut(x: Tensor, rows: Rows, hop: int, samples: list[int]) -> tuple[Tensor, Rows]:
    """The frames that are used of each clip."""
    kept = [frames(count, hop, have) for count, have in zip(samples, rows.lengths, strict=True)]
    if kept == rows.lengths:
        return x, rows
    parts = [part[:count] for part, count in zip(x.split(rows.lengths), kept, strict=True)]
    return torch.cat(parts), Rows(kept, max(kept), x.device)


class States(ABC):
    """The states of numbered clips, wherever they come from."""

    bad: dict[int, str]  # clips that cannot be read, and why

    @abstractmethod
    def read(self, numbers: Sequence[int], place: int | None = None) -> Frames:
        """The states of some clips, in the order asked for, on the CPU. Clips may be named twice.

        Args:
            place: of the one layer that is read, among those that are kept; None: of all.
        """


class Online(States):
    """States that are computed each time they are asked for, as the disk does not hold them."""

    def __init__(self, clips: Clips, reading: Reading, seconds: float) -> None:
        self.clips, self.reading, self.seconds = clips, reading, seconds
        self.bad = {}

    def look(self, threads: int) -> None:
        """Decodes every clip once, so that bad ones are known before training, as a store knows them."""
        for batch, waves in loaded(self.clips, batches(self.clips, self.seconds), threads):
            self.bad |= {number: wave for number, wave in zip(batch, waves, strict=True) if isinstance(wave, str)}

    def read(self, numbers: Sequence[int], place: int | None = None) -> Frames:
        """As `States.read`. Raises ValueError for a clip that cannot be decoded, or whose states are not finite."""
        wanted = sorted(set(numbers))
        part = _Some(self.clips, wanted)
        sent: list[tuple[list[int], list[int], Sent]] = []
        for batch in batches(part, self.seconds):
            waves = []
            for number in batch:
                wave = read_or_why(part, number)
                if isinstance(wave, str):
                    raise ValueError(f"{part.name(number)}: {wave}; mend it or take it out of the data")
                waves.append(wave)
            x, lengths = self.reading(waves)
            sent.append((batch, lengths, send([one_layer(x, place)])))
        found: dict[int, Tensor] = {}
        for batch, lengths, states in sent:
            (x,) = states.read()
            need_finite(x, lengths, [part.name(number) for number in batch])
            found.update(zip((wanted[number] for number in batch), x.split(lengths), strict=True))
        chosen = [found[number] for number in numbers]
        return Frames(torch.cat(chosen), [len(x) for x in chosen])


def one_layer(x: Tensor, place: int | None) -> Tensor:
    """(N, L, D) to the (N, 1, D) at a place, or as it is."""
    return x if place is None else x[:, place : place + 1]


def need_finite(x: Tensor, lengths: Sequence[int], names: Sequence[str]) -> None:
    """Raises ValueError, with the first such clip, if states (N, ...) of some clips hold NaN or infinity."""
    if not x.isfinite().all():
        bad = next(name for part, name in zip(x.split(list(lengths)), names, strict=True) if not part.isfinite().all())
        raise ValueError(f"{bad}: the encoder's states hold NaN or infinity: look at its weights and at this audio")


class _Some(Clips):
    """Some of the clips, numbered anew."""

    def __init__(self, clips: Clips, numbers: list[int]) -> None:
        super().__init__(clips.gain)
        self.pieces = [clips.pieces[number] for number in numbers]

# SPDX-License-Identifier: Apache-2.0
"""SpecAugment on the features that a head reads (Park et al. 2019, arXiv:1904.08779, section 2), from explicit keys.

Policy of SUPERB's ASR and SF alike (s3prl@ec8064b, downstream/{asr/config.yaml, ctc/snips.yaml, specaug.py}), which
is not adaptive, though its files hold numbers for that.
Differs there: widths end one short of their greatest, and masks go by the padded length of the batch, not by the row's.
Shape letters: N frames of all rows, n of one row, D width.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ....ssl import draw
from ....ssl.config import Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig(Config):
    """How much is hidden."""

    window: int = 5  # frames by which a point in time is moved at most; 0: none is
    time_masks: int = 2  # of an adaptive policy at most
    time_width: int = 40  # frames at most
    channel_masks: int = 4
    channel_width: int = 50  # channels at most
    adaptive: float = 0.0  # share of a row's frames beyond which neither number nor width of time masks goes; 0: none

    def __post_init__(self) -> None:
        if min(dataclasses.astuple(self)) < 0:
            raise ValueError("the window, numbers and widths of SpecAugment must be 0 or more")


def spec_augment(x: Tensor, lengths: Sequence[int], key: int, config: SpecAugmentConfig) -> Tensor:
    """Time warp, then masks of time and of channels, which are 0; each row by itself.

    Args:
        x: (N, D), rows back to back. lengths: frames of each row. key: of draw.py.
    Returns: (N, D); gradients pass.
    """
    rows = []
    for number, row in enumerate(x.split(list(lengths))):
        mine = draw.key(key, number)
        hidden = masked(mine, len(row), row.shape[1], config).to(x.device)
        rows.append(warped(row, *moved(mine, len(row), config.window)).masked_fill(hidden, 0.0))
    return torch.cat(rows)


def moved(key: int, n: int, window: int) -> tuple[int, int]:
    """The frame before which a row of n is cut, and where that cut comes to lie; both 0 where nothing moves."""
    if window == 0 or n <= 2 * window:
        return 0, 0
    u = draw.uniform(torch.tensor(draw.key(key, "warp")), 2).double().tolist()
    centre = window + int(u[0] * (n - 2 * window))
    return centre, centre - window + 1 + int(u[1] * 2 * window)


def warped(row: Tensor, centre: int, to: int) -> Tensor:
    """(n, D) whose frames before `centre` are stretched or squeezed to `to` frames, and those behind it to the rest."""
    if centre == to:
        return row
    parts = ((row[:centre], to), (row[centre:], len(row) - to))
    sizes = [(part[None, None], (size, row.shape[1])) for part, size in parts]
    return torch.cat([F.interpolate(part, size, mode="bicubic", align_corners=False)[0, 0] for part, size in sizes])


def masked(key: int, n: int, width: int, config: SpecAugmentConfig) -> Tensor:
    """(n, D) bool: what is hidden of a row."""
    most = int(config.adaptive * n) if config.adaptive else max(config.time_masks, config.time_width)
    time = _bands(draw.key(key, "time"), n, min(most, config.time_masks), min(most, config.time_width))
    return time[:, None] | _bands(draw.key(key, "channel"), width, config.channel_masks, config.channel_width)


def _bands(key: int, n: int, count: int, widest: int) -> Tensor:
    """(n,) bool: `count` bands, each of a width from 0 to `widest`, anywhere."""
    u = draw.uniform(torch.tensor(key), 2 * count).double().view(2, count)
    widths = (u[0] * (min(widest, n) + 1)).long()
    starts = (u[1] * (n - widths + 1)).long()
    places = torch.arange(n)[:, None]
    return ((places >= starts) & (places < starts + widths)).any(1)

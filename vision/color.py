# SPDX-License-Identifier: Apache-2.0
"""Colour jitter: brightness, contrast, saturation and hue, each image with its own factors in its own order.

The operations are PIL's (ImageEnhance) and torchvision's hue shift, on pixels in [0, 1], clamped after each.
Shape letters: B images, C channels, H and W pixels.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ..ssl import draw


@functools.cache
def constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n,) numbers on a device: sent there once, since a GPU would be waited for each time."""
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)


def to_grey(images: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, 1, H, W) by ITU-R 601 luma, PIL's "L"; grey images as they are."""
    if images.shape[1] == 1:
        return images
    weight = constants((0.299, 0.587, 0.114), images.dtype, images.device)[:, None, None]
    return (images * weight).sum(1, keepdim=True)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Images times `factor` (B, 1, 1, 1)."""
    return (images * factor).clamp(0.0, 1.0)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Images drawn to (below 1) or away from (above 1) the mean of their grey version."""
    mean = to_grey(images).mean((1, 2, 3), keepdim=True)
    return (mean + factor * (images - mean)).clamp(0.0, 1.0)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Images drawn to or away from their grey version; grey images stay."""
    if images.shape[1] == 1:
        return images
    grey = to_grey(images)
    return (grey + factor * (images - grey)).clamp(0.0, 1.0)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Hue turned by `shift` (B, 1, 1, 1) of a full circle; grey images stay.

    In closed form, without going to HSV and back: channel = value - value * saturation * max(0, min(k, 4 - k, 1)) with
    k = (n + 6 hue) mod 6 and n = 5, 3, 1 for red, green, blue.
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    high, low = images.amax(1), images.amin(1)
    span = high - low
    safe = torch.where(span > 0, span, 1.0)
    angle = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    angle = torch.where(span > 0, angle, 0.0) + 6.0 * shift[:, 0]  # (B, H, W), in sixths of a circle
    n = constants((5.0, 3.0, 1.0), images.dtype, images.device)[:, None, None]
    k = (n + angle[:, None]) % 6.0
    ramp = torch.minimum(k, 4.0 - k).clamp(0.0, 1.0)
    return high[:, None] - span[:, None] * ramp


def jitter(images: Tensor, keys: Tensor, strength: tuple[float, float, float, float]) -> Tensor:
    """All four operations on (B, C, H, W), factors uniform around 1 (hue: around 0), the order drawn for each image."""
    u = draw.uniform(draw.fold(keys, "factors"), 4)
    widths = constants(strength, images.dtype, images.device)
    factors = 1.0 + (2.0 * u - 1.0) * widths
    factors[:, :3].clamp_(min=0.0)
    factors[:, 3] -= 1.0
    order = draw.uniform(draw.fold(keys, "order"), 4).argsort(1)  # (B, 4)
    operations: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (brightness, contrast, saturation, hue)
    for place in range(4):
        # Every operation runs once a place on the whole batch, and each image takes its own: no image waits for a list
        # of which images want what.
        out = images
        for number, operation in enumerate(operations):
            factor = factors[:, number, None, None, None]
            wanted = (order[:, place] == number)[:, None, None, None]
            out = torch.where(wanted, operation(images, factor), out)
        images = out
    return images

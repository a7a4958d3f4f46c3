# SPDX-License-Identifier: Apache-2.0
"""Random views of images, as batched torch ops: every image has its own crop, colours and blur, drawn from its key.

The recipe of BYOL, Barlow Twins and VICReg (Grill et al. 2020, arXiv:2006.07733, appendix B), with multiplicative
brightness as in PIL. A view depends on nothing but the image and its key: not on the batch, the device or a worker.
Shape letters: B images, C channels, H and W pixels, S side of a view.
"""

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..ssl import draw
from ..ssl.config import Config
from ..ssl.objective import Views, ViewsConfig
from .color import constants, jitter, to_grey


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewConfig(Config):
    """How one view is made. Defaults: BYOL's first view."""

    crop: tuple[float, float] = (0.08, 1.0)  # share of the area
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width over height, log-uniform
    flip: float = 0.5  # probability
    jitter: float = 0.8  # probability
    strength: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)  # brightness, contrast, saturation, hue
    grey: float = 0.2  # probability
    blur: float = 1.0  # probability
    sigma: tuple[float, float] = (0.1, 2.0)  # pixels
    solarise: float = 0.0  # probability; pixels of at least 0.5 are inverted


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageViewsConfig(ViewsConfig):
    """Two views of an image. Defaults: the asymmetric pair for ImageNet."""

    size: int = 224  # pixels, side
    first: ViewConfig = ViewConfig()
    second: ViewConfig = ViewConfig(blur=0.1, solarise=0.2)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def build(self) -> "ImageViews":
        return ImageViews(self)


def small_views(size: int = 32, smallest: float = 0.2) -> ImageViewsConfig:
    """The pair for CIFAR: no blur (solo-learn's asymmetric CIFAR recipe), CIFAR-10's statistics."""
    first = ViewConfig(crop=(smallest, 1.0), blur=0.0)
    return ImageViewsConfig(
        size=size,
        first=first,
        second=dataclasses.replace(first, solarise=0.2),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )


class ImageViews(Views):
    """uint8 images in, normalised float32 views out."""

    def __init__(self, config: ImageViewsConfig) -> None:
        self.config = config

    def __call__(self, inputs: Tensor, lengths: Tensor | None, keys: Tensor, view: int) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) uint8 to (B, C, S, S) float32, computed outside autocast."""
        config = self.config.second if view else self.config.first
        with torch.autocast(inputs.device.type, enabled=False):
            return self._make(inputs, draw.fold(keys, "view"), config, view), None

    @torch.no_grad()
    def _make(self, inputs: Tensor, keys: Tensor, config: ViewConfig, view: int) -> Tensor:
        keys = draw.fold(keys, view)
        images = crop_and_flip(inputs, keys, config, self.config.size)
        gates = draw.uniform(draw.fold(keys, "gates"), 4)
        if config.jitter:
            changed = jitter(images, draw.fold(keys, "jitter"), config.strength)
            images = _choose(gates[:, 0] < config.jitter, changed, images)
        if config.grey and images.shape[1] == 3:
            images = _choose(gates[:, 1] < config.grey, to_grey(images).expand_as(images), images)
        if config.blur:
            sigma = draw.uniform(draw.fold(keys, "sigma"), 1)[:, 0] * (config.sigma[1] - config.sigma[0])
            images = _choose(gates[:, 2] < config.blur, blur(images, sigma + config.sigma[0]), images)
        if config.solarise:
            inverted = torch.where(images >= 0.5, 1.0 - images, images)
            images = _choose(gates[:, 3] < config.solarise, inverted, images)
        channels = images.shape[1]
        mean, std = (
            constants(each[:channels], images.dtype, images.device)[:, None, None]
            for each in (self.config.mean, self.config.std)
        )
        return (images - mean) / std


def _choose(gate: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    return torch.where(gate[:, None, None, None], changed, images)


def crop_boxes(keys: Tensor, config: ViewConfig, height: int, width: int) -> Tensor:
    """(B, 4) float32: top, left, height and width in whole pixels, as torchvision draws them.

    Ten tries of area and ratio; the first that fits is taken, and if none does, the largest middle piece whose ratio is
    allowed.
    """
    u = draw.uniform(draw.fold(keys, "crop"), 22)
    area = height * width * (config.crop[0] + u[:, :10] * (config.crop[1] - config.crop[0]))
    low, high = math.log(config.ratio[0]), math.log(config.ratio[1])
    ratio = torch.exp(low + u[:, 10:20] * (high - low))
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()  # (B, 10)
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.float().argmax(1, keepdim=True)
    whole = width / height
    w_rest = float(width if whole <= config.ratio[1] else round(height * config.ratio[1]))
    h_rest = float(height if whole >= config.ratio[0] else round(width / config.ratio[0]))
    found = fits.any(1)
    w = torch.where(found, w.gather(1, first)[:, 0], w_rest)
    h = torch.where(found, h.gather(1, first)[:, 0], h_rest)
    top = torch.where(found, (u[:, 20] * (height - h + 1)).floor(), ((height - h) / 2).round())
    left = torch.where(found, (u[:, 21] * (width - w + 1)).floor(), ((width - w) / 2).round())
    return torch.stack([top, left, h, w], dim=1)


def crop_and_flip(inputs: Tensor, keys: Tensor, config: ViewConfig, size: int) -> Tensor:
    """Random crops resized to `size` with antialiased bicubic weights, half of them mirrored; (B, C, S, S) in [0, 1].

    Each image has its own weights, so a resize is two batched matrix products.
    """
    images = inputs.float() / 255.0 if not inputs.is_floating_point() else inputs
    H, W = images.shape[2:]
    box = crop_boxes(keys, config, H, W)
    down = resize_weights(box[:, 0], box[:, 2], H, size)  # (B, S, H)
    across = resize_weights(box[:, 1], box[:, 3], W, size)  # (B, S, W)
    flip = draw.uniform(draw.fold(keys, "flip"), 1) < config.flip
    across = torch.where(flip[..., None], across.flip(1), across)
    out = torch.einsum("bsh,bchw->bcsw", down, images)
    return torch.einsum("btw,bcsw->bcst", across, out).clamp(0.0, 1.0)


def resize_weights(start: Tensor, length: Tensor, size: int, out: int) -> Tensor:
    """(B, out, size): antialiased bicubic (a = -0.5) weights that resize [start, start + length) to `out` pixels.

    As PIL and torch.nn.functional.interpolate(antialias=True) compute them: the kernel is stretched by the scale when
    the piece shrinks, cut at the piece's edges, and normalised.
    """
    scale = length / out  # (B,)
    stretch = scale.clamp(min=1.0)[:, None, None]
    centre = (torch.arange(out, device=start.device) + 0.5) * scale[:, None]  # (B, out), from the piece's start
    pixel = torch.arange(size, device=start.device) + 0.5  # (size,)
    relative = pixel - start[:, None]  # (B, size), pixel centres from the piece's start
    inside = (relative > 0) & (relative < length[:, None])
    x = ((relative[:, None, :] - centre[..., None]) / stretch).abs()  # (B, out, size)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    weight = torch.where(x < 1.0, near, torch.where(x < 2.0, far, 0.0)) * inside[:, None, :]
    return weight / weight.sum(-1, keepdim=True)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, one sigma (B,) in pixels for each image; the kernel spans a tenth of the side, edges reflected."""
    B, C, H, W = images.shape
    radius = max(1, round(min(H, W) / 20))
    place = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-(place**2) / (2.0 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(C, 0)[:, None]  # (B C, 1, taps)
    x = F.pad(images.flatten(0, 1)[None], (radius, radius, radius, radius), mode="reflect")
    x = F.conv2d(x, kernel[:, :, None, :], groups=B * C)
    return F.conv2d(x, kernel[..., None], groups=B * C)[0].unflatten(0, (B, C))

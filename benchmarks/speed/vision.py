# SPDX-License-Identifier: Apache-2.0
"""Steps of BYOL and VICReg on a ViT-Tiny/4 at 32 pixels beside lightly: from uint8 images to updated weights.

pluri draws its views on the device; lightly's are drawn by its loader, which is a part of its step. On a GPU that
loader has workers, so its steps are measured in a row, from when they use what is made meanwhile, and its process has
ended before pluri's first step.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...ssl.objective import Batch
from ...ssl.objectives.byol import ByolConfig
from ...ssl.objectives.vicreg import VicregConfig
from ...vision.augment import ImageViewsConfig
from ...vision.frontend import PatchFrontEndConfig
from ...vision.recipes import byol, vit
from .flops import step_flops
from .side import Setting, Side, Work, keys, train_step

SIZE, PATCH, WIDTH = 32, 4, 192
# lightly's loader: workers would share the cores of a CPU with the step; a GPU wants to be fed while it works.
WORKERS = {"cpu": 0, "cuda": 8}
PREFETCH = 2  # batches that each of torch's workers makes ahead, unless told otherwise


def _images(setting: Setting) -> np.ndarray:
    rows = 32 if setting.small else setting.rows(128)
    return np.random.default_rng(0).integers(0, 256, (setting.steps, rows, SIZE, SIZE, 3), dtype=np.uint8)


def _ours(setting: Setting, config: ByolConfig | VicregConfig) -> Side:
    """An objective on the same network as lightly's side, with plain SGD as there."""
    front_end = PatchFrontEndConfig(size=SIZE, patch=PATCH, width=WIDTH)
    encoder = vit(front_end, depth=4 if setting.small else 12, heads=3, hidden=4 * WIDTH)
    recipe = dataclasses.replace(byol(), front_end=front_end, encoder=encoder, objective=config)
    objective = recipe.build().to(setting.device).train()
    images = torch.from_numpy(_images(setting)).permute(0, 1, 4, 2, 3).contiguous()  # (steps, B, C, H, W)
    rows = images.shape[1]
    batches = [Batch(some, None, keys(number, rows)) for number, some in enumerate(images)]
    if setting.compile:
        objective.backbone.encoder.compile_blocks()

    def loss(number: int) -> Tensor:
        return objective(batches[number].to(setting.device))["loss"]

    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.06)
    step = train_step(loss, objective, optimizer, None, setting)

    def whole(number: int) -> None:
        step(number)
        objective.after_step(0.5)

    flops = step_flops(recipe, [1] * rows)
    return Side(whole, [float(rows)] * setting.steps, [flops] * setting.steps)


def byol_ours(setting: Setting) -> Side:
    """BYOL with lightly's heads."""
    return _ours(setting, ByolConfig(views=ImageViewsConfig(size=SIZE), pool="first", hidden=1024, projected=256))


def vicreg_ours(setting: Setting) -> Side:
    """VICReg with lightly's projector, two layers of 2048."""
    return _ours(setting, VicregConfig(views=ImageViewsConfig(size=SIZE), pool="first", projected=2048, layers=2))


def _theirs(setting: Setting, method: str) -> Side:
    """As lightly's examples/pytorch/byol.py and vicreg.py, around timm's ViT."""
    import copy

    import timm  # pyright: ignore[reportMissingImports]
    from lightly.loss import NegativeCosineSimilarity, VICRegLoss  # pyright: ignore[reportMissingImports]
    from lightly.models.modules import heads  # pyright: ignore[reportMissingImports]
    from lightly.models.utils import deactivate_requires_grad, update_momentum  # pyright: ignore[reportMissingImports]
    from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform  # pyright: ignore[reportMissingImports]
    from lightly.transforms.vicreg_transform import VICRegTransform  # pyright: ignore[reportMissingImports]
    from PIL import Image

    class Pictures(torch.utils.data.Dataset):
        """As torchvision's CIFAR10: an array, made a PIL image when asked for."""

        def __init__(self, images: np.ndarray, transform: Any) -> None:
            self.images, self.transform = images, transform

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, i: int) -> list[Tensor]:
            return self.transform(Image.fromarray(self.images[i]))

    backbone = timm.models.vision_transformer.VisionTransformer(
        img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=4 if setting.small else 12, num_heads=3, num_classes=0
    )
    if method == "byol":
        transform: Any = BYOLTransform(BYOLView1Transform(input_size=SIZE), BYOLView2Transform(input_size=SIZE))
        student = nn.ModuleList([backbone, heads.BYOLProjectionHead(WIDTH, 1024, 256)])
        predictor = heads.BYOLPredictionHead(256, 1024, 256)
        criterion: nn.Module = NegativeCosineSimilarity()
        model = nn.ModuleList([student, predictor]).to(setting.device).train()
        teacher = copy.deepcopy(student)
        deactivate_requires_grad(teacher)

        def compare(first: Tensor, second: Tensor) -> Tensor:
            update_momentum(student, teacher, m=0.996)
            said = [predictor(student[1](student[0](view))) for view in (first, second)]
            with torch.no_grad():
                meant = [teacher[1](teacher[0](view)) for view in (first, second)]
            return 0.5 * (criterion(said[0], meant[1]) + criterion(said[1], meant[0]))
    else:
        transform = VICRegTransform(input_size=SIZE)
        projector = heads.VICRegProjectionHead(input_dim=WIDTH, hidden_dim=2048, output_dim=2048, num_layers=2)
        criterion = VICRegLoss()
        model = nn.Sequential(backbone, projector).to(setting.device).train()

        def compare(first: Tensor, second: Tensor) -> Tensor:
            return criterion(model(first), model(second))

    images = _images(setting)
    rows = images.shape[1]
    workers = WORKERS[setting.device.type]
    pictures = Pictures(images.reshape(-1, *images.shape[2:]), transform)
    # One epoch for all steps, so that workers are started once, before the first.
    many = torch.utils.data.RandomSampler(pictures, replacement=True, num_samples=100_000 * rows)
    loader = torch.utils.data.DataLoader(
        pictures, rows, sampler=many, num_workers=workers, prefetch_factor=PREFETCH if workers else None
    )
    views = iter(loader)

    def loss(number: int) -> Tensor:
        first, second = next(views)[:2]
        return compare(first.to(setting.device), second.to(setting.device))

    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    return fed(train_step(loss, model, optimizer, None, setting), rows, workers, setting.steps)


def fed(step: Callable[[int], None], rows: int, workers: int, steps: int) -> Side:
    """A side whose step takes its batch of `rows` images from a loader with so many workers.

    They all work on one batch each and hand them over at about the same time, so that many steps are measured as one.
    """
    together = max(1, workers)

    def several(number: int) -> None:
        for _ in range(together):
            step(number)

    return Side(several, [float(rows * together)] * steps, ahead=PREFETCH if workers else 0)


def byol_lightly(setting: Setting) -> Side:
    """lightly's BYOL."""
    return _theirs(setting, "byol")


def vicreg_lightly(setting: Setting) -> Side:
    """lightly's VICReg."""
    return _theirs(setting, "vicreg")


_NEEDS = ("lightly", "timm", "torchvision")
WORKS = (
    Work("byol", "vision", "lightly", "images", _NEEDS, byol_ours, byol_lightly, quick=True),
    Work("vicreg", "vision", "lightly", "images", _NEEDS, vicreg_ours, vicreg_lightly),
)

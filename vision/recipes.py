# SPDX-License-Identifier: Apache-2.0
"""Recipes for images: BYOL, VICReg, and masked patches; each also in a small form that learns within minutes."""

import dataclasses

from ..ssl.blocks import EncoderConfig
from ..ssl.objectives.byol import ByolConfig
from ..ssl.objectives.mockingjay import MockingjayConfig
from ..ssl.objectives.vicreg import VicregConfig
from ..ssl.optim import OptimizerConfig, ScheduleConfig
from ..ssl.positions import LearnedPositionsConfig
from ..ssl.recipe import LoopConfig, Recipe
from .augment import ImageViewsConfig, small_views
from .frontend import PatchFrontEndConfig
from .images import ImageDataConfig


def vit(front_end: PatchFrontEndConfig, depth: int, heads: int, hidden: int) -> EncoderConfig:
    """The encoder of a vision Transformer over this front end (Dosovitskiy et al. 2021, arXiv:2010.11929)."""
    return EncoderConfig(
        depth=depth,
        width=front_end.width,
        heads=heads,
        hidden=hidden,
        block="pre_norm",
        norm_eps=1e-6,
        positions=LearnedPositionsConfig(length=front_end.positions),
        dropout=0.0,
        attention_dropout=0.0,
    )


def _adamw(lr: float, weight_decay: float) -> OptimizerConfig:
    return OptimizerConfig(
        lr=lr,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=weight_decay,
        clip=3.0,
        schedule=ScheduleConfig(kind="cosine", warmup=0.1),
    )


def byol() -> Recipe:
    """BYOL, ViT-B/16 at 224 pixels (arXiv:2006.07733; for ViT: MoCo v3, arXiv:2104.02057).

    Expected: 73.9 % ImageNet top-1, linear probe, 300 epochs (MoCo v3 paper, table 4; not reproduced here).
    Optimiser: AdamW as MoCo v3 uses for ViT, 1.5e-4 x batch / 256, not the LARS of the ResNet.
    Command: pluri pretrain vision/byol --data.path imagenet
    """
    front_end = PatchFrontEndConfig()
    return Recipe(
        front_end=front_end,
        encoder=vit(front_end, depth=12, heads=12, hidden=3072),
        objective=ByolConfig(views=ImageViewsConfig(), pool="first", decay=0.99),
        data=ImageDataConfig(size=256),
        optimizer=_adamw(lr=1.5e-4 * 4096 / 256, weight_decay=0.1),
        steps=93_900,
        batch=4096,
    )


def vicreg() -> Recipe:
    """VICReg, ViT-B/16 at 224 pixels (arXiv:2105.04906, whose own network is a ResNet-50).

    Expected: no published figure for a ViT-B; the ResNet-50 reaches 73.2 % ImageNet top-1, linear probe, 1000 epochs.
    Command: pluri pretrain vision/vicreg --data.path imagenet
    """
    recipe = byol()
    objective = VicregConfig(views=ImageViewsConfig(), pool="first")
    optimizer = _adamw(lr=5e-4 * 2048 / 256, weight_decay=0.05)
    return dataclasses.replace(recipe, objective=objective, optimizer=optimizer, steps=187_800, batch=2048)


def _tiny(objective: ByolConfig | VicregConfig | MockingjayConfig, patch: int, lr: float, steps: int) -> Recipe:
    front_end = PatchFrontEndConfig(
        size=32, patch=patch, width=192, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)
    )
    return Recipe(
        front_end=front_end,
        encoder=vit(front_end, depth=4, heads=3, hidden=768),
        objective=objective,
        data=ImageDataConfig(size=32, held_out=0.05),
        optimizer=_adamw(lr=lr, weight_decay=0.05),
        steps=steps,
        batch=256,
        loop=LoopConfig(evaluate_every=100, save_every=100),
    )


def byol_tiny() -> Recipe:
    """BYOL, 4 x 192 ViT/8 at 32 pixels: learns on CIFAR-sized images within minutes on two cores.

    Command: pluri pretrain vision/byol_tiny --data.path pictures
    """
    return _tiny(ByolConfig(views=small_views(), hidden=1024, projected=128, decay=0.99), patch=8, lr=1e-3, steps=400)


def vicreg_tiny() -> Recipe:
    """VICReg, 4 x 192 ViT/8 at 32 pixels: learns on CIFAR-sized images within minutes on two cores.

    Command: pluri pretrain vision/vicreg_tiny --data.path pictures
    """
    return _tiny(VicregConfig(views=small_views(), projected=1024), patch=8, lr=1e-3, steps=300)


def mockingjay_tiny() -> Recipe:
    """Masked patches by Mockingjay's objective (75 % hidden, all as zeros), 4 x 192 ViT/4 at 32 pixels.

    Command: pluri pretrain vision/mockingjay_tiny --data.path pictures
    """
    objective = MockingjayConfig(mask_share=0.75, span=1, as_zero=1.0, as_other=0.0)
    return _tiny(objective, patch=4, lr=1e-3, steps=500)

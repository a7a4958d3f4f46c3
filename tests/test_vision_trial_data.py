# SPDX-License-Identifier: Apache-2.0
"""MNIST and CIFAR-10 themselves, where PLURI_TRIAL_DATA leads to them: all images and classes, and the known means."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pluri.vision.images import ImageDataConfig


def images(path, split="train", **settings):
    return ImageDataConfig(path=str(path), **{"held_out": 0.0, "size": 16, **settings}).build(split, Path(path))


def trial(name):
    root = os.environ.get("PLURI_TRIAL_DATA")
    if not root or not Path(root, "vision", name).is_dir():
        pytest.skip("PLURI_TRIAL_DATA names no folder with it")
    return Path(root, "vision", name)


@pytest.mark.parametrize(("part", "count"), [("train", 6000), ("test", 1500)])
def test_the_mnist_that_is_there_loads(part, count):
    data = images(trial("mnist"), part=part)
    assert len(data.records) == len(data.labels) == count and set(data.labels) == set(range(10))
    assert data.load(data.records[0], 0).inputs.shape == (1, 28, 28)
    means = [data.load(r, 0).inputs.float().mean().item() for r in data.records[:500]]
    assert np.mean(means) == pytest.approx(0.1307 * 255, rel=0.1)


@pytest.mark.parametrize(("part", "count"), [("train", 1500), ("test", 500)])
def test_the_cifar_10_that_is_there_loads(part, count):
    data = images(trial("cifar10") / "cifar-10-batches-py", part=part)
    assert len(data.records) == len(data.labels) == count and set(data.labels) == set(range(10))
    found = torch.stack([data.load(r, 0).inputs for r in data.records]).float() / 255
    assert found.shape == (count, 3, 32, 32)
    assert found.mean((0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.02)


def test_the_cifar_10_that_is_there_as_a_folder_loads():
    data = images(trial("cifar10") / "images", size=32)
    assert len(data.records) == 6000 and len(data.classes) == 10 and np.bincount(data.labels).tolist() == [600] * 10
    assert len(images(trial("cifar10") / "images", part="test").records) == 1500
    found = torch.stack([data.load(r, 0).inputs for r in data.records[::20]]).float() / 255
    assert found.mean((0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.03)

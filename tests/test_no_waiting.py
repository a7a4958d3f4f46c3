# SPDX-License-Identifier: Apache-2.0
"""A training step never makes the host wait for its device.

It is taken on tensors that hold no data (torch's device "meta"): whoever asks such a tensor for a number, or for a
shape that hangs on one, gets an error, and copies to it that would wait on a GPU are noted. Autocast, whose settings
meta tensors have not, is taken away for as long.
"""

import contextlib
import dataclasses
import traceback

import pytest
import torch
import torch.distributed as dist
from torch.distributed.nn import functional as collectives
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pluri import recipes
from pluri.benchmarks import encoders
from pluri.benchmarks.task import Supervised
from pluri.benchmarks.text.glue.config import GlueConfig, GlueDataConfig
from pluri.benchmarks.text.squad.spans import WindowConfig
from pluri.benchmarks.text.squad.suite import SquadConfig, SquadDataConfig
from pluri.benchmarks.text.tagging.tasks import EntitiesConfig, NerConfig
from pluri.cli import override
from pluri.ssl import parallel, train
from pluri.ssl.optim import OptimizerConfig
from pluri.ssl.positions import ConvolutionalPositionsConfig, SinusoidalPositionsConfig

NAMES = sorted(name for name in recipes.names() if name.endswith("_tiny"))
SAMPLES = {"text": ("text", "text/bert_tiny"), "speech": ("speech", "speech/mockingjay_tiny")}
aten = torch.ops.aten


def place():
    """The two innermost lines of the package."""
    found = [f"{x.filename.rpartition('pluri/')[2]}:{x.lineno}" for x in traceback.extract_stack()]
    return " in ".join(
        reversed(
            [line for line in found if line.split("/")[0] in ("ssl", "text", "speech", "vision", "benchmarks")][-2:]
        )
    )


class Copies(TorchDispatchMode):
    """Notes copies from the host's memory that are waited for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func in (aten._to_copy.default, aten.copy_.default):
            source = args[0] if func is aten._to_copy.default else args[1]
            if (
                source.device.type == "cpu"
                and out.is_meta
                and not kwargs.get("non_blocking", len(args) > 2 and args[2])
            ):
                self.found.append(f"a copy in {place()}")
        return out


class Tensors(TorchFunctionMode):
    """Notes tensors that are made from numbers of the host's, of which each is a copy that is waited for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = args[0].device if func is torch.Tensor.new_tensor else torch.device(kwargs.get("device") or "cpu")
        if func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor) and there.type == "meta":
            self.found.append(f"torch.tensor in {place()}")
        return func(*args, **kwargs)


def without_data(recipe, folder):
    """The beginning of a run on meta tensors."""
    data = recipe.data.build("train", folder / "cache")
    (folder / "assets").mkdir()
    data.save_assets(folder / "assets")
    recipe = dataclasses.replace(recipe, front_end=recipe.front_end.fitted(data))
    return train._Run(recipe.build(folder / "assets"), data, None, recipe.training, None)


def waits(run):
    """Where the host waits in a run's first step; numbers that are asked for raise."""
    shares = next(iter(run._steps()))
    with Copies() as copies, Tensors() as tensors:
        scalars = run._step(shares)
    assert all(value.is_meta for value in scalars.values()) and {"loss", "grad_norm"} <= set(scalars)
    return copies.found + tensors.found


@pytest.fixture
def no_autocast(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)
    monkeypatch.setattr(train.parallel, "find_device", lambda wanted: torch.device("meta"))


@pytest.fixture(params=[1, 2], ids=["one_rank", "two_ranks"])
def ranks(request, monkeypatch):
    """Says after how many ranks there are: two of them without a second process, whose sums are left out."""
    monkeypatch.setattr(dist, "all_reduce", lambda x, *args: None)
    monkeypatch.setattr(collectives, "all_reduce", lambda x: x.clone())
    return lambda: monkeypatch.setattr(parallel, "world", lambda: request.param)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_waits_for_nothing(name, ranks, samples, methods, tmp_path, no_autocast):
    sample, method = SAMPLES.get(name.split("/")[0], ("images", "vision/byol_tiny"))
    settings = {**methods.get(name, methods[method])[1], "data.path": samples[sample], "loop.workers": 0}
    recipe = override(
        recipes.find(name), [str(x) for pair in settings.items() for x in (f"--{pair[0]}", pair[1])], "test"
    )
    if isinstance(recipe.encoder.positions, ConvolutionalPositionsConfig):  # torch's weight norm has no meta kernel
        encoder = dataclasses.replace(recipe.encoder, positions=SinusoidalPositionsConfig(length=3000))
        recipe = dataclasses.replace(recipe, encoder=encoder)
    recipe = dataclasses.replace(recipe, optimizer=OptimizerConfig(kind="lars", clip=1.0))  # AdamW is torch's own
    run = without_data(recipe, tmp_path)
    ranks()
    assert waits(run) == []


def test_waiting_is_seen(no_autocast):
    x = torch.ones(3, device="meta")
    with Copies() as copies, Tensors() as tensors:
        torch.ones(3).to("meta")
        torch.ones(3).to("meta", non_blocking=True)
        x.copy_(torch.ones(3))
        torch.tensor([1.0], device="meta")
        x.new_tensor([1.0])
        for look in (x.sum().item, x.tolist, x.nonzero, x.cpu, lambda: x[x > 0], lambda: bool(x.sum() > 0)):
            with pytest.raises((RuntimeError, NotImplementedError)):
                look()
    assert len(copies.found) == 2 and len(tensors.found) == 2


@pytest.mark.parametrize("task", ["glue/mrpc", "glue/stsb", "squad/v1", "tagging/ner"])
def test_a_step_of_fine_tuning_waits_for_nothing(
    task, small_bert, squad_bert, glue, write_squad, tmp_path, no_autocast
):
    where = squad_bert if task == "squad/v1" else small_bert
    start = encoders.Start(str(where), encoders.load(str(where)))
    if task == "squad/v1":
        for part in ("train", "dev"):
            write_squad(tmp_path / f"{part}-v1.1.json", 20, 0)
        windows = WindowConfig(longest=64, question=16, stride=16)
        config = SquadConfig(name="v1", data=SquadDataConfig(path=str(tmp_path)), windows=windows)
    elif task == "tagging/ner":
        for part in ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"):
            (tmp_path / part).write_text("abc x B-PER\nde x O\n\nhij x B-LOC\n\n" * 20)
        config = NerConfig(data=EntitiesConfig(path=str(tmp_path)))
    else:
        config = GlueConfig(name=task.removeprefix("glue/"), data=GlueDataConfig(path=str(glue)))
    model = Supervised(config.task(start), start.backbone)
    data = model.task.data(start.backbone).train
    training = config.settings()[0].training(len(data.epoch(0).records), 0, config.loop)
    training = dataclasses.replace(training, optimizer=OptimizerConfig(kind="lars", clip=1.0))
    assert waits(train._Run(model, data, None, training, None)) == []

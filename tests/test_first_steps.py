# SPDX-License-Identifier: Apache-2.0
"""Every tiny recipe takes its first steps from files to a checkpoint that loads; what the loop promises besides."""

import dataclasses
import json
import math

import pytest
import torch

import pluri
from pluri import recipes
from pluri.cli import override
from pluri.ssl import checkpoint, encoder
from pluri.ssl.data import Item
from pluri.ssl.objectives.mockingjay import Mockingjay
from pluri.ssl.pretrain import pretrain
from pluri.ssl.stopped import Stopped

NAMES = sorted(name for name in recipes.names() if name.endswith("_tiny"))
MODALITY = {"text": "text", "speech": "speech", "vision": "images"}
COMMON = {"steps": 3, "loop.workers": 0, "loop.evaluate-every": 2, "loop.save-every": 2, "data.held-out": 0.2}


def small(name, samples, methods, **extra):
    modality = MODALITY[name.split("/")[0]]
    of_modality = {"text": "text/bert_tiny", "speech": "speech/mockingjay_tiny", "vision": "vision/byol_tiny"}
    settings = methods.get(name, methods[of_modality[name.split("/")[0]]])[1]
    settings = {**settings, **COMMON, "data.path": samples[modality], **extra}
    return override(
        recipes.find(name), [str(x) for pair in settings.items() for x in (f"--{pair[0]}", pair[1])], "test"
    )


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_from_files_to_an_encoder(name, samples, methods, tmp_path):
    recipe = small(name, samples, methods)
    outcome = pretrain(recipe, tmp_path / "run")
    assert outcome.step == 3
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found] == [1, 2, 3] and all(math.isfinite(row["loss"]) for row in found)
    assert {"grad_norm", "lr", "rate", "mfu", "time"} <= set(found[-1])
    assert "held_out_loss" in found[-1] and "held_out_rank_me" in found[-1] and "held_out_loss" in found[1]
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    backbone = pluri.load(tmp_path / "run")
    inputs = {
        "text": torch.randint(5, 100, (2, 9)),
        "speech": torch.randn(2, 8000),
        "vision": torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8),
    }[name.split("/")[0]]
    with torch.inference_mode():
        encoded = backbone(inputs)
    assert not backbone.training and len(encoded.layers) == recipe.encoder.depth + 1
    assert torch.isfinite(encoded.x).all()


class Seen(torch.autograd.Function):
    """Notes whether the gradient is made under autocast."""

    found: list[bool] = []

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore  torch's own
        Seen.found.append(torch.is_autocast_enabled("cpu"))
        return gradient


def test_in_bf16_what_was_kept_in_float32_has_its_gradient_in_float32(samples, methods, tmp_path, monkeypatch):
    forward, inside = Mockingjay.forward, []

    def watched(self, batch):
        inside.append(torch.is_autocast_enabled("cpu"))
        out = forward(self, batch)
        return {**out, "loss": Seen.apply(out["loss"])}

    monkeypatch.setattr(Mockingjay, "forward", watched)
    Seen.found.clear()
    pretrain(small("speech/mockingjay_tiny", samples, methods, **{"loop.precision": "bf16"}), tmp_path / "run")
    assert all(inside) and Seen.found == [False] * 3


def test_the_whole_gradient_is_clipped_to_its_norm_and_left_alone_below(samples, methods, tmp_path):
    def run(name, clip):
        lars = {"optimizer.kind": "lars", "optimizer.lr": 0.1, "optimizer.weight-decay": 0.0, "loop.precision": "fp32"}
        extra = {"steps": 1, "optimizer.clip": clip, "optimizer.schedule.kind": "constant", **lars}
        extra["optimizer.schedule.warmup"] = 0.0
        pretrain(small("speech/mockingjay_tiny", samples, methods, **extra), tmp_path / name)
        weights = checkpoint.load_weights(tmp_path / name / "step_00000001")
        return rows(tmp_path / name)[0]["grad_norm"], weights["head.3.bias"]  # zero before: now the gradient, scaled

    norm, free = run("free", None)
    assert norm > 0 and free.abs().max() > 0
    assert torch.equal(run("wide", 4 * norm)[1], free)
    before, quarter = run("narrow", norm / 4)
    assert before == pytest.approx(norm, rel=1e-6)
    torch.testing.assert_close(quarter, free / 4, rtol=1e-4, atol=0.0)


def test_accumulation_keeps_the_mathematics(samples, methods, tmp_path):
    results = []
    for parts in (1, 3):
        extra = {"loop.accumulate": parts, "loop.precision": "fp32", "optimizer.eps": 1e-2, "optimizer.lr": 1e-4}
        recipe = small("text/bert_tiny", samples, methods, **extra)
        pretrain(recipe, tmp_path / str(parts))
        results.append((rows(tmp_path / str(parts)), checkpoint.load_weights(tmp_path / str(parts) / "step_00000003")))
    for mine, its in zip(results[0][0], results[1][0], strict=True):
        assert mine["loss"] == pytest.approx(its["loss"], rel=1e-5)
        assert mine["grad_norm"] == pytest.approx(its["grad_norm"], rel=1e-4)
    for name, value in results[0][1].items():
        assert (value - results[1][1][name]).abs().max() < 1e-5, name
    with pytest.raises(ValueError, match="accumulate=1"):
        pretrain(small("vision/byol_tiny", samples, methods, **{"loop.accumulate": 2}), tmp_path / "byol")


@pytest.mark.parametrize("name", ["text/bert_tiny", "speech/wav2vec2_tiny", "vision/byol_tiny"])
def test_blocks_computed_again_change_no_bit_of_a_run(name, samples, methods, tmp_path, monkeypatch):
    again = []

    def counted(*words, **settings):
        again.append(words)
        return checkpointed(*words, **settings)

    checkpointed = encoder.checkpoint
    monkeypatch.setattr(encoder, "checkpoint", counted)
    blocks, losses = [], []
    for recompute in (False, True):
        again.clear()
        drops = {"encoder.dropout": 0.1, "encoder.attention-dropout": 0.1, "loop.recompute": recompute}
        recipe = small(name, samples, methods, **drops)
        pretrain(recipe, tmp_path / str(recompute))
        losses.append([(row["loss"], row["grad_norm"]) for row in rows(tmp_path / str(recompute))])
        blocks.append(len(again))
    assert blocks == [0, 3 * recipe.encoder.depth]
    assert losses[0] == losses[1]


def test_a_run_can_start_from_another_runs_weights(samples, methods, tmp_path):
    recipe = small("speech/mockingjay_tiny", samples, methods)
    pretrain(recipe, tmp_path / "first")
    init = pluri.load(tmp_path / "first")
    quiet = dataclasses.replace(recipe, optimizer=dataclasses.replace(recipe.optimizer, lr=0.0))
    pretrain(quiet, tmp_path / "second", init)
    again = pluri.load(tmp_path / "second").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in init.state_dict().items())
    other = small("speech/mockingjay_tiny", samples, methods, **{"encoder.hidden": 100})
    with pytest.raises(ValueError, match="init does not fit the recipe: "):
        pretrain(other, tmp_path / "third", init)


def test_steps_that_are_not_finite_are_skipped_and_named(samples, methods, tmp_path, monkeypatch):
    from pluri.vision.images import ImageDataset

    real = ImageDataset.load
    poisoned = {3, 4}

    def load(self, record, key):
        item = real(self, record, key)
        if int(record[0]) in poisoned:
            return Item(torch.full(item.inputs.shape, math.nan), item.extras)
        return Item(item.inputs.float(), item.extras)

    monkeypatch.setattr(ImageDataset, "load", load)
    extra = {"steps": 4, "loop.save-every": 1, "loop.keep": 9, "data.held-out": 0.0}
    pretrain(small("vision/mockingjay_tiny", samples, methods, **extra), tmp_path / "run")
    found = rows(tmp_path / "run")
    bad = [row for row in found if "skipped_items" in row]
    assert 1 <= len(bad) < 4 and all(isinstance(name, str) for row in bad for name in row["skipped_items"])
    for row in found:
        weights = checkpoint.load_weights(tmp_path / "run" / checkpoint.name(row["step"]))
        assert all(torch.isfinite(value).all() for value in weights.values())
    poisoned.update(range(1000))
    with pytest.raises(Stopped, match="10 steps in a row are not finite"):
        pretrain(small("vision/mockingjay_tiny", samples, methods, **{**extra, "steps": 40}), tmp_path / "hopeless")


def test_checkpoints_are_whole_and_pruned(samples, methods, tmp_path):
    run = tmp_path / "run"
    pretrain(small("text/bert_tiny", samples, methods, **{"steps": 5, "loop.save-every": 1, "loop.keep": 2}), run)
    assert [path.name for path in checkpoint.all_in(run)] == ["step_00000004", "step_00000005"]
    checkpoint.check(run / "step_00000005")
    assert {path.name for path in (run / "step_00000005").iterdir()} == {
        "model.safetensors",
        "optimizer.pt",
        "state.json",
        "manifest.json",
    }
    (run / "step_00000006").mkdir()  # what a crash leaves behind is no checkpoint
    assert checkpoint.latest(run) == run / "step_00000005"

# SPDX-License-Identifier: Apache-2.0
"""What holds for every objective: gradients everywhere, learning, padding and splitting change nothing, edge rows."""

import dataclasses

import pytest
import torch

from pluri import recipes
from pluri.cli import override
from pluri.ssl.data import Loader
from pluri.ssl.objective import Batch
from pluri.ssl.pretrain import _assets
from pluri.ssl.recipe import Recipe

NAMES = ["text/bert_tiny", "speech/mockingjay_tiny", "speech/wav2vec2_tiny", "speech/vicreg_tiny"]
NAMES += ["vision/byol_tiny", "vision/vicreg_tiny", "vision/mockingjay_tiny"]
# Their loss joins the items of a batch, so a part of a batch has another loss.
JOINT = {"speech/vicreg_tiny", "vision/byol_tiny", "vision/vicreg_tiny"}


def small(name: str, samples, methods) -> Recipe:
    modality = {"text": "text", "speech": "speech", "vision": "images"}[name.split("/")[0]]
    settings = methods.get(
        name, (modality, {"text": {}, "speech": methods["speech/mockingjay_tiny"][1]}.get(modality, {}))
    )[1]
    words = [word for field, value in settings.items() for word in (f"--{field}", str(value))]
    recipe = override(recipes.find(name), words, "test")
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, path=str(samples[modality]), held_out=0.0))


@pytest.fixture(params=NAMES)
def case(request, samples, methods, tmp_path):
    recipe = small(request.param, samples, methods)
    data = recipe.data.build("train", tmp_path / "cache")
    recipe = dataclasses.replace(recipe, front_end=recipe.front_end.fitted(data))
    torch.manual_seed(0)
    objective = recipe.build(_assets(data, tmp_path))
    size = 16.0 if data.unit == "images" else recipe.batch
    batch = next(Loader(dataset=data, batch=size, seed=0).once()).batch
    assert batch is not None
    return request.param, objective, batch


def test_every_parameter_gets_a_gradient(case):
    _, objective, batch = case
    objective.train()(batch)["loss"].backward()
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
            rare = "front_end.segment" in name or "positions" in name
            assert rare or parameter.grad.any(), name


def test_the_loss_falls_on_one_batch(case):
    name, objective, batch = case
    optimizer = torch.optim.AdamW(objective.parameters(), lr=2e-3 if "wav2vec2" not in name else 1e-3)
    losses = []
    for step in range(25):
        torch.manual_seed(step)
        loss = objective.train()(batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step(step / 25)
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.97 * sum(losses[:3]), losses


def wider(batch: Batch) -> Batch:
    """The same batch with more padding, and rubbish in it."""
    assert batch.lengths is not None
    pad = batch.inputs.new_full((len(batch.inputs), 5000, *batch.inputs.shape[2:]), 1)
    inputs = torch.cat([batch.inputs, pad[:, : 37 if batch.inputs.dtype == torch.int64 else 5000]], 1)
    real = torch.arange(inputs.shape[1]) < batch.lengths[:, None]
    return Batch(
        torch.where(real[..., None] if inputs.ndim == 3 else real, inputs, 1), batch.lengths, batch.keys, batch.extras
    )


def test_padding_changes_nothing(case):
    _, objective, batch = case
    if batch.lengths is None:
        pytest.skip("images are never padded")
    objective.eval()
    with torch.no_grad():
        narrow, wide = objective(batch), objective(wider(batch))
    for name, value in narrow.items():
        assert value.item() == pytest.approx(wide[name].item(), rel=1e-5, abs=1e-5), name


def part(batch: Batch, rows: slice) -> Batch:
    lengths = None if batch.lengths is None else batch.lengths[rows]
    extras = {name: value[rows] for name, value in batch.extras.items()}
    return Batch(batch.inputs[rows], lengths, batch.keys[rows], extras)


def test_parts_of_a_batch_add_up_to_the_whole(case):
    name, objective, batch = case
    if name in JOINT:
        assert objective.batch_statistics
        return
    objective.eval()
    whole = objective(batch)
    whole["loss"].backward()
    wanted = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
    objective.zero_grad()
    total = objective.counts(batch)
    loss = 0.0
    cut = len(batch.inputs) // 3
    for rows in (slice(0, cut), slice(cut, None)):
        piece = part(batch, rows)
        piece.counts = total
        out = objective(piece)
        # Diversity is a statistic of the whole batch, which parts see in parts.
        share = out["contrastive_loss"] if "contrastive_loss" in out else out["loss"]
        share.backward()
        loss += share.item()
    whole_loss = whole.get("contrastive_loss", whole["loss"]).item()
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    if "contrastive_loss" not in whole:
        for n, p in objective.named_parameters():
            if p.grad is not None:
                assert (p.grad - wanted[n]).norm() <= 1e-4 * wanted[n].norm() + 1e-6, n


def test_rows_of_a_single_unit_and_rows_shorter_than_a_span_work(case):
    name, objective, batch = case
    if batch.lengths is None:
        pytest.skip("images are never short")
    lengths = batch.lengths.clone()
    lengths[0] = 1 if "speech" in name else 5
    lengths[1] = 1700 if "speech" in name else 6
    edge = Batch(batch.inputs, lengths, batch.keys, batch.extras)
    out = objective.train()(edge)
    out["loss"].backward()
    assert all(torch.isfinite(value).all() for value in out.values())
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


def test_the_same_keys_give_the_same_loss_to_the_bit(case):
    _, objective, batch = case
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        losses.append(objective.train()(batch)["loss"].item())
    assert losses[0] == losses[1]

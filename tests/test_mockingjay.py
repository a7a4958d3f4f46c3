# SPDX-License-Identifier: Apache-2.0
"""Mockingjay hides what s3prl hides, in the same proportions, and reconstructs where it hid."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from pluri.speech.recipes import mockingjay_tiny
from pluri.speech.spectrum import SpectrumFrontEndConfig
from pluri.ssl import draw
from pluri.ssl.objective import Batch
from pluri.ssl.objectives.mockingjay import MockingjayConfig, between_edges
from pluri.vision.recipes import mockingjay_tiny as patches_tiny


def keys(n):
    return torch.tensor([draw.key(0, "item", i) for i in range(n)])


def build(**settings):
    torch.manual_seed(0)
    recipe = mockingjay_tiny()
    assert isinstance(recipe.front_end, SpectrumFrontEndConfig)
    single = dataclasses.replace(recipe.front_end, stack=1)  # units of one frame, 80 channels, whatever the recipe has
    return MockingjayConfig(**settings).build(dataclasses.replace(recipe, front_end=single).backbone())


def hide(ours, values, lengths):
    """What our objective makes of units, and which cells count."""
    batch = Batch(torch.zeros(len(values), 1), None, keys(len(values)))
    starts, masked, band = ours._masks(batch, lengths, values.shape[1])
    corrupted = ours.corrupt(batch, values, starts, masked, lengths).masked_fill(band[:, None], 0.0)
    real = torch.arange(values.shape[1]) < lengths[:, None]
    return corrupted, (masked[..., None] | band[:, None]) & real[..., None]


@pytest.mark.parametrize("channels", [0.0, 0.2])
def test_the_proportions_are_those_of_s3prl(channels):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = pytest.importorskip("s3prl.pretrain.mockingjay.task")
    import random

    random.seed(0)
    torch.manual_seed(0)
    B, T, U = 1200, 200, 80
    values = torch.rand(B, T, U) + 0.5
    config = dict(
        position_encoding_size=32,
        mask_proportion=0.15,
        mask_consecutive_min=7,
        mask_consecutive_max=7,
        mask_allow_overlap=True,
        mask_bucket_ratio=1.2,
        mask_frequency=channels,
        noise_proportion=0.0,
    )
    theirs, _, counted, _, _ = task.generate_masked_acoustic_model_data((values.clone(),), config)
    ours, mine = hide(build(channel_share=channels), values, torch.full((B,), T))
    figures = []
    for corrupted, cells in ((theirs, counted), (ours, mine)):
        hidden = cells.float().mean().item()
        time = cells.all(-1)  # (B, T)
        zero = ((corrupted == 0).all(-1) & time).any(1).float().mean().item()
        changed = ((corrupted != values) & (corrupted != 0)).flatten(1).any(1).float().mean().item()
        bands = cells.all(1).float().sum(1).mean().item()
        figures.append((hidden, time.float().mean().item(), zero, changed, bands))
    for its, own, tolerance in zip(*figures, (0.004, 0.003, 0.04, 0.03, 0.6), strict=True):
        assert own == pytest.approx(its, abs=tolerance)


def test_one_die_for_a_row_or_one_for_each_span():
    values = torch.rand(500, 300, 80) + 0.5
    lengths = torch.full((500,), 300)
    for die, mixed in (("row", False), ("span", True)):
        ours = build(die=die)
        corrupted, cells = hide(ours, values, lengths)
        hidden = cells.all(-1)
        zero = (corrupted == 0).all(-1)
        share = (zero & hidden).sum(1) / hidden.sum(1)
        assert bool(((share > 0.01) & (share < 0.99)).float().mean() > 0.3) == mixed
        assert share.mean().item() == pytest.approx(0.8, abs=0.06)


def test_replaced_spans_come_from_the_same_row_in_order():
    ours = build(as_zero=0.0, as_other=1.0)
    lengths = torch.tensor([300, 150, 40])
    values = torch.arange(3 * 300 * 80, dtype=torch.float32).view(3, 300, 80)
    corrupted, cells = hide(ours, values, lengths)
    for i, length in enumerate(lengths.tolist()):
        source = corrupted[i, :, 0].div(80).round().long() - i * 300
        hidden = cells[i].all(-1)
        assert (source[~hidden] == torch.arange(300)[~hidden]).all()
        assert ((source[hidden] >= 0) & (source[hidden] < length)).all()
        runs = hidden[1:] & hidden[:-1]
        assert (source[1:] - source[:-1] == 1)[runs].float().mean() > 0.7


@pytest.mark.parametrize("length", [1, 3, 7, 8])
def test_rows_around_the_length_of_a_span_have_one(length):
    ours = build()
    _, cells = hide(ours, torch.rand(4, 8, 80), torch.full((4,), length))
    assert (cells.all(-1).sum(1) == min(length, 7)).all()


def test_other_spans_begin_anywhere_in_the_row_and_end_within_it():
    ours = build(as_zero=0.0, as_other=1.0)
    values = torch.arange(12.0)[:, None].expand(900, 12, 80)
    corrupted, cells = hide(ours, values, torch.full((900,), 9))
    begin = cells.all(-1).int().argmax(1)
    source = corrupted[torch.arange(900), begin, 0].long()
    assert (torch.bincount(source, minlength=3) / 900 - 1 / 3).abs().max() < 0.06
    assert not (corrupted[cells.all(-1)] > 8).any()


def test_the_number_of_spans_is_rounded_as_in_s3prl():
    ours = build()
    lengths = torch.arange(1, 301)
    starts, _, _ = ours._masks(Batch(torch.zeros(300, 1), None, keys(300)), lengths, 300)
    for row, length in zip(starts, lengths.tolist(), strict=True):
        if length % 70:  # else its number lies halfway, give or take rounding
            assert row.sum() == min(max(1, round(0.15 * length / 7)), max(1, length - 6))


def test_bands_have_any_width_up_to_the_widest_and_lie_anywhere():
    ours = build(channel_share=0.05)  # up to 4 of 80 channels
    _, _, band = ours._masks(Batch(torch.zeros(20000, 1), None, keys(20000)), torch.full((20000,), 9), 9)
    width = band.sum(1)
    assert (torch.bincount(width, minlength=5) / 20000 - 0.2).abs().max() < 0.015
    for size in range(1, 5):
        first = torch.bincount(band[width == size].int().argmax(1), minlength=81 - size) / (width == size).sum()
        assert len(first) == 81 - size and (first * (81 - size) - 1).abs().max() < 0.65
        assert (band[width == size][:, 1:] & ~band[width == size][:, :-1]).sum(1).max() == 1


@pytest.mark.parametrize("channels", [0.0, 0.2])
@pytest.mark.parametrize("recipe", [mockingjay_tiny, patches_tiny], ids=["speech", "vision"])
def test_the_loss_is_the_mean_distance_where_units_were_hidden(recipe, channels):
    torch.manual_seed(0)
    made = recipe()
    objective = dataclasses.replace(made.objective, channel_share=channels)
    ours = dataclasses.replace(made, objective=objective).build().eval()
    speech = recipe is mockingjay_tiny
    lengths = torch.tensor([16000, 5000, 9000]) if speech else None
    inputs = torch.randn(3, 16000) if speech else torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    batch = Batch(inputs, lengths, keys(3))
    out = ours(batch)
    units = ours.backbone.front_end.units(inputs, lengths)
    counts = ours.backbone.front_end.unit_lengths(inputs, lengths)
    starts, masked, band = ours._masks(batch, counts, units.values.shape[1])
    corrupted = ours.corrupt(batch, units.values, starts, masked, counts).masked_fill(band[:, None], 0.0)
    encoded = ours.backbone.encode(ours.backbone.front_end.embed(corrupted), units.lengths)
    prefix = ours.backbone.front_end.prefix
    guess = between_edges(units.values, masked, counts, ours.backbone.front_end.stack)
    distances, of_guess = [], []
    for row, length in enumerate(counts.tolist()):
        for column in range(length):
            cells = masked[row, column] | band[row]
            predicted = ours.head(encoded.x[row, prefix + column])
            distances += (predicted - units.values[row, column]).abs()[cells].tolist()
            of_guess += (guess - units.values).abs()[row, column][cells].tolist()
    assert out["loss"].item() == pytest.approx(np.mean(distances), rel=1e-4)
    assert masked.any(1).all() and band.any() == (channels > 0)
    assert "interpolation_loss" not in ours.train()(batch)
    if channels:
        assert "interpolation_loss" not in out
    else:
        assert out["interpolation_loss"].item() == pytest.approx(np.mean(of_guess), rel=1e-4)


@pytest.mark.parametrize("stack", [1, 3])
def test_the_trivial_solution_is_a_line_between_the_edges(stack):
    values = torch.rand(4, 12, 3 * stack)
    masked = torch.zeros(4, 12, dtype=torch.bool)
    masked[0, 4:7] = masked[1, :2] = masked[2, 9:11] = masked[3] = True
    lengths = torch.tensor([12, 12, 11, 12])
    guess = between_edges(values, masked, lengths, stack).view(4, 12 * stack, 3)
    frames, hidden = values.view(4, 12 * stack, 3), masked.repeat_interleave(stack, dim=1)
    for row, length in enumerate((lengths * stack).tolist()):
        seen = (~hidden[row, :length]).nonzero()[:, 0].numpy()
        for channel in range(3):
            known = frames[row, seen, channel].numpy()
            wanted = np.interp(np.arange(length), seen, known) if len(seen) else np.zeros(length)
            assert np.allclose(guess[row, :length, channel].numpy(), wanted, atol=1e-6)

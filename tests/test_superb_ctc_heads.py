# SPDX-License-Identifier: Apache-2.0
"""CTC heads and losses: against torch on each row alone, stacked against separate, and SpecAugment against a loop."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pluri.benchmarks.superb.ctc.buckets import buckets, windows
from pluri.benchmarks.superb.ctc.heads import LinearHeads, Recurrent, RecurrentHeads
from pluri.benchmarks.superb.ctc.loss import ctc_losses, frames_needed
from pluri.benchmarks.superb.ctc.probe import greedy_decoder
from pluri.benchmarks.superb.ctc.spec_augment import SpecAugmentConfig, masked, moved, spec_augment, warped
from pluri.benchmarks.superb.ctc.targets import phone_vocabulary
from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.ssl import draw

WEIGHTED = FeaturizerConfig()
LENGTHS = [7, 12, 3, 9]
TARGETS = [[3, 3, 1], [4, 2, 4, 1], [1], [2, 3, 4, 2, 1]]


def frames(layers=3, width=6, seed=0):
    return torch.randn(sum(LENGTHS), layers, width, generator=torch.Generator().manual_seed(seed))


def losses_of(logits):
    return ctc_losses(logits, LENGTHS, TARGETS, 0)


def slope(x: torch.Tensor) -> torch.Tensor:
    assert x.grad is not None
    return x.grad


def test_the_loss_is_torch_s_on_each_row_alone():
    logits = torch.randn(2, sum(LENGTHS), 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = losses_of(logits)
    found.sum().backward()
    other = logits.detach().clone().requires_grad_()
    rows = []
    for head in other:
        each = []
        for row, target in zip(head.split(LENGTHS), TARGETS, strict=True):
            loss = F.ctc_loss(
                row.log_softmax(-1), torch.tensor(target), torch.tensor(len(row)), torch.tensor(len(target))
            )
            each.append(loss)
        rows.append(torch.stack(each).mean())
    torch.stack(rows).sum().backward()
    assert torch.allclose(found, torch.stack(rows), atol=1e-5)
    assert logits.grad is not None and other.grad is not None and torch.allclose(logits.grad, other.grad, atol=1e-6)


def test_a_row_with_too_few_frames_costs_nothing_and_has_no_gradient():
    assert frames_needed([3, 3, 1]) == 4 and frames_needed([]) == 0
    logits = torch.randn(1, 6, 5).requires_grad_()
    loss = ctc_losses(logits, [3, 3], [[3, 3, 1], [1]], 0)
    loss.sum().backward()
    assert logits.grad is not None and loss.isfinite().all()
    assert not logits.grad[:, :3].any() and logits.grad[:, 3:].any()


def test_half_precision_logits_are_scored_in_float32():
    logits = torch.randn(1, sum(LENGTHS), 5).bfloat16()
    assert losses_of(logits).dtype == torch.float32 and torch.equal(losses_of(logits), losses_of(logits.float()))


def test_a_stacked_linear_head_equals_separate_ones():
    heads = LinearHeads((0, 5), 3, 3, 6, 5, WEIGHTED)
    assert heads.layers is not None
    heads.layers.data.copy_(torch.randn(2, 3, 3))
    heads.into.data += 0.1 * torch.randn_like(heads.into)
    x = frames()
    for group in range(2):
        found = heads.learn(group, x, LENGTHS, losses_of, 0)
        for head in range(3):
            weights = heads.layers[group, head].detach().clone().requires_grad_()
            first, second = nn.Linear(6, 256), nn.Linear(256, 5)
            first.weight.data, first.bias.data = (
                heads.into[group, head].detach().T,
                heads.into_bias[group, head, 0].detach(),
            )
            second.weight.data, second.bias.data = (
                heads.out[group, head].detach().T,
                heads.out_bias[group, head, 0].detach(),
            )
            logits = second(first(torch.einsum("nld,l->nd", x, weights.softmax(0))))
            loss = losses_of(logits[None])
            loss.sum().backward()
            assert torch.allclose(found[head], loss[0], atol=1e-5)
            assert torch.allclose(heads.logits(group, head, x, LENGTHS), logits, atol=1e-5)
            for mine, theirs in ((heads.into, first.weight), (heads.out, second.weight)):
                assert torch.allclose(slope(mine)[group, head], slope(theirs).T, atol=1e-5)
            assert torch.allclose(slope(heads.layers)[group, head], slope(weights), atol=1e-5)
    torch.manual_seed(5)
    fresh = LinearHeads((5,), 1, 3, 6, 5, WEIGHTED)
    assert torch.equal(fresh.into[0, 0].T, nn.Linear(6, 256).weight)


def recurrent(seeds=(0, 1), heads=2, augment=None, featurizer=WEIGHTED):
    return RecurrentHeads(lambda: Recurrent(3, 6, 5, featurizer, 8), seeds, heads, augment)


def test_a_recurrent_head_is_torch_s_two_layer_lstm_on_each_row_alone():
    heads = recurrent()
    x = frames()
    values = {name: value[1, 0].detach() for name, value in heads.stacked.values.items()}
    lstm = nn.LSTM(8, 8, 2, bidirectional=True)
    for name, parameter in lstm.named_parameters():
        layer = "1" if "_l1" in name else "0"
        parameter.data = values[f"lstms/{layer}/{name.replace('_l1', '_l0')}"]
    mixed = torch.einsum("nld,l->nd", x, values["featurizer/weights"].softmax(0))
    projected = F.linear(mixed, values["project/weight"], values["project/bias"])
    rows = [F.linear(lstm(row)[0], values["out/weight"], values["out/bias"]) for row in projected.split(LENGTHS)]
    assert torch.allclose(heads.logits(1, 0, x, LENGTHS), torch.cat(rows), atol=1e-6)


def test_recurrent_heads_learn_as_each_of_them_would_alone():
    augment = SpecAugmentConfig(time_width=3, channel_width=2)
    heads = recurrent(augment=augment)
    found = [heads.learn(group, frames(), LENGTHS, losses_of, 9 + group) for group in range(2)]
    for group, seed in enumerate((0, 1)):
        torch.manual_seed(seed)
        net = Recurrent(3, 6, 5, WEIGHTED, 8)
        loss = losses_of(net(frames(), LENGTHS, 9 + group, augment)[None])
        loss.sum().backward()
        assert torch.allclose(found[group], loss.detach().expand(2), atol=1e-6)
        for stack, mine in zip(heads.stacked.values.values(), net.parameters(), strict=True):
            found_slope = slope(stack)[group]
            assert torch.allclose(found_slope, slope(mine).expand_as(found_slope), atol=1e-6)
        assert len(list(heads.parameters())) == len(list(net.parameters()))
    assert all(parameter.ndim > 2 or name.endswith("weights") for name, parameter in heads.named_parameters())


def test_what_is_random_depends_on_the_key_alone():
    heads = recurrent((0,), 1)
    one, same, other = (heads.learn(0, frames(), LENGTHS, losses_of, key) for key in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(heads.logits(0, 0, frames(), LENGTHS), heads.logits(0, 0, frames(), LENGTHS))


@pytest.mark.parametrize("featurizer", [FeaturizerConfig(kind="concat"), FeaturizerConfig(kind="layer", layer=2)])
def test_heads_without_layer_weights_have_no_shares(featurizer):
    layers = 1 if featurizer.kind == "layer" else 3
    heads = LinearHeads((0,), 2, layers, 6, 5, featurizer)
    lstms = RecurrentHeads(lambda: Recurrent(layers, 6, 5, featurizer, 8), (0,), 2, None)
    for one in (heads, lstms):
        assert one.shares() is None and one.logits(0, 1, frames(layers), LENGTHS).shape == (sum(LENGTHS), 5)


@pytest.mark.parametrize("kind", ["linear", "recurrent"])
def test_a_clip_alone_and_in_a_batch_gives_the_same_transcript(kind):
    heads = LinearHeads((0,), 1, 3, 6, 10, WEIGHTED) if kind == "linear" else None
    heads = heads or RecurrentHeads(lambda: Recurrent(3, 6, 10, WEIGHTED, 8), (0,), 1, None)
    decode = greedy_decoder(phone_vocabulary(("A", "B", "C", "D", "E", "F", "G")))
    x = 10 * frames()
    together = [decode(row) for row in heads.logits(0, 0, x, LENGTHS).split(LENGTHS)]
    alone = [decode(heads.logits(0, 0, row, [len(row)])) for row in x.split(LENGTHS)]
    assert together == alone and any(together)


def test_greedy_transcripts_drop_repeats_blanks_and_ends():
    decode = greedy_decoder(phone_vocabulary(("A", "B")))
    path = [0, 3, 3, 0, 3, 4, 4, 1, 1]
    assert decode(F.one_hot(torch.tensor(path), 5).float()) == "A A B"
    assert decode(torch.full((4, 5), torch.nan)) == "" and decode(torch.zeros(1, 5)) == ""


def cubic(row, size):
    """Bicubic interpolation of one column (Keys 1981, a = -0.75), borders repeated."""

    def weight(d):
        d = abs(d)
        if d <= 1:
            return 1.25 * d**3 - 2.25 * d**2 + 1
        return -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3 if d < 2 else 0.0

    out = []
    for i in range(size):
        place = (i + 0.5) * len(row) / size - 0.5
        low = math.floor(place)
        near = range(low - 1, low + 3)
        out.append(sum(weight(place - k) * row[min(max(k, 0), len(row) - 1)] for k in near))
    return out


def test_the_warp_is_a_slow_loop_s():
    row = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)).double()
    found = warped(row, 12, 9)
    for column, said in zip(row.T.tolist(), found.T.tolist(), strict=True):
        assert said == pytest.approx(cubic(column[:12], 9) + cubic(column[12:], 21), abs=1e-6)
    assert torch.equal(warped(row, 12, 12), row)


def test_the_warp_moves_a_point_by_no_more_than_its_window():
    found = [moved(key, 40, 5) for key in range(2000)]
    assert {centre for centre, _ in found} == set(range(5, 35))
    assert {to - centre for centre, to in found} == set(range(-4, 6))
    assert moved(3, 10, 5) == (0, 0) and moved(3, 40, 0) == (0, 0)
    assert all(len(warped(torch.randn(11, 2), *moved(key, 11, 5))) == 11 for key in range(20))


def test_masks_are_bands_of_every_width_anywhere():
    config = SpecAugmentConfig(time_masks=1, time_width=4, channel_masks=0)
    seen = [masked(key, 20, 3, config) for key in range(3000)]
    assert all(torch.equal(one[:, :1].expand(20, 3), one) for one in seen)
    widths = [int(one[:, 0].sum()) for one in seen]
    assert [widths.count(width) / 3000 for width in range(5)] == pytest.approx([0.2] * 5, abs=0.03)
    for one in seen:
        places = one[:, 0].nonzero()[:, 0]
        assert len(places) == 0 or int(places[-1] - places[0]) == len(places) - 1  # in one piece
    assert torch.stack(seen)[:, :, 0].any(0).all()


def test_adaptive_masks_grow_with_the_row():
    config = SpecAugmentConfig(time_masks=20, time_width=40, channel_masks=0, adaptive=0.04)
    assert not any(masked(key, 24, 3, config).any() for key in range(100))  # 0.04 of it is no frame
    shares = {n: torch.stack([masked(key, n, 1, config) for key in range(300)]).float().mean() for n in (100, 500)}
    wanted = {n: 1 - (1 - most / 2 / n) ** most for n, most in ((100, 4), (500, 20))}  # `most` bands of 0 to `most`
    assert all(abs(float(shares[n]) - wanted[n]) < 0.02 for n in shares)
    widest = max(int(masked(key, 2000, 1, dataclasses.replace(config, time_masks=1)).sum()) for key in range(300))
    assert widest == 40


def test_the_augmented_batch_is_that_of_a_loop_over_rows_and_masks():
    config = SpecAugmentConfig(window=2, time_masks=2, time_width=3, channel_masks=1, channel_width=2)
    x = torch.randn(sum(LENGTHS), 6, generator=torch.Generator().manual_seed(2)).requires_grad_()
    found = spec_augment(x, LENGTHS, 77, config)
    for number, (row, said) in enumerate(zip(x.split(LENGTHS), found.split(LENGTHS), strict=True)):
        key = draw.key(77, number)
        wanted = warped(row, *moved(key, len(row), 2)).detach().clone()
        hidden = masked(key, len(row), 6, config)
        for t in range(len(row)):
            for d in range(6):
                if hidden[t, d]:
                    wanted[t, d] = 0.0
        assert torch.equal(said.detach(), wanted)
    found.sum().backward()
    assert x.grad is not None and x.grad.any()
    assert torch.equal(spec_augment(x, LENGTHS, 77, config), found)
    nothing = SpecAugmentConfig(window=0, time_masks=0, channel_masks=0)
    assert torch.equal(spec_augment(x, LENGTHS, 77, nothing), x)
    with pytest.raises(ValueError, match="0 or more"):
        SpecAugmentConfig(time_width=-1)


def test_windows_are_neighbours_in_the_order_of_target_lengths():
    found = windows([5, 9, 7, 1, 3], [1.0] * 5, 2)
    assert [one.tolist() for one in found] == [[1, 2], [2, 0], [0, 4], [4, 3], [4, 3]]
    assert [one.tolist() for one in windows([5, 9, 7], [1.0, 20.0, 1.0], 2)] == [[1], [2, 0], [2, 0]]
    assert [one.tolist() for one in windows([2, 3], [1.0, 1.0], 16)] == [[1, 0], [1, 0]]


def test_published_buckets_are_always_halved_and_clean_ones_never():
    seconds = [float(i) for i in range(11)]
    assert [len(one) for one in buckets(seconds, 4, False)] == [4, 4, 3]
    published = buckets(seconds, 4, True)
    assert [one.tolist() for one in published] == [[10, 9], [8, 7], [6, 5], [4, 3], [2, 1, 0]]
    assert [len(one) for one in buckets(seconds[:9], 4, False)] == [4, 4]  # a last one alone is dropped
    assert [one.tolist() for one in buckets([1.0], 4, True)] == [[0]]

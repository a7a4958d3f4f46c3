# SPDX-License-Identifier: Apache-2.0
"""Two views of a clip: pieces of it with gain, sign and noise, which hang on nothing but the row and its key."""

import numpy as np
import pytest
import torch

from pluri.speech.views import SpeechViewsConfig
from pluri.ssl import draw


def views(inputs, lengths, keys, view=0, **settings):
    out, kept = SpeechViewsConfig(**settings).build()(inputs, lengths, keys, view)
    assert kept is not None
    return out, kept


def view_keys(n):
    return torch.tensor([draw.key(0, "item", i) for i in range(n)])


def test_the_lengths_of_views_follow_from_those_of_rows_and_stay_on_the_host():
    lengths = torch.tensor([20000, 16000, 9000, 8000, 500, 1])
    x = torch.randn(6, 20000, generator=torch.Generator().manual_seed(0))
    for key in range(3):
        out, kept = views(x, lengths, view_keys(6) + key)
        assert kept.device.type == "cpu"
        assert kept.tolist() == [12000, 9600, 8000, 8000, 500, 1] and out.shape == (6, 12000)
        for row, count in zip(out, kept.tolist(), strict=True):
            assert not row[count:].any() and torch.isfinite(row).all() and row[:count].any()
    out, kept = views(x, None, view_keys(6))
    assert kept.tolist() == [12000] * 6


def test_a_view_is_a_piece_of_its_row_with_its_own_gain_and_sign():
    lengths = torch.tensor([20000, 12000, 9000] * 100)
    x = torch.arange(1, 20001, dtype=torch.float32).expand(300, -1).clone()
    x[torch.arange(20000) >= lengths[:, None]] = 1e9
    out, kept = views(x, lengths, view_keys(300), noise=(200.0, 200.0))
    gains, starts = [], []
    for row, length, count in zip(out, lengths.tolist(), kept.tolist(), strict=True):
        slope = (row[count - 1] - row[0]) / (count - 1)
        first = (row[0] / slope).item()
        assert 0.9 < first and first + count - 1 < length + 1.1
        assert torch.allclose(row[:count], slope * (torch.arange(count) + round(first)), rtol=1e-3, atol=0.1)
        gains.append(float(slope))
        starts.append((first - 1) / (length - count))
    decibels = 20 * np.log10(np.abs(gains))
    assert -6.01 < decibels.min() < -5 and 5 < decibels.max() < 6.01 and abs(decibels.mean()) < 0.8
    assert abs(np.mean(np.array(gains) > 0) - 0.5) < 0.1
    assert min(starts) < 0.05 and max(starts) > 0.95 and abs(np.mean(starts) - 0.5) < 0.07


def test_the_noise_of_a_view_is_white_and_as_loud_as_asked_for():
    x = torch.sin(torch.arange(16000) * 0.3).expand(40, -1)
    clean, _ = views(x, None, view_keys(40), noise=(200.0, 200.0))
    noisy, _ = views(x, None, view_keys(40), noise=(10.0, 30.0))
    noise = (noisy - clean).double()
    ratio = 10 * torch.log10(clean.double().square().mean(1) / noise.square().mean(1))
    assert ratio.min() > 9.7 and ratio.max() < 30.3 and abs(float(ratio.mean()) - 20) < 3
    for lag in (1, 2, 7):
        shared = (noise[:, lag:] * noise[:, :-lag]).mean(1) / noise.square().mean(1)
        assert shared.abs().max() < 0.06


def test_the_two_views_of_a_row_differ_and_each_is_the_same_again(waves):
    lengths = torch.tensor([16000, 9001, 400, 1040, 15999])
    x = waves(lengths, spoilt=False)
    first, second, again = (views(x, lengths, view_keys(5), view)[0] for view in (0, 1, 0))
    assert torch.equal(first, again)
    for one, other in zip(first, second, strict=True):
        assert not torch.allclose(one[:100], other[:100])


@pytest.mark.parametrize("noise", [(200.0, 200.0), (10.0, 40.0)], ids=["crop_and_gain", "noise"])
def test_the_view_of_a_row_depends_on_nothing_but_the_row_and_its_key(noise, waves):
    lengths = torch.tensor([20000, 16000, 9000, 500])
    x = waves(lengths, spoilt=False)
    out, kept = views(x, lengths, view_keys(4), noise=noise)
    for i, (length, count) in enumerate(zip(lengths.tolist(), kept.tolist(), strict=True)):
        alone, one = views(x[i : i + 1, :length], lengths[i : i + 1], view_keys(4)[i : i + 1], noise=noise)
        assert one.tolist() == [count]
        assert (alone[0] - out[i, :count]).abs().max() < 1e-5

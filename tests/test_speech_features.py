# SPDX-License-Identifier: Apache-2.0
"""Features of speech as Kaldi, librosa and torchaudio have them, row by row, and the units that are stacks of them."""

import math

import numpy as np
import pytest
import torch

from pluri.speech.features import FeaturesConfig
from pluri.speech.spectrum import SpectrumFrontEndConfig

LENGTHS = torch.tensor([16000, 9001, 400, 1040, 15999])


def kaldi(kind, wave, bins):
    compliance = pytest.importorskip("torchaudio.compliance.kaldi")
    if kind == "fbank":
        return compliance.fbank(wave[None], num_mel_bins=bins, dither=0.0)
    return compliance.mfcc(wave[None], num_mel_bins=bins, num_ceps=13, dither=0.0)


def by_librosa(kind, wave, bins):
    librosa = pytest.importorskip("librosa")
    settings = {"n_fft": 400, "hop_length": 160, "center": True, "pad_mode": "constant"}
    if kind == "log_mel":
        power = librosa.feature.melspectrogram(y=wave.numpy(), sr=16000, n_mels=bins, power=2.0, **settings)
    else:
        power = np.abs(librosa.stft(wave.numpy(), **settings)) ** 2
    return torch.from_numpy(np.log(np.maximum(power, 1e-10)).T)


@pytest.mark.parametrize(
    ("kind", "bins"),
    [("fbank", 80), ("fbank", 40), ("mfcc", 23), ("mfcc", 40), ("log_mel", 80), ("log_mel", 40), ("log_spectrum", 80)],
)
def test_features_of_a_padded_batch_equal_those_of_kaldi_and_librosa_row_by_row(kind, bins, waves):
    features = FeaturesConfig(kind=kind, bins=bins, deltas=0, normalize=False).build()
    x, counts = features(waves(LENGTHS), LENGTHS)
    oracle = kaldi if kind in ("fbank", "mfcc") else by_librosa
    for row, wave, length, count in zip(x, waves(LENGTHS), LENGTHS.tolist(), counts.tolist(), strict=True):
        wanted = oracle(kind, wave[:length], bins)
        assert wanted.shape == (count, features.config.width) and features.count(length) == count
        # Bins far below the strongest of their frame are what is left when large numbers cancel: float32's noise.
        heard = torch.ones_like(wanted, dtype=torch.bool)
        if kind == "log_spectrum":
            heard = wanted > wanted.amax(1, keepdim=True) - 16
            assert heard.float().mean() > 0.99
        error = (row[:count] - wanted)[heard].abs()
        assert error.max() < 1e-3 and (error < 1e-4).float().mean() > 0.99
        assert not row[count:].any()


@pytest.mark.parametrize("kind", ["fbank", "mfcc", "log_mel", "log_spectrum"])
def test_silence_stands_on_the_floor_of_kaldi_and_librosa(kind):
    silent = torch.zeros(1, 4000)
    oracle = kaldi if kind in ("fbank", "mfcc") else by_librosa
    x, _ = FeaturesConfig(kind=kind, bins=23, deltas=0, normalize=False).build()(silent)
    assert (x[0] - oracle(kind, silent[0], 23)).abs().max() < 1e-3


def test_deltas_equal_those_of_torchaudio_row_by_row(waves):
    functional = pytest.importorskip("torchaudio.functional")
    plain, counts = FeaturesConfig(kind="mfcc", bins=23, deltas=0, normalize=False).build()(waves(LENGTHS), LENGTHS)
    for orders in (1, 2):
        config = FeaturesConfig(kind="mfcc", bins=23, deltas=orders, normalize=False)
        x, _ = config.build()(waves(LENGTHS), LENGTHS)
        assert x.shape[2] == config.width == 13 * (1 + orders)
        for row, mine, count in zip(plain, x, counts.tolist(), strict=True):
            wanted = [row[:count]]
            for _ in range(orders):
                wanted.append(functional.compute_deltas(wanted[-1].T[None], win_length=5)[0].T)
            assert (mine[:count] - torch.cat(wanted, dim=1)).abs().max() < 1e-4


def test_deltas_of_long_rows_equal_those_of_librosa_away_from_the_edges(waves):
    librosa = pytest.importorskip("librosa")
    x, _ = FeaturesConfig(deltas=1, normalize=False).build()(waves(LENGTHS)[:1])
    wanted = librosa.feature.delta(x[0, :, :80].numpy(), width=5, axis=0)
    assert np.abs(x[0, :, 80:].numpy() - wanted)[2:-2].max() < 1e-4


@pytest.mark.parametrize("kind", ["fbank", "log_mel"])
def test_normalised_features_have_each_rows_own_mean_and_deviation(kind, waves):
    x, counts = FeaturesConfig(kind=kind).build()(waves(LENGTHS), LENGTHS)
    raw, _ = FeaturesConfig(kind=kind, normalize=False).build()(waves(LENGTHS), LENGTHS)
    for row, before, count in zip(x, raw, counts.tolist(), strict=True):
        assert torch.isfinite(row).all() and not row[count:].any()
        if count == 1:
            assert not row.any()
            continue
        mine, before = row[:count].double(), before[:count].double()
        assert mine.mean(0).abs().max() < 1e-4 and (mine.std(0) - 1).abs().max() < 1e-4
        assert (mine - (before - before.mean(0)) / before.std(0)).abs().max() < 2e-3


@pytest.mark.parametrize("kind", ["fbank", "mfcc", "log_mel", "log_spectrum"])
def test_features_of_a_row_alone_equal_those_in_a_padded_batch(kind, waves):
    features = FeaturesConfig(kind=kind).build()
    lengths = torch.cat([LENGTHS, torch.tensor([1, 399])])
    x, counts = features(waves(lengths), lengths)
    assert x.shape[1] == counts.max() and (counts > 0).all()
    for row, wave, length, count in zip(x, waves(lengths), lengths.tolist(), counts.tolist(), strict=True):
        alone, one = features(wave[None, :length])
        assert one.tolist() == [count]
        # Divided by deviations, some of which are 0.01, so 1e-4 here is 1e-6 of a feature.
        assert (alone[0] - row[:count]).abs().max() < 1e-4


def test_normalised_silence_is_zero(waves):
    lengths = torch.tensor([16000, 9000])
    x = torch.zeros(2, 16000)
    x[0] = waves(LENGTHS)[0]
    row = FeaturesConfig().build()(x, lengths)[0][1]
    assert row.abs().max() < 1e-3


def test_more_than_two_orders_of_deltas_are_refused():
    with pytest.raises(ValueError, match="features.deltas"):
        FeaturesConfig(deltas=3).build()


@pytest.mark.parametrize("stack", [1, 3, 4])
def test_stacks_hold_their_frames_in_order_and_the_last_is_filled_with_zeros(stack, waves):
    features = FeaturesConfig(bins=20, deltas=1)
    front_end = SpectrumFrontEndConfig(features=features, stack=stack, width=24).build()
    x, counts = features.build()(waves(LENGTHS), LENGTHS)
    units = front_end.units(waves(LENGTHS), LENGTHS)
    assert units.lengths is not None and units.lengths.device.type == "cpu"
    assert torch.equal(units.lengths, front_end.unit_lengths(waves(LENGTHS), LENGTHS))
    assert units.lengths.tolist() == [math.ceil(count / stack) for count in counts.tolist()]
    assert units.values.shape == (5, int(units.lengths.max()), 40 * stack) and front_end.unit_width == 40 * stack
    for row, unit, count in zip(x, units.values, counts.tolist(), strict=True):
        for number in range(unit.shape[0]):
            wanted = torch.zeros(stack, 40)
            piece = row[number * stack : min(count, (number + 1) * stack)]
            wanted[: len(piece)] = piece
            assert torch.equal(unit[number], wanted.flatten())
    assert front_end.embed(units.values).shape == (*units.values.shape[:2], 24)
    whole = front_end.units(waves(LENGTHS, spoilt=False))
    assert whole.lengths is not None
    assert torch.equal(whole.lengths, front_end.unit_lengths(waves(LENGTHS), None))
    assert len(set(whole.lengths.tolist())) == 1

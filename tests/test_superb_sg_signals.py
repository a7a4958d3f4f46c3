# SPDX-License-Identifier: Apache-2.0
"""SUPERB-SG's figures against other formulas, packages and slow loops; spectra against librosa."""

import itertools
import math

import librosa
import numpy as np
import pytest
import torch

from pluri.benchmarks.superb_sg import signals
from pluri.benchmarks.superb_sg.accents import CORPORA, error_rates
from pluri.benchmarks.superb_sg.conversion import mel_cepstral_distortion
from pluri.benchmarks.superb_sg.signals import FLOOR, LOWEST, improvement, need_packages, pesq, si_sdr, stoi
from pluri.benchmarks.superb_sg.stft import BINS, WINDOW, quiet_end, spacing, spectrum, waveform
from pluri.benchmarks.superb_sg.translation import bleu


def tones(seed, samples=4000, rows=2):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, samples)).astype(np.float32)


def slow_si_sdr(said, meant):
    """By the angle between the two: the projection is the cosine, the rest the sine."""
    cosine = sum(a * b for a, b in zip(said, meant, strict=True)) / math.dist(said, [0] * len(said))
    cosine /= math.dist(meant, [0] * len(meant))
    return 20 * math.log10(abs(cosine) / math.sqrt(1 - cosine**2))


@pytest.mark.parametrize("noise", [0.01, 0.5, 3.0])
def test_si_sdr_is_the_angle_between_estimate_and_target_whatever_the_loudness(noise):
    meant, other = tones(0)
    said = meant + noise * other
    assert si_sdr(said, meant) == pytest.approx(slow_si_sdr(said.tolist(), meant.tolist()), abs=1e-3)
    assert si_sdr(-100 * said, meant) == pytest.approx(si_sdr(said, meant), abs=1e-3)


def test_si_sdr_ends_at_80_decibels_and_silence_is_the_lowest():
    meant, _ = tones(1)
    assert si_sdr(3 * meant, meant) == pytest.approx(80, abs=0.1)
    assert si_sdr(np.zeros(4000), meant) == LOWEST
    with pytest.raises(ValueError, match="target is silent"):
        si_sdr(meant, np.zeros(4000))


def test_the_improvement_is_that_of_the_best_order_over_the_mixture():
    for seed in range(4):
        targets, noise = tones(seed, 500, 3), tones(seed + 9, 500, 3)
        mixture = targets.sum(0)
        estimates = (targets + 0.3 * noise)[np.random.default_rng(seed).permutation(3)]
        found = {}
        for order in itertools.permutations(range(3)):
            pairs = [slow_si_sdr(estimates[order[i]].tolist(), targets[i].tolist()) for i in range(3)]
            found[order] = np.mean(pairs) - np.mean([slow_si_sdr(mixture.tolist(), one.tolist()) for one in targets])
        value, order = improvement(estimates, targets, mixture)
        assert value == pytest.approx(max(found.values()), abs=1e-3) and found[order] == max(found.values())
        assert improvement(np.stack([mixture] * 3), targets, mixture)[0] == pytest.approx(0, abs=1e-9)


def test_pesq_and_stoi_rank_noise_and_silence_has_the_lowest():
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    rng, time = np.random.default_rng(0), np.arange(16000) / 16000
    speech = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 20)) * (np.sin(2 * np.pi * 3 * time) > 0)
    loud = [speech + level * rng.standard_normal(16000) for level in (0.0, 0.05, 1.0)]
    for score in (pesq, stoi):
        values = [score(one, speech) for one in loud]
        assert values == sorted(values, reverse=True) and values[0] > values[2] + 0.1
    assert pesq(loud[0], speech) == pytest.approx(4.644, abs=0.01) and stoi(loud[0], speech) == pytest.approx(1)
    assert pesq(np.zeros(16000), speech) == FLOOR == pesq(speech[:100], speech[:100])
    assert stoi(speech[:1000], speech[:1000]) == 1e-5


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(signals, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install pesq pystoi"):
        need_packages()


@pytest.mark.parametrize("hop", [160, 240, 320])
@pytest.mark.parametrize("samples", [5000, 5119, 5120, 700])
def test_spectra_and_waveforms_are_librosas(hop, samples):
    wave = tones(2, samples, 1)[0]
    reference = librosa.stft(wave, n_fft=WINDOW, hop_length=hop)
    found = spectrum(torch.from_numpy(wave), hop)
    assert found.shape == (1 + samples // hop, BINS)
    assert np.allclose(found.numpy().T, reference, atol=1e-3)
    rng = np.random.default_rng(0)
    changed = reference * rng.random(reference.shape).astype(np.float32)
    again = librosa.istft(changed, hop_length=hop, n_fft=WINDOW, length=samples)
    mine = waveform(torch.from_numpy(changed.T.copy())[None], hop, samples)[0].numpy()
    assert mine.shape == (samples,)
    assert np.allclose(mine[:-256], again[:-256], atol=1e-4)
    # At the very end, sums of windows near zero make both large.
    assert np.allclose(mine[-256:], again[-256:], rtol=1e-2, atol=1e-2)
    whole = waveform(found[None], hop, samples)[0].numpy()
    kept = (len(found) - 1) * hop  # behind the last frame's middle librosa may know nothing either
    assert np.allclose(whole[:kept], wave[:kept], atol=1e-4)


def test_an_impulse_at_the_end_is_cut_off_and_nothing_else():
    wave = torch.rand(9000) * 0.5 - 0.25
    assert torch.equal(quiet_end(wave), wave - 0 * wave) or wave[-512:].abs().max() > wave[:-512].abs().max()
    wave[-512:] *= 0.5
    assert torch.equal(quiet_end(wave), wave)
    loud = wave.clone()
    loud[8900] = 3.0
    assert torch.equal(quiet_end(loud)[:8900], loud[:8900]) and not quiet_end(loud)[8900:].any()
    early = wave.clone()
    early[100] = 3.0
    assert torch.equal(quiet_end(early), early)
    for untouched in (torch.zeros(9000), torch.rand(300), torch.cat([loud[:8950], torch.zeros(3000)])):
        assert torch.equal(quiet_end(untouched), untouched)


def test_frames_far_apart_are_repeated_until_windows_overlap():
    assert [spacing(hop) for hop in (160, 320, 480, 640, 1000)] == [(160, 1), (320, 1), (240, 2), (320, 2), (250, 4)]


def slow_distortion(first, second):
    """The best path by dynamic programming over all pairs of frames."""
    distance = [[math.dist(a, b) for b in second] for a in first]
    best = {}
    for i, j in itertools.product(range(len(first)), range(len(second))):
        before = [best[one] for one in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if one in best] or [(0.0, 0)]
        total, count = min(before)
        best[i, j] = (total + distance[i][j], count + 1)
    total, count = best[len(first) - 1, len(second) - 1]
    return 10 / math.log(10) * math.sqrt(2) * total / count


@pytest.mark.parametrize("shape", [(9, 7), (1, 5), (5, 1), (20, 20)])
def test_mel_cepstral_distortion_is_that_of_the_best_path(shape):
    rng = np.random.default_rng(sum(shape))
    first, second = (rng.standard_normal((length, 4)) for length in shape)
    assert mel_cepstral_distortion(first, second) == pytest.approx(slow_distortion(first.tolist(), second.tolist()))
    assert mel_cepstral_distortion(first, np.repeat(first, 3, axis=0)) == 0
    with pytest.raises(ValueError, match="shapes"):
        mel_cepstral_distortion(first, second[:, :3])


def test_bleu_is_sacrebleus_and_sees_case():
    sacrebleu = pytest.importorskip("sacrebleu")
    said, meant = ["Das ist ein kleiner Test .", "Öl, bitte!"], ["Das ist ein kleiner Test.", "Öl, bitte!"]
    assert bleu(meant, meant) == pytest.approx(100)
    assert bleu(said, meant) == sacrebleu.corpus_bleu(said, [meant]).score
    assert bleu([one.lower() for one in meant], meant) < 50
    with pytest.raises(ValueError, match="2 hypotheses do not pair with 1 references"):
        bleu(said, meant[:1])


def test_error_rates_are_of_words_and_in_chinese_of_characters():
    said = {name: (["A B"], ["A C"]) for name in CORPORA} | {"zh-CN": (["今天天气"], ["今天天空"])}
    assert error_rates(said) == {"ood_asr": 0.4375, "es": 0.5, "zh-CN": 0.25, "ar": 0.5, "sbcsae": 0.5}
    del said["ar"]
    with pytest.raises(ValueError, match="there is no ar"):
        error_rates(said)

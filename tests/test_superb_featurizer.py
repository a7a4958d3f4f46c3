# SPDX-License-Identifier: Apache-2.0
"""The featuriser and the baselines of the speech suite, against s3prl 0.4.18 where it is installed."""

import importlib.util

import pytest
import torch

from pluri.benchmarks.encoders import load, modality, raw
from pluri.benchmarks.superb.baselines import NAMES
from pluri.benchmarks.superb.featurizer import FeaturizerConfig, concatenate, frames, hop, mix, normalized
from pluri.benchmarks.superb.states import Reading
from pluri.benchmarks.superb.utterance.heads import UtteranceHeads

s3prl = pytest.mark.skipif(importlib.util.find_spec("s3prl") is None, reason="needs s3prl")


class Said(torch.nn.Module):
    """An s3prl upstream that says what it was told to."""

    def __init__(self, states, rate):
        super().__init__()
        self.states, self.rate = states, rate

    def forward(self, wavs):
        return {"hidden_states": self.states}

    def get_downsample_rates(self, key):
        return self.rate


@s3prl
@pytest.mark.parametrize("normalize", [False, True])
def test_the_weighted_sum_is_that_of_s3prl(peer, normalize):
    torch.manual_seed(0)
    states = [torch.randn(3, 51, 16) * (layer + 1) + layer for layer in range(5)]
    theirs = peer("upstream.interfaces").Featurizer(Said(states, 320), upstream_device="cpu", normalize=normalize)
    theirs.weights.data = torch.randn(5)
    samples = [16100, 9000, 320 * 40]
    wanted = theirs([torch.zeros(count) for count in samples], {"hidden_states": states})
    for row, count in enumerate(samples):
        kept = frames(count, 320, 51)
        x = torch.stack([layer[row, :kept] for layer in states], dim=1)  # (N, L, D)
        x = normalized(x) if normalize else x
        ours = mix(x[None], theirs.weights[None, None])[0, 0]
        assert ours.shape == wanted[row].shape
        torch.testing.assert_close(ours, wanted[row], atol=1e-5, rtol=1e-5)


@s3prl
def test_one_layer_is_taken_as_s3prl_takes_it(peer):
    torch.manual_seed(0)
    states = [torch.randn(1, 50, 8) for _ in range(4)]
    theirs = peer("upstream.interfaces").Featurizer(Said(states, 320), upstream_device="cpu", layer_selection=2)
    wanted = theirs([torch.zeros(16000)], {"hidden_states": states})[0]
    (layer,) = FeaturizerConfig(kind="layer", layer=2).chosen(3)
    ours = mix(states[layer][0, : frames(16000, 320, 50), None][None], torch.zeros(1, 1, 1))[0, 0]
    torch.testing.assert_close(ours, wanted)


@s3prl
def test_a_single_layer_is_normalised_here_and_not_by_s3prl(peer):
    read = Reading.of(load("fbank_no_cmvn"), FeaturizerConfig(normalize=True), False, "fp32")
    plain = Reading.of(load("fbank_no_cmvn"), FeaturizerConfig(), False, "fp32")
    wave = 0.1 * torch.randn(8000)
    ours, states = read([wave]).x[:, 0], plain([wave]).x[:, 0]
    theirs = peer("upstream.interfaces").Featurizer(Said([states[None]], 160), upstream_device="cpu", normalize=True)
    assert torch.equal(theirs([wave], {"hidden_states": [states[None]]})[0], states)
    torch.testing.assert_close(ours, normalized(states))
    assert "leaves an encoder of one layer" in (normalized.__doc__ or "")


@s3prl
def test_a_head_on_mean_states_says_what_s3prl_s_says_of_padded_frames(peer):
    features, lengths = torch.randn(3, 9, 12), torch.tensor([9, 4, 1])
    heads = UtteranceHeads((5,), 2, 1, 12, (6,), FeaturizerConfig(kind="concat"))
    torch.manual_seed(5)
    projector = torch.nn.Linear(12, 256)
    theirs = peer("downstream.model").UtteranceLevel(256, 6)
    wanted, _ = theirs(projector(features), lengths)
    means = torch.stack([row[:length].mean(0) for row, length in zip(features, lengths.tolist(), strict=True)])
    for head in heads(means[None, :, None])[0]:
        torch.testing.assert_close(head, wanted, atol=1e-6, rtol=1e-5)


def test_weights_of_zero_are_the_plain_mean_and_groups_share_a_batch():
    x = torch.randn(1, 7, 3, 4)
    mean = mix(x, torch.zeros(2, 5, 3))
    assert mean.shape == (2, 5, 7, 4)
    torch.testing.assert_close(mean[1, 4], x[0].mean(1))


def test_layers_side_by_side_keep_their_order():
    x = torch.randn(2, 7, 3, 4)
    side = concatenate(x)
    assert side.shape == (2, 1, 7, 12) and FeaturizerConfig(kind="concat").width(3, 4) == 12
    torch.testing.assert_close(side[1, 0, 6, 4:8], x[1, 6, 1])


def test_a_layer_that_does_not_exist_or_has_no_effect_is_refused():
    with pytest.raises(ValueError, match="featurizer.layer=4 is not one of 0"):
        FeaturizerConfig(kind="layer", layer=4).chosen(3)
    with pytest.raises(ValueError, match="set featurizer.kind=layer"):
        FeaturizerConfig(layer=1)
    with pytest.raises(ValueError, match="featurizer.layers=4 is not one of 0"):
        FeaturizerConfig(layers=(1, 4)).chosen(3)
    with pytest.raises(ValueError, match="no effect on featurizer.kind=layer"):
        FeaturizerConfig(kind="layer", layer=1, layers=(1, 2))
    for wrong in ((2, 1), (1, 1)):
        with pytest.raises(ValueError, match="each layer once, in ascending order"):
            FeaturizerConfig(layers=wrong)


@pytest.mark.parametrize("kind", ["weighted", "concat"])
def test_chosen_layers_alone_are_read(waves, kind):
    lengths = torch.tensor([8000, 5000])
    inputs, backbone = waves(lengths), load("random:speech/wav2vec2_tiny")
    config = FeaturizerConfig(kind=kind, layers=(1, 3))
    every, some = (Reading.of(backbone, one, False, "fp32") for one in (FeaturizerConfig(kind=kind), config))
    rows = [row[:length] for row, length in zip(inputs, lengths.tolist(), strict=True)]
    assert some.layers == (1, 3) and torch.equal(some(rows).x, every(rows).x[:, [1, 3]])
    assert UtteranceHeads((0,), 1, 2, 4, (3,), config)(torch.randn(1, 5, 2, 4)).shape == (1, 1, 5, 3)
    assert config.words() == {"weighted": "weighted sum of layers 1, 3", "concat": "layers 1, 3 side by side"}[kind]


def test_the_hop_is_found_without_encoding():
    assert [hop(raw(name).front_end) for name in ("fbank", "mel", "waveform")] == [160, 160, 160]
    assert hop(load("random:speech/wav2vec2_tiny").front_end) == 320
    assert frames(40, 160, 3) == 1 and frames(16000, 160, 101) == 100


@s3prl
@pytest.mark.filterwarnings("ignore:At least one mel filterbank:UserWarning")  # of filters that are not used
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("fbank_no_cmvn", "fbank_no_cmvn"),
        ("fbank_cmvn", "fbank"),
        ("mfcc_cmvn", "mfcc"),
        ("mel", "mel"),
        ("linear", "linear"),
    ],
)
def test_baselines_are_those_of_s3prl(peer, waves, ours, theirs):
    expert = vars(peer("upstream.baseline.hubconf"))[theirs]()
    lengths = torch.tensor([16000, 9999, 4321])
    inputs = waves(lengths)
    said = load(ours)(inputs, lengths)
    for row, length in enumerate(lengths.tolist()):
        wanted = expert([inputs[row, :length]])["hidden_states"][0][0]
        torch.testing.assert_close(said.layers[0][row, : len(wanted)], wanted, atol=1e-3, rtol=1e-3)
        assert said.lengths[row] == len(wanted)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1, 150, 201, 16001])
def test_a_baseline_says_the_same_of_a_clip_alone_and_in_a_padded_batch(waves, name, length):
    backbone = load(name)
    assert modality(backbone) == "speech" and backbone.encoder.config.depth == 0
    inputs = waves(torch.tensor([length, 20000]))
    read = Reading(backbone, (0,), False, False)
    together = read([inputs[0, :length], inputs[1]])
    alone = read([inputs[0, :length]])
    assert alone.lengths[0] == together.lengths[0] and alone.x.isfinite().all()
    torch.testing.assert_close(together.x[: together.lengths[0]], alone.x, atol=1e-5, rtol=1e-5)


def test_a_waveform_is_its_samples_and_nothing_else():
    wave = torch.arange(400.0)
    x = load("waveform")(wave[None], torch.tensor([400])).layers[0]
    torch.testing.assert_close(x.flatten()[:400], wave)
    assert x.shape == (1, 3, 160) and not x[0, 2, 80:].any()

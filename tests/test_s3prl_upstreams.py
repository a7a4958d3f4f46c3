# SPDX-License-Identifier: Apache-2.0
"""Upstreams of s3prl 0.4.18 as encoders: what they say is what s3prl says, and what cannot be one is named."""

import argparse
import dataclasses
import importlib.util
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pluri.benchmarks.encoders import load, modality, random_twin, settings_of
from pluri.benchmarks.s3prl import shims
from pluri.benchmarks.s3prl.encoder import UpstreamConfig, UpstreamFrontEnd
from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.states import Reading

needs_s3prl = pytest.mark.skipif(importlib.util.find_spec("s3prl") is None, reason="needs s3prl")
SAMPLES = (16000, 32100, 9999, 480)


def clips():
    torch.manual_seed(0)
    return [0.1 * torch.randn(count) for count in SAMPLES]


@needs_s3prl
@torch.inference_mode()
@pytest.mark.filterwarnings("ignore:At least one mel filterbank:UserWarning")  # of filters that are not used
@pytest.mark.parametrize("name", ["fbank", "fbank_no_cmvn", "mfcc", "mel", "linear", "spectrogram"])
def test_an_upstream_without_weights_says_what_s3prl_says(peer, name):
    backbone, waves = load(f"s3prl:{name}"), clips()[:3]
    assert modality(backbone) == "speech" and backbone.encoder.config.depth == 0
    read = Reading.of(backbone, FeaturizerConfig(), False, "fp32")
    x, lengths = read(waves)
    expert = vars(peer("upstream.baseline.hubconf"))[name]()
    for wave, mine in zip(waves, x.split(lengths), strict=True):
        theirs = expert([wave])["hidden_states"][0][0][: round(len(wave) / 160)]  # which its featuriser leaves
        torch.testing.assert_close(mine[:, 0], theirs, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(read([wave]).x, mine, atol=1e-5, rtol=1e-5)


@needs_s3prl
@torch.inference_mode()
def test_its_filter_banks_and_ours_have_the_same_frames_and_means():
    again = Reading.of(load("s3prl:fbank_no_cmvn"), FeaturizerConfig(), True, "fp32")
    assert '"version": 2' in again.key()  # stores of repeated frames are not read again
    for pooled in (False, True):
        x, lengths = Reading.of(load("fbank_no_cmvn"), FeaturizerConfig(), pooled, "fp32")(clips()[:3])
        theirs = Reading.of(load("s3prl:fbank_no_cmvn"), FeaturizerConfig(), pooled, "fp32")(clips()[:3])
        assert theirs.lengths == lengths
        torch.testing.assert_close(theirs.x, x, atol=1e-3, rtol=1e-3)  # two filter banks, in float32


@pytest.fixture(scope="module")
def checkpoint(peer, tmp_path_factory):
    """A wav2vec 2.0 of two blocks in the form that s3prl reads."""
    module = peer("upstream.wav2vec2.wav2vec2_model")
    config = module.Wav2Vec2Config(
        encoder_layers=2, encoder_embed_dim=32, encoder_ffn_embed_dim=64, encoder_attention_heads=2, final_dim=16,
        conv_feature_layers="[(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32, 2, 2)] * 2", latent_vars=4,
    )  # fmt: skip
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its old weight_norm
        model = module.Wav2Vec2Model(config)
    settings = dataclasses.asdict(config)
    state = {"task_cfg": {"normalize": False}, "model_cfg": settings, "model_weight": model.state_dict()}
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    torch.save(state, path)
    return path


@needs_s3prl
@torch.inference_mode()
def test_every_layer_of_a_local_checkpoint_is_what_s3prl_says_of_the_clip_alone(peer, checkpoint):
    backbone, waves = load(f"s3prl:wav2vec2_local@{checkpoint}"), clips()
    assert backbone.encoder.config.depth == 2 and not backbone.training
    assert settings_of(backbone).__dict__["checkpoint"] == str(checkpoint)
    said = backbone(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor(SAMPLES))
    with shims.applied():
        theirs = peer("nn.upstream").S3PRLUpstream("wav2vec2_local", path_or_url=str(checkpoint)).eval()
    assert said.lengths.tolist() == [49, 100, 30, 2]  # the shortest is filled up to 50 ms
    for row, wave in enumerate(waves):
        layers, _ = theirs(wave[None], torch.tensor([len(wave)]))
        for mine, other in zip(said.layers, layers, strict=True):
            have = said.lengths[row]
            torch.testing.assert_close(mine[row, :have], other[0, :have], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(said.x, said.layers[-1])
    with pytest.raises(ValueError, match="--beside False"):
        random_twin(backbone, 0)


def mockingjay(peer, path):
    """A Mockingjay of two blocks, with what s3prl keeps beside the weights."""
    module = peer("upstream.mockingjay.model")
    banks = {
        "feat_type": "fbank",
        "fbank": {"frame_length": 25.0, "frame_shift": 10.0, "num_mel_bins": 20, "use_log_fbank": True},
    }
    network = {
        "input_dim": -1, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02, "layer_norm_eps": "1e-12", "share_layer": False, "pre_layer_norm": False,
    }  # fmt: skip
    settings = {
        "transformer": network,
        "audio": {"kaldi": banks, "delta": {"order": 2, "win_length": 5}, "cmvn": {"use_cmvn": True}},
        "task": {"sequence_length": 0},
    }
    weights = module.TransformerModel(module.TransformerConfig(network), 60).state_dict()
    torch.save({"Config": settings, "Transformer": weights, "Settings": {"Paras": argparse.Namespace(a=1)}}, path)


def apc(peer, path):
    """An APC of three layers."""
    network = {"hidden_size": 32, "num_layers": 3, "dropout": 0.1, "residual": True}
    audio = {"feat_type": "fbank", "feat_dim": 40, "frame_length": 25, "frame_shift": 10}
    weights = peer("upstream.apc.apc").APC(40, **network).state_dict()
    torch.save({"config": {"data": {"audio": audio}, "model": {"paras": network}}, "model": weights}, path)


def hugging_face(peer, path):
    """A folder of a HuBERT of two blocks."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    config = HubertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(32,) * 7,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    HubertModel(config).save_pretrained(path)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(path)


@needs_s3prl
@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("mockingjay_local", mockingjay),
        ("tera_local", mockingjay),
        ("apc_local", apc),
        ("hf_hubert_custom", hugging_face),
    ],
)
def test_checkpoints_of_other_kinds_are_read_and_padding_changes_nothing(peer, name, save, tmp_path):
    torch.manual_seed(0)
    save(peer, tmp_path / "saved")
    backbone, waves = load(f"s3prl:{name}@{tmp_path / 'saved'}"), clips()[:3]
    assert isinstance(backbone.front_end, UpstreamFrontEnd)
    said = backbone(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor(SAMPLES[:3]))
    assert len(said.layers) == 3
    for row, wave in enumerate(waves):
        for mine, theirs in zip(said.layers, backbone.front_end.upstream([wave])["hidden_states"], strict=True):
            torch.testing.assert_close(mine[row, : said.lengths[row]], theirs[0])
    if save is hugging_face:
        for mine, ours in zip(said.layers, load(str(tmp_path / "saved"))(waves[1][None]).layers, strict=True):
            torch.testing.assert_close(mine[1, : ours.shape[1]], ours[0], atol=1e-4, rtol=1e-4)


@needs_s3prl
@torch.inference_mode()
def test_a_users_own_upstream_is_one_that_needs_no_download(peer, tmp_path, monkeypatch):
    backbone, wave = load("s3prl:customized_upstream"), clips()[3]
    assert backbone.encoder.config.depth == 1 and modality(backbone) == "speech"
    again = load("s3prl:customized_upstream").state_dict()  # its weights are drawn, and the same each time
    assert all(torch.equal(value, again[name]) for name, value in backbone.state_dict().items())
    assert isinstance(backbone.front_end, UpstreamFrontEnd)
    filled = torch.nn.functional.pad(wave, (0, 800 - len(wave)))  # as short a clip is filled up
    theirs = backbone.front_end.upstream([filled])["hidden_states"]
    for mine, other in zip(backbone(wave[None]).layers, theirs, strict=True):
        torch.testing.assert_close(mine[0], other[0, : mine.shape[1]])

    def picky(ckpt, model_config=None):
        assert Path(ckpt).is_file() and model_config is not None, "give me both"
        raise TypeError("both")

    (tmp_path / "mine.pt").write_bytes(b"weights")
    monkeypatch.setattr(peer("upstream.example.hubconf"), "customized_upstream", picky)
    with pytest.raises(ValueError, match=r"cannot be built from .*/mine.pt: AssertionError give me both"):
        load(f"s3prl:customized_upstream@{tmp_path / 'mine.pt'}")
    (tmp_path / "mine.cfg").write_bytes(b"settings")
    with pytest.raises(ValueError, match=r"cannot be built from .*/mine.pt and .*/mine.cfg: TypeError both"):
        load(f"s3prl:customized_upstream@{tmp_path / 'mine.pt'}@{tmp_path / 'mine.cfg'}")


@needs_s3prl
@torch.inference_mode()
@pytest.mark.parametrize("sign", ["", "@"])
def test_settings_make_the_upstreams_that_have_nothing_else(peer, tmp_path, sign):
    folder = tmp_path / f"with{sign}sign"
    folder.mkdir()
    for place, name in (("baseline", "fbank_no_cmvn"), ("log_stft", "stft_mag")):
        its = Path(str(peer(f"upstream.{place}.hubconf").__file__)).with_name(f"{name}.yaml")
        (folder / its.name).write_text(its.read_text())
    wave = clips()[0]
    banks = load(f"s3prl:baseline_local@{folder}/fbank_no_cmvn.yaml")
    torch.testing.assert_close(banks(wave[None]).x, load("s3prl:fbank_no_cmvn")(wave[None]).x)
    spectrum = load(f"s3prl:stft_mag@{folder}/stft_mag.yaml")
    theirs = vars(peer("upstream.log_stft.hubconf"))["stft_mag"](f"{folder}/stft_mag.yaml")
    torch.testing.assert_close(spectrum(wave[None]).x, theirs([wave])["hidden_states"][0])
    key = Reading.of(spectrum, FeaturizerConfig(), False, "fp32").key()
    text = (folder / "stft_mag.yaml").read_text()
    (folder / "stft_mag.yaml").write_text(text + "# the same settings, another file\n")
    again = load(f"s3prl:stft_mag@{folder}/stft_mag.yaml")
    assert Reading.of(again, FeaturizerConfig(), False, "fp32").key() != key


def test_an_upstream_that_was_changed_under_its_name_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: SimpleNamespace(origin=f"{tmp_path}/__init__.py"))
    (tmp_path / "upstream" / "example").mkdir(parents=True)
    for name, file in ("wav2vec2_local@a.pt", "a.pt"), ("customized_upstream", "upstream/example/expert.py"):
        found = []
        for text in ("FEAT = s", "FEAT = torch.log(s)", "FEAT = s"):
            (tmp_path / file).write_text(text)
            found.append(UpstreamConfig.of(f"s3prl:{name}".replace("@", f"@{tmp_path}/")))
        assert found[0] != found[1] and found[0] == found[2]


@needs_s3prl
def test_wrong_upstreams_are_named_in_one_line(tmp_path):
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"nothing")
    for name, words in (
        ("s3prl:wav2vec2", "is no upstream of s3prl's that needs no download"),
        ("s3prl:hubert_local", "name a checkpoint that is there"),
        (f"s3prl:hubert_local@{tmp_path / 'none.pt'}", "name a checkpoint that is there"),
        (f"s3prl:fbank@{broken}", "takes no checkpoint"),
        ("s3prl:baseline_local", "name a file of settings that is there, as s3prl:baseline_local@FILE$"),
        (f"s3prl:baseline_local@{broken}", "cannot be built from .*broken.pt"),
        ("s3prl:stft_mag@none.yaml", "name a file of settings that is there, as s3prl:stft_mag@FILE$"),
        ("s3prl:pase_local", "name a checkpoint that is there, as s3prl:pase_local@FILE@SETTINGS"),
        (f"s3prl:pase_local@{broken}", "name a file of settings that is there, as s3prl:pase_local@FILE@SETTINGS"),
        (f"s3prl:pase_local@{broken}@{broken}", "ModuleNotFoundError No module named 'pase'"),
        (f"s3prl:hubert_local@{broken}@{tmp_path / 'none.yaml'}", "name a file of settings that is there"),
        (f"s3prl:mos_apc_local@{broken}", "needs a download of apc, and gives scores in place of states"),
        (f"s3prl:mos_tera_local@{broken}", "needs a download of tera"),
        (f"s3prl:mos_wav2vec2_local@{broken}", "needs a download of wav2vec2"),
        ("s3prl:customized_upstream@nowhere.pt", "name a checkpoint that is there"),
        (f"s3prl:nobody_local@{broken}", "s3prl has no upstream nobody_local"),
        (f"s3prl:wav2vec2_local@{broken}", "cannot be built from"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            load(name)
        assert "\n" not in str(error.value)


def test_without_s3prl_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shims.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'pluri\[s3prl\]'"):
        load("s3prl:fbank")

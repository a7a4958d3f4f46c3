# SPDX-License-Identifier: Apache-2.0
"""Both ways with s3prl 0.4.18: our encoders as its upstreams, its upstreams as ours, its runner by a command."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pluri.benchmarks.encoders import load
from pluri.benchmarks.s3prl import shims
from pluri.benchmarks.s3prl.corpus import lay_out
from pluri.benchmarks.s3prl.runner import RunnerConfig, result
from pluri.benchmarks.s3prl.upstream import Upstream, pluri
from pluri.benchmarks.superb import corpora
from pluri.benchmarks.superb.clips import Clips
from pluri.benchmarks.superb.featurizer import FeaturizerConfig, mix
from pluri.benchmarks.superb.stacked import Adam
from pluri.benchmarks.superb.states import Reading
from pluri.benchmarks.superb.utterance.tasks import KeywordCorpusConfig
from pluri.benchmarks.superb_sg.task import SpeechSeparationConfig

needs_s3prl = pytest.mark.skipif(importlib.util.find_spec("s3prl") is None, reason="needs s3prl")
TYPING = Path(__file__).resolve().parents[1] / ".typing"
ENCODERS = ("fbank_no_cmvn", "random:speech/wav2vec2_tiny", "random:speech/mockingjay_tiny")
SAMPLES = (16000, 32100, 9999, 480)


def clips():
    torch.manual_seed(0)
    return [0.1 * torch.randn(count) for count in SAMPLES]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Speech Commands with lists: 60 clips of a second, whose names say nothing of the part that they are in."""
    root = tmp_path_factory.mktemp("commands")
    rng = np.random.default_rng(0)
    for word in ("yes", "no", "bed", "_silence_"):
        (root / word).mkdir()
        for number in range(15):
            wave = 0.1 * rng.standard_normal(16000)
            soundfile.write(root / word / f"{number:02d}_nohash_0.wav", wave, 16000, subtype="PCM_16")
    for name, numbers in (("validation", (0, 1)), ("testing", (2, 3, 4))):
        lines = [
            f"{word}/{number:02d}_nohash_0.wav\n" for word in ("yes", "no", "bed", "_silence_") for number in numbers
        ]
        (root / f"{name}_list.txt").write_text("".join(lines))
    return root


@torch.inference_mode()
@pytest.mark.parametrize("name", ENCODERS)
def test_states_through_the_bridge_are_ours_alone_and_in_a_batch(name):
    backbone = load(name)
    upstream, waves = Upstream(backbone).eval(), clips()
    together = upstream(waves)["hidden_states"]
    assert len(together) == backbone.encoder.config.depth + 1
    for row, wave in enumerate(waves):
        ours, alone = backbone(wave[None]), upstream([wave])["hidden_states"]
        have = int(ours.lengths[0])
        assert len(wave) < max(SAMPLES) or together[0].shape[1] == have
        for layer, x in enumerate(together):
            torch.testing.assert_close(alone[layer], ours.layers[layer], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(x[row, :have], ours.layers[layer][0], atol=1e-5, rtol=1e-5)
            assert (x[row, have:] == x[row, have - 1]).all()  # behind its end


@needs_s3prl
@torch.inference_mode()
@pytest.mark.parametrize("name", ENCODERS)
def test_its_featuriser_hands_out_what_ours_does_of_a_clip_alone_and_in_a_batch(peer, name):
    upstream, waves = pluri(ckpt=name), clips()
    featurizer = peer("upstream.interfaces").Featurizer(upstream, upstream_device="cpu")
    read = Reading.of(upstream.backbone, FeaturizerConfig(), False, "fp32")
    weights = torch.randn(len(read.layers))
    if len(weights) > 1:
        featurizer.weights.data = weights
    x, lengths = read(waves)
    ours = mix(x[None], weights[None, None])[0, 0].split(lengths)
    together = featurizer(waves, upstream(waves))
    for wave, theirs, mine in zip(waves, together, ours, strict=True):
        torch.testing.assert_close(featurizer([wave], upstream([wave]))[0], mine, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(theirs[: len(mine)], mine, atol=1e-5, rtol=1e-5)
        assert len(theirs) == (len(mine) if len(wave) == max(SAMPLES) else round(len(wave) / upstream.rate))
        assert (theirs[len(mine) :] == theirs[len(mine) - 1]).all()  # s3prl cuts there, whatever frames there are


@needs_s3prl
@torch.inference_mode()
def test_its_newer_interface_takes_our_encoder_from_the_hub(peer, monkeypatch):
    nn, hub = peer("nn.upstream"), peer("hub")
    monkeypatch.setitem(hub.__dict__, "pluri", pluri)
    name, waves = "random:speech/wav2vec2_tiny", clips()[:2]
    theirs = nn.S3PRLUpstream("pluri", path_or_url=name).eval()
    layers, lengths = theirs(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor(SAMPLES[:2]))
    assert lengths[0].tolist() == [50, 101] and len(layers) == 4
    ours = load(name)(waves[1][None]).layers
    torch.testing.assert_close(layers[2][1, : ours[2].shape[1]], ours[2][0], atol=1e-5, rtol=1e-5)


@needs_s3prl
def test_the_shims_are_taken_back():
    import torchaudio

    before, load_before = set(vars(torchaudio)), torchaudio.load
    with shims.applied():
        assert "set_audio_backend" in vars(torchaudio) and "torchaudio.sox_effects" in sys.modules
    assert set(vars(torchaudio)) == before and torchaudio.load is load_before
    assert "torchaudio.sox_effects" not in sys.modules


def test_pluri_and_its_commands_leave_s3prl_and_torchaudio_alone():
    code = (
        "import sys, pluri, pluri.cli, pluri.benchmarks.evaluate, pluri.benchmarks.extract, pluri.benchmarks.export\n"
        "pluri.load('fbank')\n"
        "import torchaudio\n"
        "assert 's3prl' not in sys.modules and 'torchaudio.sox_effects' not in sys.modules\n"
        "assert not hasattr(torchaudio, 'set_audio_backend') and torchaudio.load.__module__ == 'torchaudio'\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(TYPING), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_effects_of_sox_are_one_channel_16_khz_and_a_gain(tmp_path):
    path = tmp_path / "stereo.wav"
    stereo = 0.2 * np.random.default_rng(0).standard_normal((8000, 2))
    soundfile.write(path, stereo, 16000, subtype="FLOAT")
    wave, rate = shims.apply_effects_file(str(path), [["channels", "1"], ["rate", "16000"], ["gain", "-3.0"]])
    assert rate == 16000
    np.testing.assert_allclose(wave[0], stereo.mean(1) * 10 ** (-3 / 20), atol=1e-6)
    with pytest.raises(ValueError, match="its effect silence 1 has no stand-in"):
        shims.apply_effects_file(str(path), [["silence", "1"]])
    samples, rate = shims.load(str(path), frame_offset=10, num_frames=5)
    assert samples.shape == (2, 5) and rate == 16000
    np.testing.assert_allclose(samples.T, stereo[10:15], atol=1e-6)


@needs_s3prl
def test_s3prl_reads_the_same_clips_in_the_same_parts(peer, commands, tmp_path):
    (fold,) = corpora.keywords(str(commands), "")
    train, test = lay_out(fold.parts, tmp_path)
    expert = peer("downstream.speech_commands.expert")
    for listed, part in zip(expert.split_dataset(train), (fold.parts.train, fold.parts.dev), strict=True):
        found = {(label, path.resolve()) for label, path in listed}
        assert found == {(one.labels[0], one.path.resolve()) for one in part} and len(listed) == len(part)
    data = peer("downstream.speech_commands.dataset").SpeechCommandsTestingDataset(speech_commands_test_root=str(test))
    assert len(data) == len(fold.parts.test) == 12
    ours, by_name = Clips(-3.0), {one.name: one for one in fold.parts.test}
    for wave, label, name in (data[number] for number in range(len(data))):
        utterance = by_name[name.split("-", 2)[2]]  # behind the label and the clip's number
        assert expert.CLASSES[label] == utterance.labels[0]
        np.testing.assert_allclose(wave, ours.read(ours.add(utterance)), atol=1e-7)


def test_test_clips_of_one_name_in_two_folders_are_both_laid_out(commands, tmp_path):
    (fold,) = corpora.keywords(str(commands), "")
    first, second = fold.parts.test[:2]
    assert first.labels == second.labels
    both = [one._replace(name=f"{folder}/1.wav") for folder, one in (("a", first), ("b", second))]
    _, test = lay_out(fold.parts._replace(test=both), tmp_path)
    found = {link.resolve() for link in (test / first.labels[0]).iterdir()}
    assert found == {first.path.resolve(), second.path.resolve()}


@needs_s3prl
def test_separation_has_the_optimiser_that_s3prl_has(peer):
    torch.manual_seed(0)
    plan = SpeechSeparationConfig(lr=1e-2).plan((0,))
    ours, theirs = torch.nn.Parameter(torch.ones(1, 1, 6)), torch.nn.Parameter(torch.ones(6))
    adam = Adam([ours], plan.rates, plan.clip, plan.decay, plan.epsilon)
    published = peer("optimizers").get_AdamW([torch.nn.ParameterList([theirs])], lr=1e-2)
    for _ in range(8):
        slope = 10.0 ** torch.arange(-9.0, -3.0) * torch.randn(6)
        ours.grad, theirs.grad = slope.clone()[None, None], slope
        adam.step()
        published.step()
    assert torch.allclose(ours[0, 0], theirs, rtol=1e-6) and (ours != 1).all()


def test_data_that_s3prl_would_misread_are_refused(commands, tmp_path):
    (fold,) = corpora.keywords(str(commands), "")
    one = fold.parts.train[0]
    for changed, words in (
        (one._replace(labels=("seven",)), "knows no seven"),
        (one._replace(start=0.5), "name a piece of this one"),
    ):
        with pytest.raises(ValueError, match=words):
            lay_out(fold.parts._replace(train=[changed]), tmp_path)
    with pytest.raises(ValueError, match="has no effect on emotion"):
        RunnerConfig(data=KeywordCorpusConfig(path="x")).settings("emotion", tmp_path)
    with pytest.raises(ValueError, match="set --config"):
        RunnerConfig().settings("emotion", tmp_path)
    with pytest.raises(ValueError, match="must be above 0"):
        RunnerConfig(steps=0)
    file = tmp_path / "mine.yaml"
    for content, words in (
        ("runner: {log_step: 1}", "mine.yaml has no total_steps"),
        ("a: [", "mine.yaml is no YAML: "),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=words) as caught:
            RunnerConfig(config=str(file), evaluations=2).settings("emotion", tmp_path)
        assert "\n" not in str(caught.value)
    small = fold.parts._replace(train=list({one.labels: one for one in fold.parts.train}.values()))
    with pytest.raises(ValueError, match=f"has {len(small.train)} clips of train, s3prl needs 32"):
        _few(small, tmp_path).settings("speech_commands", tmp_path)


def _few(parts, folder):
    """Settings for a manifest of the utterances of some parts."""
    named = (("train", parts.train), ("dev", parts.dev), ("test", parts.test))
    rows = [f"{one.path}\t{one.labels[0]}\t{part}\n" for part, utterances in named for one in utterances]
    (folder / "few.tsv").write_text("path\tlabel\tsplit\n" + "".join(rows))
    return RunnerConfig(data=KeywordCorpusConfig(path=str(folder / "few.tsv")))


def test_the_score_is_that_of_the_state_that_is_best_on_dev(tmp_path):
    assert result(tmp_path) is None
    lines = ("train at step 2: 0.1", "dev at step 2: 0.5", "New best on dev at step 2: 0.5", "test at step 2: 0.25")
    lines += ("train at step 4: 0.1", "dev at step 4: 0.4", "test at step 4: 0.75")
    (tmp_path / "log.log").write_text("\n".join(lines) + "\n")
    assert result(tmp_path) == (2, 0.5, 0.25)


@needs_s3prl
@pytest.mark.slow
def test_the_command_trains_in_its_runner_and_goes_on(commands, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(TYPING), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}

    def run(*words):
        command = [sys.executable, "-m", "pluri", "s3prl", "random:speech/mockingjay_tiny", "speech_commands", *words]
        command += ["--data.path", str(commands), "--device", "cpu", "--workers", "0", "--out", str(tmp_path / "run")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)

    done = run("--steps", "3", "--evaluations", "3", "--lr", "1e-3")
    assert done.returncode == 0, done.stderr
    assert "speech_commands: accuracy" in done.stdout
    found = result(tmp_path / "run")
    assert found is not None and found.step in (1, 2, 3) and 0.0 <= found.test <= 1.0
    state = torch.load(tmp_path / "run" / "states-3.ckpt", weights_only=False)
    assert state["Step"] == 3 and state["Featurizer"]["weights"].shape == (4,)
    again = run("--steps", "3", "--evaluations", "3", "--lr", "1e-3")
    assert again.returncode == 0 and "Resume from" in again.stdout and result(tmp_path / "run") == found, again.stderr
    other = run("--steps", "4")
    assert other.returncode == 2 and "holds a run with other settings" in other.stderr
    assert len(other.stderr.splitlines()) == 1

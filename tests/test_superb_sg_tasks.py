# SPDX-License-Identifier: Apache-2.0
"""SS and SE from files to rows: voices are told apart, noise goes, sweeps equal single runs, what is written."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pluri.benchmarks import scores, tasks
from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.superb import suite
from pluri.benchmarks.superb.layouts.published import COUNTS
from pluri.benchmarks.superb.order import ACROSS
from pluri.benchmarks.superb.page import mistakes
from pluri.benchmarks.superb.swept import CorpusConfig
from pluri.benchmarks.superb_sg import task
from pluri.benchmarks.superb_sg.heads import SeparatorHeads
from pluri.benchmarks.superb_sg.signals import si_sdr
from pluri.benchmarks.superb_sg.task import SpeechEnhancementConfig, SpeechSeparationConfig

SMALL = {"steps": 20, "evaluations": 2, "batch": 3, "hidden": 8, "device": "cpu"}
RATE = 16000


def voice(pitch, samples, seed):
    """Harmonics in syllables."""
    rng, time = np.random.default_rng(seed), np.arange(samples) / RATE
    tone = sum(np.sin(2 * np.pi * pitch * k * time + k) for k in range(1, 4))
    return 0.1 * tone * (np.sin(2 * np.pi * 4 * time + rng.uniform(0, 6)) > -0.3)


def write(path, wave):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE)


def mixed(root, samples=4800, test=2):
    for part, number in (("train-100", 4), ("dev", 2), ("test", test)):
        for i in range(number):
            low, high = voice(200 + 5 * i, samples, i), voice(2500 + 50 * i, samples, i + 50)
            for folder, wave in (("s1", low), ("s2", high), ("mix_clean", low + high)):
                write(root / part / folder / f"{i}.wav", wave)
    return root


def noisy(root, samples=9600):
    for folder, name, number in (("trainset_28spk", "p228", 4), ("trainset_28spk", "p226", 2), ("testset", "p232", 2)):
        for i in range(number):
            clean = voice(150 + 5 * i, samples, i)
            noise = 0.1 * np.random.default_rng(i + 70).standard_normal(samples)
            for kind, wave in (("clean", clean), ("noisy", clean + noise)):
                write(root / f"{kind}_{folder}_wav_16k" / f"{name}_{i}.wav", wave)
    return root


def of(config, path, **fields):
    return dataclasses.replace(config, **{**SMALL, "lr": 1e-2, "data": CorpusConfig(path=str(path)), **fields})


def run(name, config, out, encoder="fbank_no_cmvn"):
    lines = []
    (row,) = suite.evaluate({f"superb/{name}": config}, encoder, 1, False, out, lines.append)
    return row, "\n".join(lines)


def test_voices_are_separated_and_everything_is_written(tmp_path):
    row, _ = run("ss", of(SpeechSeparationConfig(), mixed(tmp_path / "mix")), tmp_path / "out")
    assert row.main == "si_sdri" and row.scores["si_sdri"] > 5
    assert row.protocol.startswith(
        "incomplete data: 2 of 3000 test clips and 6 of 14900 clips of train and dev; SUPERB"
    )
    written = next((tmp_path / "out" / "predictions").iterdir()) / "ss"
    name, value = (written / "metrics.txt").read_text().split()
    assert name == "si_sdr" and float(value) == row.scores["si_sdri"]
    each = json.loads((written / "clips.json").read_text())
    assert np.mean([one["si_sdri"] for one in each.values()]) == pytest.approx(row.scores["si_sdri"])
    wave, rate = soundfile.read(written / "0-1.wav")
    assert rate == RATE and wave.shape == (4800,) and (written / "1-mixture.wav").is_file()
    assert scores.read(tmp_path / "out") == [row]


@pytest.mark.parametrize(("task", "count"), [("ss", 3000), ("se", 824)])
def test_only_all_of_a_corpus_is_official(tmp_path, monkeypatch, task, count):
    config, tree = (SpeechSeparationConfig(), mixed) if task == "ss" else (SpeechEnhancementConfig(), noisy)
    root = tree(tmp_path / "data", 1600)
    (fold,) = of(config, root).folds()
    assert not fold.official and fold.parts.protocol.startswith(f"incomplete data: 2 of {count} test clips and 6 of ")
    for test, learnt, official in ((2, 6, True), (2, 7, False), (3, 6, False)):
        monkeypatch.setitem(COUNTS, task, COUNTS[task]._replace(test=(test,), learnt=learnt))
        (fold,) = of(config, root).folds()
        assert fold.official == official and fold.parts.protocol.startswith("SUPERB-SG: ") == official


def test_the_worst_mixtures_are_shown_with_their_estimates_beside_the_targets(tmp_path, monkeypatch):
    monkeypatch.setattr("pluri.benchmarks.superb_sg.probe.HEARD", 0)
    root = mixed(tmp_path / "mix", test=4)
    for name in ("1.wav", "3.wav"):  # the network's first voice is the second speaker's in every other mixture
        one, two = (root / "test" / folder / name for folder in ("s1", "s2"))
        kept = one.read_bytes()
        two.replace(one)
        two.write_bytes(kept)
    config = of(SpeechSeparationConfig(), root, steps=6)
    row, _ = run("ss", config, tmp_path / "out")
    folder = tmp_path / "out" / row.chosen[0]["sweeps"][0]
    figures = json.loads((folder / "0-0.01" / "clips.json").read_text())
    worst = sorted(figures, key=lambda name: figures[name]["si_sdri"])[:3]
    (found,) = mistakes.read(folder)
    assert found.words.startswith("the 3 of 4 test clips with the lowest si_sdri; the mean of all is ")
    assert [one.words for one in found.examples] == [
        f"{name}: si_sdri {figures[name]['si_sdri']:.2f}" for name in worst
    ]
    for name, example in zip(worst, found.examples, strict=True):
        assert example.called == ("mixture", "estimate 1", "target 1", "estimate 2", "target 2")
        mixture, *waves = (soundfile.read(sound.path)[0] for sound in example.sounds)
        first, one, second, two = waves
        assert example.sounds[0].path.endswith(f"test/mix_clean/{name}.wav") and np.allclose(
            one + two, mixture, atol=1e-3
        )
        assert si_sdr(first, one) + si_sdr(second, two) > si_sdr(first, two) + si_sdr(second, one)
    text = (tmp_path / "out" / "index.html").read_text()
    assert all(f"<figcaption>{one.words}</figcaption>" in text for one in found.examples)
    (folder / "0-0.01" / f"{worst[0]}-1.wav").unlink()  # as earlier sweeps left most clips
    run("ss", config, tmp_path / "out")
    assert mistakes.read(folder)[0].examples[0].called == ("mixture", "target 1", "estimate 2", "target 2")


def test_a_sweep_gives_each_rate_what_it_has_alone(tmp_path):
    config = of(SpeechSeparationConfig(), mixed(tmp_path / "mix"), steps=4)
    both, _ = run("ss", dataclasses.replace(config, lr=None, grid=(1e-2, 1e-3)), tmp_path / "both")
    for rate in (1e-2, 1e-3):
        alone, _ = run("ss", dataclasses.replace(config, lr=rate), tmp_path / f"{rate}")
        (cell,) = [one for one in both.chosen[0]["grid"] if one["lr"] == rate]
        assert cell["each"][0]["si_sdri"] == pytest.approx(alone.scores["si_sdri"], abs=1e-4)


def test_a_run_that_was_cut_off_ends_with_the_same_row(tmp_path, monkeypatch):
    config = of(SpeechSeparationConfig(), mixed(tmp_path / "mix"), steps=6, evaluations=3)
    whole, _ = run("ss", config, tmp_path / "whole")
    learn, calls = SeparatorHeads.learn, []

    def stop(*words):
        calls.append(words)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return learn(*words)

    monkeypatch.setattr(SeparatorHeads, "learn", stop)
    with pytest.raises(KeyboardInterrupt):
        run("ss", config, tmp_path / "cut")
    again, said = run("ss", config, tmp_path / "cut")
    assert again.each == whole.each and len(calls) == 7 and "0 to be encoded" in said


def test_noise_goes_and_pesq_chooses(tmp_path):
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    row, _ = run("se", of(SpeechEnhancementConfig(), noisy(tmp_path / "vbd")), tmp_path / "out")
    assert list(row.scores)[:3] == ["pesq", "stoi", "si_sdri"] and row.main == "pesq"
    assert row.scores["si_sdri"] > 2 and 1 <= row.scores["pesq"] < 4.7 and 0 < row.scores["stoi"] < 1
    lines = (next((tmp_path / "out" / "predictions").iterdir()) / "se" / "metrics.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["pesq", "stoi", "si_sdr"]


def test_enhancement_without_its_packages_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("pluri.benchmarks.superb_sg.signals.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install pesq pystoi"):
        run("se", of(SpeechEnhancementConfig(), noisy(tmp_path / "vbd")), tmp_path / "out")


def test_epochs_that_flow_into_one_another_are_noted():
    assert ACROSS in SpeechSeparationConfig().notes([]) and ACROSS in SpeechEnhancementConfig().notes([])


def test_separation_and_enhancement_stand_alone():
    assert {"superb/ss", "superb/se"} == set(tasks.ALONE) and not set(tasks.ALONE) & tasks.find("superb").keys()
    assert tasks.find("superb/ss") == {"superb/ss": task.ss()} and len(tasks.find("superb")) == 10


def test_what_cannot_be_used_is_said_in_one_line(tmp_path):
    config = of(SpeechSeparationConfig(), tmp_path)
    with pytest.raises(MissingFiles, match="Libri2Mix's wav16k/min"):
        run("ss", config, tmp_path / "out")
    with pytest.raises(MissingFiles, match="noisy_testset_wav_16k"):
        of(SpeechEnhancementConfig(), tmp_path).folds()
    with pytest.raises(ValueError, match="set --data.path"):
        of(SpeechSeparationConfig(), "").folds()
    root = mixed(tmp_path / "mix")
    write(root / "dev" / "s2" / "1.wav", np.zeros(4800))
    with pytest.raises(ValueError, match=r"s2.1.wav is silent"):
        run("ss", of(SpeechSeparationConfig(), root, steps=1), tmp_path / "silent")
    broken = root / "train-100" / "mix_clean" / "1.wav"
    soundfile.write(broken, np.full(4800, np.nan, np.float32), RATE, subtype="FLOAT")  # its header can be read
    with pytest.raises(ValueError, match=r"1 of 4 clips of train cannot be read, .*mix_clean/1.wav: has samples"):
        run("ss", of(SpeechSeparationConfig(), root, steps=1), tmp_path / "broken")
    (root / "dev" / "mix_clean" / "0.wav").unlink()
    (root / "dev" / "mix_clean" / "1.wav").unlink()
    with pytest.raises(ValueError, match="leaves nothing for dev"):
        run("ss", of(SpeechSeparationConfig(), root), tmp_path / "out")
    assert not list(Path(tmp_path / "out").glob("predictions"))

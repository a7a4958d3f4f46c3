# SPDX-License-Identifier: Apache-2.0
"""Silence is cut out of clips where sox cuts it, and ASV measures, crops and hears what is left."""

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pluri.benchmarks.superb.asv.silence import sounding, span, without_silence
from pluri.benchmarks.superb.asv.task import TrialCorpusConfig, VerificationConfig
from pluri.benchmarks.superb.clips import Clips
from pluri.benchmarks.superb.swept import departures
from pluri.benchmarks.superb.utterances import Parts, Slot, Trial, Utterance, heard_seconds, measured
from pluri.speech import audio

DATA = Path(os.environ.get("PLURI_TRIAL_DATA", "")) / "speech"
real = pytest.mark.skipif("PLURI_TRIAL_DATA" not in os.environ, reason="needs the trial data")
sox = pytest.mark.skipif(shutil.which("sox") is None, reason="needs sox")
EFFECTS = "channels 1 rate 16000 gain -3.0 silence 1 0.1 0.1% -1 0.1 0.1%".split()
RAW = "-t raw -e floating-point -b 32 -c 1 -r 16000".split()


def square(samples, level=0.1):
    """Each sample is as loud as the others."""
    return np.where(np.arange(samples) % 2, level, -level).astype(np.float32)


def zeros(samples):
    return np.zeros(samples, dtype=np.float32)


def joined(*parts):
    return np.concatenate(parts)


# One sample of 0.1 makes the 320 of a window loud, so that sound goes on for 319 after the last one; of 0.002 it takes
# 160 samples. By default a clip begins at 0.
HAND_MADE = {
    "no samples of sound": (zeros(20_000), ()),
    "sound throughout": (square(20_000), ((0, 20_000),)),
    "sound between silence": (joined(zeros(5000), square(3000), zeros(4000)), ((5000, 8319),)),
    "a shorter end stays": (joined(square(3000), zeros(1918)), ((0, 4918),)),
    "an end of 0.1 s does not": (joined(square(3000), zeros(1919)), ((0, 3319),)),
    "a shorter pause stays": (joined(square(3000), zeros(1918), square(3000)), ((0, 7918),)),
    "a pause of 0.1 s does not": (joined(square(3000), zeros(1919), square(3000)), ((0, 3319), (4919, 7919))),
    "too short for sound": (joined(zeros(1000), square(1280), zeros(5000)), ()),
    "long enough for sound": (joined(zeros(1000), square(1281), zeros(5000)), ((1000, 2600),)),
    "too short as a clip": (square(1599), ()),
    "long enough as a clip": (square(1600), ((0, 1600),)),
    "a single sample": (square(1), ()),
    "low sound is noticed late": (joined(zeros(1000), square(4000, 0.002), zeros(4000)), ((1159, 5160),)),
    "where the search begins anew, nothing has been heard": (
        joined(square(5000), zeros(1819), square(6000, 0.002)),
        ((0, 5319), (6919 + 159, 12_819)),
    ),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_clips_are_cut_where_the_rules_say(name):
    wave, expected = HAND_MADE[name]
    assert sounding(wave) == expected


def by_sox(*source):
    done = subprocess.run(["sox", "-D", *source, *RAW, "-", *EFFECTS], capture_output=True, check=True)
    return np.frombuffer(done.stdout, dtype=np.float32)


def cut(wave):
    """What the clips of the task hear."""
    parts = [wave[first:last] for first, last in sounding(wave)]
    return joined(zeros(0), *parts) * np.float32(10 ** (-3 / 20))


def same(wave, oracle):
    return len(oracle) == len(cut(wave)) and np.abs(oracle - cut(wave)).max(initial=0.0) < 1e-7


def bursts(rng, pause, noise):
    time = np.arange(16_000) / 16_000
    parts = [zeros(int(rng.integers(1, 4000)))]
    for _ in range(5):
        length = int(rng.integers(200, 9000))
        level = 10 ** rng.uniform(-3, 0)
        parts += [np.float32(level * np.sin(2 * np.pi * rng.uniform(80, 2000) * time[:length])), zeros(pause)]
    wave = joined(*parts)
    return (wave + noise * rng.standard_normal(len(wave))).clip(-1, 1).astype(np.float32)


@sox
def test_sox_cuts_the_hand_made_clips_and_noisy_bursts_at_the_same_samples(tmp_path):
    rng = np.random.default_rng(0)
    waves = [wave for wave, _ in HAND_MADE.values()]
    for pause in (0.05, 0.09, 0.1, 0.11, 0.12, 0.5):
        waves += [bursts(rng, round(pause * 16_000), noise) for noise in (0.0, 3e-5, 1e-3, 1.4e-3, 1.5e-3) * 2]
    cuts = 0
    for wave in waves:
        wave.tofile(tmp_path / "wave.raw")
        assert same(wave, by_sox(*RAW, str(tmp_path / "wave.raw")))
        cuts += len(sounding(wave))
    assert cuts > len(waves)


@sox
@real
def test_sox_cuts_real_clips_at_the_same_samples(tmp_path):
    paths = sorted((DATA / "an4" / "wav").rglob("*.wav"))[::40]
    paths += sorted((DATA / "ami_debug").rglob("*.wav"))[:1] + sorted((DATA / "emodb").rglob("*.wav"))[::60]
    shorter = 0
    for path in paths:
        wave = audio.read(path, seconds=30.0).numpy()
        for noise in (0.0, 0.0005):
            noisy = (wave + noise * np.random.default_rng(0).standard_normal(len(wave))).clip(-1, 1)
            soundfile.write(tmp_path / "clip.wav", noisy, 16_000, subtype="FLOAT" if noise else "PCM_16")
            read = audio.read(tmp_path / "clip.wav").numpy()
            assert same(read, by_sox(str(tmp_path / "clip.wav")))
            shorter += len(cut(read)) < len(read)
    assert shorter > len(paths) / 4


def test_a_span_of_what_is_left_is_that_of_the_cut_wave():
    kept, wave = ((100, 900), (5000, 21_000), (30_000, 30_500)), np.arange(40_000)
    left = joined(*(wave[first:last] for first, last in kept))
    assert heard_seconds(kept) == len(left) / 16_000
    for first, last in ((0, 8000), (700, 900), (800, 16_800), (16_000, 17_300), (0, 17_300)):
        taken = span(kept, first / 16_000, (last - first) / 16_000)
        assert np.array_equal(joined(*(wave[start:end] for start, end in taken)), left[first:last])


def write(path, wave):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    return path


def spoken(name, path):
    return Utterance(name, path, speaker="ann", labels=("ann",))


def parts(folder, train, test):
    utterances = [
        [spoken(f"{part}{i}", write(folder / f"{part}{i}.wav", wave)) for i, wave in enumerate(waves)]
        for part, waves in (("train", train), ("test", test))
    ]
    trials = (Trial(True, "test0", "test1"), Trial(False, "test0", "test0"))
    return measured(Parts(utterances[0], [], utterances[1], "made", [], (Slot("speaker", ("ann",)),), trials))


PAUSE = joined(zeros(2000), square(8000), zeros(6000), square(8000), zeros(2000))


def test_what_is_left_of_clips_of_training_and_of_trials_is_known_and_silent_ones_are_named(tmp_path):
    silent = zeros(16_000)
    before = parts(tmp_path, [PAUSE] * 20 + [silent], [PAUSE, silent, silent])
    after = without_silence(before, -3.0, 2)
    ((place, why),) = after.skipped
    assert place == str(tmp_path / "train20.wav") and why.startswith("silence throughout; --silence keep")
    assert len(after.train) == 20 and after.test == before.test
    stretches = ((2000, 10_319), (16_000, 24_319))
    # The last one occurs in no trial.
    assert after.kept == {**dict.fromkeys((*after.train, after.test[0]), stretches), after.test[1]: ()}
    with pytest.raises(ValueError, match=r"2 of 21 clips of train .* more than 5 %.*train19.wav: silence throughout"):
        without_silence(parts(tmp_path, [PAUSE] * 19 + [silent] * 2, [PAUSE, silent]), -3.0, 2)


def test_a_clip_of_trials_that_cannot_be_decoded_is_named(tmp_path):
    made = parts(tmp_path, [PAUSE], [PAUSE, PAUSE])
    (tmp_path / "test1.wav").write_bytes(b"no audio")
    with pytest.raises(ValueError, match=r"test1.wav: cannot be decoded.*fewer test clips"):
        without_silence(made, -3.0, 2)


def test_clips_hear_what_is_left_and_have_another_store(tmp_path):
    utterance = spoken("one", write(tmp_path / "one.wav", PAUSE))._replace(start=0.05, end=1.5)
    kept, whole, left = sounding(PAUSE[800:24_000]), Clips(-3.0), Clips(-3.0)
    assert whole.add(utterance) == left.add(utterance, kept) == 0
    assert torch.equal(left.read(0), torch.from_numpy(cut(PAUSE[800:24_000])))
    assert len(left.read(0)) == round(left.seconds(0) * 16_000) == 2 * 8319 - 319
    assert len(whole.read(0)) == round(whole.seconds(0) * 16_000) == 23_200
    assert left.hash() != whole.hash()
    assert left.add(utterance) == 1 and left.add(utterance, kept) == 0


def manifest(folder, waves):
    rows = ["path\tlabel\tsplit"]
    for part, speakers in (("train", "ab"), ("dev", "cd"), ("test", "ef")):
        for speaker in speakers:
            for i, wave in enumerate(waves):
                write(folder / f"{speaker}{i}.wav", wave)
                rows.append(f"{speaker}{i}.wav\t{speaker}\t{part}")
    (folder / "voices.tsv").write_text("\n".join(rows) + "\n")
    return str(folder / "voices.tsv")


def test_clips_are_cut_before_they_are_measured_and_cropped_unless_pauses_are_kept(tmp_path):
    pause = zeros(16_000)
    long = joined(pause, square(20_000), pause, square(20_000), pause)
    short = joined(pause, square(5000), pause)
    path = manifest(tmp_path, [long, short])
    found = {}
    for silence in ("cut", "keep"):
        fields = {"data": TrialCorpusConfig(path=path), "shortest": 0.5, "longest": 2.0, "crops": 3}
        config = dataclasses.replace(VerificationConfig(), silence=silence, **fields)
        (fold,) = config.folds()
        clips = Clips(config.gain)
        config.prepare(fold, clips)
        said = " ".join(config.notes([fold]))
        assert ("2 of 4 training clips are without their silence no longer than 0.5 s" in said) == (silence == "cut")
        assert ("silence" in departures(config)) == (silence == "keep")
        found[silence] = [clips.read(number) for number in range(len(clips))]
    left = torch.from_numpy(cut(long))
    assert [len(wave) for wave in found["cut"][:2]] == [len(left), 5319]  # of the first trials
    crops = [left[start : start + 32_000] for start in (0, (len(left) - 32_000) // 2, len(left) - 32_000)]
    assert len(found["cut"]) == 4 + 2 * 3
    assert all(torch.equal(one, wave) for one, wave in zip(crops, found["cut"][4:7], strict=True))
    assert [len(wave) for wave in found["keep"][:2]] == [len(long), len(short)] and len(found["keep"]) == 4 + 4 * 3


def test_a_silent_clip_of_trials_is_heard_as_it_is_and_that_is_said(tmp_path):
    config = dataclasses.replace(VerificationConfig(), shortest=0.1)
    path = Path(manifest(tmp_path, [PAUSE, PAUSE, PAUSE]))
    write(tmp_path / "e0.wav", zeros(8000))
    config = dataclasses.replace(config, data=TrialCorpusConfig(path=str(path)))
    (fold,) = config.folds()
    assert any(note.startswith("1 clips of trials are silence throughout") for note in config.notes([fold]))
    clips = Clips(config.gain)
    config.prepare(fold, clips)
    assert len(clips.read(0)) == 8000

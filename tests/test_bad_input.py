# SPDX-License-Identifier: Apache-2.0
"""Bad input ends in one line that says what to do, or in an item that is skipped and named; never in a traceback."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pluri.speech import audio
from pluri.speech.corpus import AudioDataConfig
from pluri.ssl.data import BadItem, Loader
from pluri.text.corpus import TextDataConfig
from pluri.vision.images import ImageDataConfig

TYPING = Path(__file__).resolve().parents[1] / ".typing"


def pluri(*words: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(TYPING), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "pluri", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)


def settings(name: str, methods) -> list[str]:
    return [str(word) for field, value in methods[name][1].items() for word in (f"--{field}", value)]


@pytest.mark.parametrize("name", ["text/bert_tiny", "speech/wav2vec2_tiny", "vision/byol_tiny"])
def test_wrong_paths_and_empty_folders_end_in_one_line(name, tmp_path):
    (tmp_path / "empty").mkdir()
    for words, expected in (
        ([], "set --data.path"),
        (["--data.path", tmp_path / "nowhere"], "set --data.path"),
        (["--data.path", tmp_path / "empty"], "no "),
    ):
        done = pluri("pretrain", name, "--out", tmp_path / "run", *words)
        assert done.returncode == 2, done.stderr
        assert expected in done.stderr and "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "run").exists()


def test_wrong_overrides_are_refused_with_the_nearest_right_one(tmp_path):
    done = pluri("pretrain", "text/bert_tiny", "--data.pth", "x")
    assert done.returncode == 2 and "--data.path" in done.stderr + done.stdout
    done = pluri("pretrain", "text/bert_tiny", "--steps", "many")
    assert done.returncode == 2 and "steps" in done.stderr + done.stdout
    done = pluri("pretrain", "speech/wav2vec_tiny")
    assert done.returncode == 2 and "did you mean speech/wav2vec2_tiny" in done.stderr
    done = pluri("pretrian", "text/bert")
    assert done.returncode == 2 and "pretrain" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_for_another_modality_is_refused(samples, tmp_path):
    done = pluri("pretrain", "vision/byol_tiny", "--data.path", samples["speech"], "--out", tmp_path / "run")
    assert done.returncode == 2 and "no images in" in done.stderr and "Traceback" not in done.stderr


def spoil_speech(folder: Path, speech: Path) -> set[str]:
    """A copy of the speech with every kind of bad file in it; returns the names of those that must be named."""
    for copy in range(4):
        shutil.copytree(speech, folder / f"good{copy}")
    (folder / "notes.wav").write_text("this is no audio\n" * 50)
    good = next(speech.rglob("*.flac"))
    (folder / "cut.flac").write_bytes(good.read_bytes()[: good.stat().st_size // 3])
    (folder / "empty.wav").write_bytes(b"")
    wave = np.zeros(8000, dtype=np.float32)
    wave[100] = np.nan
    soundfile.write(folder / "nan.wav", wave, 16000, subtype="FLOAT")
    soundfile.write(folder / "one.wav", np.zeros(1, dtype=np.float32), 16000)
    return {"notes.wav", "cut.flac", "empty.wav", "nan.wav"}


def test_bad_audio_is_skipped_and_named(samples, tmp_path):
    bad = spoil_speech(tmp_path / "speech", samples["speech"])
    data = AudioDataConfig(path=str(tmp_path / "speech"), held_out=0.0, shortest=0.1).build("train", tmp_path)
    named = {Path(name).name for name, _ in data.bad}
    for loaded in Loader(dataset=data, batch=20.0, seed=0).all():
        named |= {Path(name).name for name, _ in loaded.bad}
        assert loaded.batch is None or torch.isfinite(loaded.batch.inputs).all()
    assert bad <= named and len(named - bad) == 0
    assert data.left_out == 1  # the clip of one sample is too short to be used, and nothing is wrong with it


def test_a_run_on_a_folder_with_bad_files_learns_from_the_rest(samples, methods, tmp_path):
    bad = spoil_speech(tmp_path / "speech", samples["speech"])
    run = tmp_path / "run"
    words = settings("speech/wav2vec2_tiny", methods)
    words += ["--steps", "30", "--loop.workers", "2", "--data.held-out", "0.0", "--batch", "6"]
    done = pluri("pretrain", "speech/wav2vec2_tiny", "--out", run, "--data.path", tmp_path / "speech", *words)
    assert done.returncode == 0, done.stderr
    rows = (run / "bad_items.jsonl").read_text().splitlines()
    assert bad <= {Path(json.loads(line)["item"]).name for line in rows}
    assert f"{len(rows)} items could not be used: {run / 'bad_items.jsonl'} says why" in done.stdout


def test_a_folder_of_rubbish_stops_the_run(tmp_path):
    for i in range(40):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{i}.png").write_bytes(b"" if i % 2 else b"\x89PNG\r\n\x1a\nrubbish")
    done = pluri(
        "pretrain", "vision/vicreg_tiny", "--out", tmp_path / "run", "--data.path", tmp_path / "images", "--batch", 8
    )
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr and "bad" in done.stderr


def test_bad_images_are_skipped_and_named(samples, tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    shutil.copytree(samples["images"], folder)
    (folder / "zero.png").write_bytes(b"")
    good = next(samples["images"].rglob("*.png"))
    (folder / "cut.png").write_bytes(good.read_bytes()[:200])
    (folder / "text.jpg").write_text("no picture")
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(folder / "pixel.png")
    Image.fromarray(np.zeros((3, 900), np.uint16)).save(folder / "deep.png")
    data = ImageDataConfig(path=str(folder), size=32, held_out=0.0).build("train", tmp_path)
    loaded = list(Loader(dataset=data, batch=16, seed=0).all())
    named = {Path(name).name for one in loaded for name, _ in one.bad}
    assert named == {"zero.png", "cut.png", "text.jpg"}
    assert sum(len(one.batch.inputs) for one in loaded if one.batch) == 50


@pytest.mark.parametrize("kind", ["one line", "no spaces", "zero bytes", "not utf-8", "blank"])
def test_strange_text_is_read_or_named(kind, tmp_path):
    path = tmp_path / "strange.txt"
    content = {
        "one line": b"word " * 400_000 + b". The end of it. " * 100,
        "no spaces": b"x" * 2_000_000,
        "zero bytes": b"some text\0more\n" * 100,
        "not utf-8": "Grüße aus Köln. Noch ein Satz.\n\n".encode("latin-1") * 200,
        "blank": b"\n \n\t\n" * 100,
    }[kind]
    path.write_bytes(content)
    (tmp_path / "good.txt").write_text("One sentence here. And a second one.\n\n" * 50)
    config = TextDataConfig(path=str(tmp_path), vocab_size=200, longest=32, held_out=0.0)
    data = config.build("train", tmp_path / "cache")
    epoch = data.epoch(0)
    assert len(epoch.records) > 10
    lengths = [len(data.load(record, 0).inputs) for record in epoch.records]
    assert max(lengths) <= 32
    assert bool([name for name, _ in data.bad if name.endswith("strange.txt")]) == (kind in ("zero bytes", "not utf-8"))


@pytest.mark.slow
def test_a_line_of_a_hundred_megabytes_is_worked_through(tmp_path):
    path = tmp_path / "line.txt"
    path.write_bytes(
        b"all work and no play makes a dull line " * 2_700_000 + b"\n\nAnother document. Of two sentences.\n"
    )
    data = TextDataConfig(path=str(path), vocab_size=200, longest=128, held_out=0.0).build("train", tmp_path / "cache")
    assert data.epoch(0).sizes.sum() > 5_000_000


def test_audio_errors_say_what_is_wrong(tmp_path):
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(BadItem, match="no audio"):
        audio.probe(tmp_path / "text.wav")
    soundfile.write(tmp_path / "short.wav", np.zeros(160, np.float32), 16000)
    with pytest.raises(BadItem, match="too short"):
        audio.read(tmp_path / "short.wav", shortest=0.5)

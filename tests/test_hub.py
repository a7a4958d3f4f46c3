# SPDX-License-Identifier: Apache-2.0
"""Data sets of the hub: what `datasets` stores is written as files that are read as any others."""

import io

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from pluri.speech.corpus import AudioDataConfig
from pluri.ssl.hub import as_files
from pluri.text.corpus import TextDataConfig
from pluri.text.documents import documents
from pluri.vision.images import ImageDataConfig

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def store(folder, columns, features):
    """A data set as the hub stores it: a folder with a parquet file of the split "train"."""
    folder.mkdir()
    table = pyarrow.Table.from_pydict(columns, schema=datasets.Features(features).arrow_schema)
    parquet.write_table(table, folder / "train.parquet")
    return f"hf:{folder}"


def test_texts_become_documents(tmp_path):
    texts = ["One sentence.\n\nAnother, after an empty line.", "", "Zwei. Drei."] + [
        f"Document {i}." for i in range(30)
    ]
    name = store(tmp_path / "texts", {"text": texts}, {"text": datasets.Value("string")})
    folder = as_files(name, "text", tmp_path / "cache")
    bad = []
    found = [document for file in folder.iterdir() for document in documents(file, bad)]
    assert found[:2] == [["One sentence.", "Another, after an empty line."], ["Zwei. Drei."]]
    assert len(found) == 32 and not bad
    data = TextDataConfig(path=name, vocab_size=60, pairs=False).build("train", tmp_path / "cache")
    assert len(data.epoch(0).records) > 0


def test_audio_is_written_as_it_is_stored(tmp_path):
    waves, stored = [], []
    for i, kind in enumerate(("FLAC", "WAV", "OGG")):
        wave = np.sin(np.arange(16000 * (i + 1)) * 0.05).astype(np.float32) * 0.3
        file = io.BytesIO()
        soundfile.write(file, wave, 16000, format=kind)
        waves.append(wave)
        stored.append({"bytes": file.getvalue(), "path": None if i else "first.flac"})
    name = store(
        tmp_path / "audio", {"sound": stored, "n": [0, 1, 2]}, {"n": datasets.Value("int64"), "sound": datasets.Audio()}
    )
    data = AudioDataConfig(path=name, held_out=0.0).build("train", tmp_path / "cache")
    records, seconds = data.epoch(0)
    assert sorted(seconds) == pytest.approx([1.0, 2.0, 3.0])
    for record, length in zip(records, seconds, strict=True):
        wave = torch.from_numpy(waves[round(length) - 1])
        assert (data.load(record, 0).inputs - wave).abs().max() < (0.05 if length > 2.5 else 1e-3)


def test_images_go_to_a_folder_for_each_class(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), dtype=np.uint8)
    stored = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        stored.append({"bytes": file.getvalue(), "path": None})
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    name = store(tmp_path / "images", {"image": stored, "label": [0, 1, 0, 1, 0, 1]}, features)
    data = ImageDataConfig(path=name, size=9, held_out=0.0).build("train", tmp_path / "cache")
    assert data.classes == ["cat", "dog"]
    records, _ = data.epoch(0)
    for record in records:
        number = int(data.name(record).split("/")[-1].removesuffix(".png"))
        assert data.label(record) == number % 2
        assert (data.load(record, 0).inputs.permute(1, 2, 0).numpy() == pixels[number]).all()


def test_a_second_use_reads_the_files_that_are_there(tmp_path, monkeypatch):
    name = store(tmp_path / "texts", {"text": ["One.", "Two."]}, {"text": datasets.Value("string")})
    folder = as_files(name, "text", tmp_path / "cache")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("it was there"))
    assert as_files(name, "text", tmp_path / "cache") == folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]


@pytest.mark.parametrize("kind", ["text", "audio", "image"])
def test_a_data_set_without_the_column_and_one_that_is_not_there_are_refused(kind, tmp_path):
    name = store(tmp_path / "numbers", {"n": [1, 2]}, {"n": datasets.Value("int64")})
    with pytest.raises(ValueError, match="no column.*it has n"):
        as_files(name, kind, tmp_path / "cache")
    with pytest.raises(ValueError, match="cannot be had"):
        as_files(f"hf:{tmp_path / 'nowhere'}", kind, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_other_paths_are_left_as_they_are(tmp_path):
    assert as_files(str(tmp_path), "text", tmp_path / "cache") == tmp_path

# SPDX-License-Identifier: Apache-2.0
"""Pieces of sound files: read as stored, resampled as torchaudio does it, and refused where too short."""

import math
import struct

import numpy as np
import pytest
import soundfile
import torch

from pluri.speech import audio
from pluri.ssl.data import BadItem


def chord(rate):
    """0.7 s in stereo of what 16 kHz can hold, sampled at any rate."""
    time = np.arange(round(rate * 0.7)) / rate
    left = 0.3 * np.sin(2 * math.pi * 440 * time) + 0.2 * np.sin(2 * math.pi * 1200 * time + 1)
    return np.stack([left, 0.5 * left], axis=1)


@pytest.mark.parametrize("suffix", ["flac", "wav"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_pieces_of_files_of_any_rate_equal_torchaudio_resampling(rate, suffix, tmp_path):
    functional = pytest.importorskip("torchaudio.functional")
    path = tmp_path / f"chord.{suffix}"
    soundfile.write(path, chord(rate), rate)
    stored = torch.from_numpy(soundfile.read(path, dtype="float32")[0]).mean(1)
    assert audio.probe(path) == (len(stored), rate)
    for start, seconds in ((0.0, None), (0.1, 0.25), (0.5, 5.0)):
        first, count = round(start * rate), len(stored) if seconds is None else round(seconds * rate)
        wanted = functional.resample(stored[first : first + count], rate, 16000)
        found = audio.read(path, start, seconds)
        assert found.dtype == torch.float32 and found.shape == wanted.shape
        assert (found - wanted).abs().max() <= 1e-6
        assert abs(len(found) - 16000 * min(seconds or 9, 0.7 - start)) <= 1
    # And it is the sound that was written, wherever the filter does not reach beyond the ends.
    at_16k = chord(16000).mean(1)
    whole = audio.read(path).numpy()
    count = min(len(whole), len(at_16k))
    assert np.abs(whole[:count] - at_16k[:count])[100:-100].max() < 3e-3


def test_samples_are_read_as_they_are_stored(tmp_path):
    wave = np.array([[0.5, -0.25], [1.0, 1.0], [-1.0, 0.5]] * 100, dtype=np.float32)
    soundfile.write(tmp_path / "float.wav", 2 * wave, 16000, subtype="FLOAT")
    assert torch.equal(audio.read(tmp_path / "float.wav"), torch.from_numpy(2 * wave).mean(1))
    soundfile.write(tmp_path / "deep.flac", wave * 0.999, 16000, subtype="PCM_24")
    assert np.abs(audio.read(tmp_path / "deep.flac").numpy() - (wave * 0.999).mean(1)).max() < 1e-6


def test_what_is_too_short_or_past_the_end_is_a_bad_item(tmp_path):
    soundfile.write(tmp_path / "a.wav", chord(8000), 8000)
    for start, shortest in ((0.7, 0.0), (5.0, 0.0), (0.5, 0.3)):
        with pytest.raises(BadItem, match="too short"):
            audio.read(tmp_path / "a.wav", start, shortest=shortest)
    with pytest.raises(BadItem):
        audio.read(tmp_path / "nowhere.wav")


def chunk(name, body, order="<", size=None):
    """A chunk of RIFF or IFF, padded to even bytes; `size` is what it says of itself."""
    return name + struct.pack(f"{order}I", len(body) if size is None else size) + body + bytes(len(body) % 2)


FORMAT = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 16000, 1, 8))  # 8 bits, so that data may be odd
SAMPLES = bytes(range(1, 256)) * 37  # 9435 of them


def wav(*chunks, kind=b"RIFF", size=None):
    body = b"WAVE" + b"".join(chunks)
    return kind + struct.pack("<I", len(body) if size is None else size) + body


def intact(kind, tmp_path):
    """The bytes of a whole file, where its last sample ends, and how many frames it has."""
    if kind in ("WAV", "WAVEX", "RF64", "AIFF", "OGG"):
        wave = np.tile(chord(16000), (20, 1))  # of several pages in Ogg
        soundfile.write(tmp_path / "whole", wave, 16000, format=kind)
        content = (tmp_path / "whole").read_bytes()
        return content, len(content), len(wave)
    before, after = chunk(b"LIST", b"INFOodd"), chunk(b"id3 ", b"and behind the samples" * 9)
    data = chunk(b"data", SAMPLES)
    if kind == "extra chunks":
        return wav(before, FORMAT, before, data, after), len(wav(before, FORMAT, before, data)) - 1, len(SAMPLES)
    return wav(FORMAT, data), len(wav(FORMAT, data)) - 1, len(SAMPLES)  # "odd": the last byte is no sample


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "AIFF", "OGG", "extra chunks", "odd"])
def test_a_file_that_ends_before_its_samples_do_is_a_bad_item_and_a_whole_one_is_none(kind, tmp_path):
    content, end, frames = intact(kind, tmp_path)
    path = tmp_path / "clip"
    for whole in (content, content[:end]):  # with and without what stands behind the samples
        path.write_bytes(whole)
        assert audio.probe(path) == (frames, 16000) and len(audio.read(path)) == frames
    for cut in (end - 1, end * 9 // 10, end * 2 // 3):
        path.write_bytes(content[:cut])
        for use in (audio.probe, audio.read, lambda path: audio.read(path, 0.0, 0.01)):
            with pytest.raises(BadItem, match=r"cut off: \d+ bytes of .* where its header promises \d+") as error:
                use(path)
            assert "\n" not in str(error.value)
    if kind in ("extra chunks", "odd"):
        path.write_bytes(content[: end - 100])
        with pytest.raises(BadItem, match="cut off: 9335 bytes of samples where its header promises 9435"):
            audio.probe(path)


@pytest.mark.parametrize(
    ("whole", "data"),
    [(8, 0), (0, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (0x80000024, 0x80000000)],
)
def test_sizes_that_writers_to_a_pipe_leave_promise_nothing(whole, data, tmp_path):
    path = tmp_path / "piped.wav"
    for count in (9000, 8000):
        path.write_bytes(wav(FORMAT, chunk(b"data", SAMPLES[:count], size=data), size=whole))
        assert audio.probe(path) == (count, 16000) and len(audio.read(path)) == count

# SPDX-License-Identifier: Apache-2.0
"""Small corpora of each kind, made once a session: uneven, in real formats, the same on every machine."""

import random
from pathlib import Path

import numpy as np
import pytest

# Each modality's small recipes, and what makes a step of theirs a matter of milliseconds.
SMALL_TEXT = {"front_end.vocab-size": 300, "data.vocab-size": 300, "data.longest": 32, "batch": 200}
SMALL_SPEECH = {"data.longest": 1.0, "data.shortest": 0.1, "batch": 4}
SMALL_IMAGES = {"batch": 12}
METHODS = {
    "text/bert_tiny": ("text", SMALL_TEXT),
    "speech/mockingjay_tiny": ("speech", SMALL_SPEECH),
    "speech/wav2vec2_tiny": ("speech", {**SMALL_SPEECH, "front-end.channels": 32}),
    "vision/byol_tiny": ("images", SMALL_IMAGES),
    "vision/vicreg_tiny": ("images", SMALL_IMAGES),
}


def write_text(path: Path) -> None:
    """40 documents of sentences of made-up words, whose frequencies fall as Zipf's law says."""
    rng = random.Random(0)
    words = ["".join(rng.choice("abcdefghijklmnoprstuw") for _ in range(rng.randint(2, 9))) for _ in range(400)]
    weights = [1 / (i + 1) for i in range(400)]
    documents = []
    for _ in range(40):
        lines = [
            " ".join(rng.choices(words, weights, k=rng.randint(3, 14))).capitalize() + "."
            for _ in range(rng.randint(2, 9))
        ]
        documents.append("\n".join(lines))
    path.write_text("\n\n".join(documents) + "\n")


def write_speech(folder: Path) -> None:
    """36 clips of 0.2 to 1.6 s, harmonic tones with noise; three rates, one stereo."""
    import soundfile

    rng = np.random.default_rng(0)
    for i in range(36):
        rate = (16000, 8000, 22050)[i % 3]
        time = np.arange(int(rate * (0.2 + 1.4 * rng.random()))) / rate
        pitch = 100 + 150 * rng.random()
        wave = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6)) * 0.1
        wave = wave + 0.01 * rng.standard_normal(len(time))
        if i == 0:
            wave = np.stack([wave, wave], 1)
        place = folder / str(i % 4)
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{i:02d}.{'flac' if i % 2 else 'wav'}", wave, rate)


def write_images(folder: Path) -> None:
    """48 pictures of 20 to 60 pixels in two classes of stripes; RGB, grey, palette and with transparency."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(48):
        height, width = rng.integers(20, 60, 2)
        axis = np.arange(height)[:, None] if i % 2 else np.arange(width)[None]
        base = 127 + 100 * np.sin(axis * (0.2 + 0.3 * rng.random())) * np.ones((height, width))
        pixels = (base[..., None] * rng.random(3) + 20 * rng.random((height, width, 3))).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(pixels).convert(("RGB", "L", "P", "RGBA")[i % 4])
        place = folder / ("across", "down")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{i:02d}.png")


@pytest.fixture(scope="session")
def samples(tmp_path_factory) -> dict[str, Path]:
    """A text file, a folder of speech and a folder of images in two classes."""
    root = tmp_path_factory.mktemp("samples")
    paths = {"text": root / "corpus.txt", "speech": root / "speech", "images": root / "images"}
    write_text(paths["text"])
    write_speech(paths["speech"])
    write_images(paths["images"])
    return paths


@pytest.fixture(scope="session")
def methods() -> dict[str, tuple[str, dict[str, object]]]:
    """The tiny recipe of each method, which samples it takes, and overrides that make its steps short."""
    return METHODS

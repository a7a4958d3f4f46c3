# SPDX-License-Identifier: Apache-2.0
"""The corpus of a run: items as transformers lays them out, a shard that is made once, and what is held out."""

import shutil

import numpy as np
import pytest

from pluri.ssl import draw
from pluri.text import corpus, tokenizer
from pluri.text.corpus import TextDataConfig
from pluri.text.documents import documents


def document_of(shard, tokens):
    """Which document each token belongs to."""
    return np.searchsorted(shard.sentences[shard.documents], tokens, side="right") - 1


def build(path, cache, split="train", **settings):
    settings = {"vocab_size": 300, "longest": 32, "held_out": 0.0, **settings}
    return TextDataConfig(path=str(path), **settings).build(split, cache)


def test_items_are_laid_out_as_transformers_lays_out_pairs(samples, vocabulary, tmp_path):
    transformers = pytest.importorskip("transformers")
    data = build(samples["text"], tmp_path, tokenizer=str(vocabulary[0] / "text"))
    theirs = transformers.BertTokenizerFast.from_pretrained(vocabulary[0] / "text")
    epoch = data.epoch(draw.key(0))
    assert epoch.sizes.max() <= 32 and len(epoch.records) == len(epoch.sizes) > 40
    for record, size in zip(epoch.records, epoch.sizes, strict=True):
        item = data.load(record, 0)
        a, b = (data.shard.tokens[start:end].tolist() for start, end in (record[1:3], record[3:5]))
        wanted = theirs.prepare_for_model(a, b)
        assert item.inputs[:, 0].tolist() == wanted["input_ids"]
        assert item.inputs[:, 1].tolist() == wanted["token_type_ids"]
        assert int(item.extras["is_random"]) == record[5] and len(item.inputs) == size


def test_plain_items_are_the_text_itself(samples, vocabulary, tmp_path):
    data = build(samples["text"], tmp_path, tokenizer=str(vocabulary[0] / "json"), pairs=False)
    epoch = data.epoch(0)
    text = {}
    for record, size in zip(epoch.records, epoch.sizes, strict=True):
        ids = data.load(record, 0).inputs.tolist()
        assert ids[0] == 2 and ids[-1] == 3 and len(ids) == size
        text[int(record[1])] = ids[1:-1]
    lines = [line for document in documents(samples["text"], []) for line in document]
    wanted = [number for line in lines for number in vocabulary[1].encode(line).ids]
    assert [number for _, ids in sorted(text.items()) for number in ids] == wanted


def test_a_shard_holds_the_documents_and_sentences_of_the_file(vocabulary, tmp_path):
    (tmp_path / "a.txt").write_text("One two. Three four!\nFive.\n\n\n今天下雨。我们在家。\n", encoding="utf-8")
    data = build(tmp_path / "a.txt", tmp_path / "cache", tokenizer=str(vocabulary[0] / "text"))
    wanted = ["One two.", "Three four!", "Five.", "今天下雨。", "我们在家。"]
    found = [
        data.shard.tokens[start:end].tolist()
        for start, end in zip(data.shard.sentences[:-1], data.shard.sentences[1:], strict=True)
    ]
    assert found == [vocabulary[1].encode(sentence).ids for sentence in wanted]
    assert data.shard.documents.tolist() == [0, 3, 5] and len(data.names) == 2


def test_a_second_build_reads_and_tokenises_nothing(samples, tmp_path, monkeypatch):
    path = tmp_path / "corpus.txt"
    shutil.copy(samples["text"], path)
    first = build(path, tmp_path / "cache")
    epoch = first.epoch(7)

    def refuse(*_):
        raise AssertionError("the corpus was read again")

    with monkeypatch.context() as patched:
        for name in ("documents", "sentences"):
            patched.setattr(corpus, name, refuse)
        patched.setattr(tokenizer, "train_wordpiece", refuse)
        second = build(path, tmp_path / "cache", split="held_out", held_out=1.0, longest=32)
        assert isinstance(second.shard.tokens, np.memmap)
        assert (second.epoch(7).records == epoch.records).all()
        assert second.tokenizer.to_str() == first.tokenizer.to_str()
        with path.open("a") as file:
            file.write("\nSomething new.\n")
        with pytest.raises(AssertionError, match="read again"):
            build(path, tmp_path / "cache")
    assert len(build(path, tmp_path / "cache").names) == len(first.names) + 1


def test_held_out_documents_are_never_trained_on_and_stay_held_out(samples, vocabulary, tmp_path):
    settings = {"held_out": 0.3, "tokenizer": str(vocabulary[0] / "text")}
    parts = {split: build(samples["text"], tmp_path, split=split, **settings) for split in ("train", "held_out")}
    owned = {split: set(data.documents.tolist()) for split, data in parts.items()}
    assert owned["train"] | owned["held_out"] == set(range(40)) and not owned["train"] & owned["held_out"]
    assert 5 <= len(owned["held_out"]) <= 20
    for pairs in (True, False):
        for split in parts:
            data = build(samples["text"], tmp_path, split=split, pairs=pairs, **settings)
            for key in range(5):
                records = data.epoch(key).records
                used = set(document_of(data.shard, records[:, 1])) | set(document_of(data.shard, records[:, 4] - 1))
                assert used == owned[split]
    names = {parts["held_out"].names[i] for i in owned["held_out"]}
    turned = tmp_path / "turned.txt"  # the same documents in another file, the other way round, with others before
    whole = samples["text"].read_text().strip().split("\n\n")
    turned.write_text("\n\n".join(["Quite another one.", *reversed(whole)]))
    data = build(turned, tmp_path, split="held_out", **settings)
    assert {data.names[i] for i in data.documents} - {data.names[0]} == names  # the one before may fall either way


def test_each_epoch_cuts_anew_and_windows_limit_it(samples, vocabulary, tmp_path):
    data = build(samples["text"], tmp_path, tokenizer=str(vocabulary[0] / "text"))
    assert (data.epoch(1).records == data.epoch(1).records).all()
    assert data.epoch(1).records[:20].tolist() != data.epoch(2).records[:20].tolist()
    data = build(samples["text"], tmp_path, tokenizer=str(vocabulary[0] / "text"), documents_per_epoch=10)
    used = [set(document_of(data.shard, data.epoch(key).records[:, 1])) for key in range(30)]
    assert all(len(documents) == 10 for documents in used) and set.union(*used) == set(range(40))


def test_settings_that_cannot_work_are_refused(samples, tmp_path):
    with pytest.raises(ValueError, match="data.longest"):
        build(samples["text"], tmp_path, longest=4)
    with pytest.raises(ValueError, match="set data.tokenizer"):
        build(samples["text"], tmp_path, tokenizer="nowhere")
    with pytest.raises(ValueError, match="set --data.path"):
        TextDataConfig().build("train", tmp_path)
    (tmp_path / "blank.txt").write_text(" \n\n")
    with pytest.raises(ValueError, match="no text that can be read"):
        build(tmp_path / "blank.txt", tmp_path)


def test_the_assets_of_a_run_hold_its_tokenizer(samples, tmp_path):
    data = build(samples["text"], tmp_path)
    data.save_assets(tmp_path)
    assert tokenizer.load_tokenizer(tmp_path).get_vocab() == data.tokenizer.get_vocab()


def test_an_item_is_named_by_its_file_and_document(samples, vocabulary, tmp_path):
    data = build(samples["text"], tmp_path, tokenizer=str(vocabulary[0] / "text"))
    for record in data.epoch(0).records[:20]:
        document = int(document_of(data.shard, record[1]))
        assert data.name(record) == f"{samples['text']}: document {document}, token {record[1]}"

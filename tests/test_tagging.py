# SPDX-License-Identifier: Apache-2.0
"""Tagging: CoNLL-U as it is published, states of first sub-tokens, and the tag of each word alone."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import pluri
from pluri.benchmarks import encoders
from pluri.benchmarks.finetune import MissingFiles
from pluri.benchmarks.text.tagging import tasks as tagging
from pluri.benchmarks.text.tagging.tasks import TaggedConfig, TagProbeConfig
from pluri.benchmarks.text.tagging.words import NO_WORD, Sentence, Tagged, read_conllu, read_treebank
from pluri.ssl.blocks import EncoderConfig
from pluri.ssl.encoder import Backbone, Encoder
from pluri.text import tokenizer as wordpiece
from pluri.text.frontend import TextFrontEndConfig

SAMPLE = """\ufeff# newdoc
# text = vámonos al mar
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\tV\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\tP\t_\t1\tobj\t_\t_
3\tmar\tmar\tNOUN\tN\t_\t1\tobl\t_\t_
3.1\tsal\tsal\tNOUN\tN\t_\t_\t_\t_\t_

# text = Call
1\tCall\tcall\tVERB\tV\t_\t0\troot\t_\t_
"""

WORDS = {
    "runs": "VERB",
    "sleeps": "VERB",
    "cat": "NOUN",
    "dogs": "NOUN",
    "the": "DET",
    "a": "DET",
    "unbelievable": "ADJ",
}


TAGS = sorted(set(WORDS.values()))


def sentences(n, seed=0):
    rng = np.random.default_rng(seed)
    drawn = [list(rng.choice(list(WORDS), rng.integers(1, 9))) for _ in range(n)]
    return [Sentence([str(w) for w in words], [WORDS[str(w)] for w in words]) for words in drawn]


def write(path, found):
    blocks = []
    for words, tags in found:
        rows = enumerate(zip(words, tags, strict=True), start=1)
        blocks.append("".join(f"{i}\t{word}\t_\t{tag}\t{tag[0]}" + "\t_" * 5 + "\n" for i, (word, tag) in rows))
    path.write_text("\n".join(blocks) + "\n")


@pytest.fixture(scope="module")
def tokenizer():
    often = " ".join(word for word in WORDS if len(word) < 9)
    return wordpiece.train_wordpiece(lambda: [often] * 20 + ["unbelievable"], 52)


@pytest.fixture
def backbone(tokenizer):
    torch.manual_seed(0)
    front_end = TextFrontEndConfig(vocab_size=wordpiece.describe(tokenizer).size, width=32).build()
    front_end.tokenizer = tokenizer
    return Backbone(front_end, Encoder(EncoderConfig(depth=2, width=32, heads=2, hidden=64))).eval()


def test_contractions_and_empty_nodes_are_not_words(tmp_path):
    path = tmp_path / "es.conllu"
    path.write_bytes(SAMPLE.replace("\n", "\r\n").encode())
    assert read_conllu(path) == [
        Sentence(["vamos", "nos", "mar"], ["VERB", "PRON", "NOUN"]),
        Sentence(["Call"], ["VERB"]),
    ]
    assert read_conllu(path, "xpos")[1].tags == ["V"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1\tone\tcolumn\n", "line 1"),
        (SAMPLE + "x" + "\t_" * 9 + "\n", "line 11"),
        ("\n# nothing\n", "no sentence"),
        ("1\tCall" + "\t_" * 8 + "\n", "leaves column 4 .upos. empty: set --data.tags xpos"),
    ],
)
def test_a_file_of_another_form_is_refused_by_name_and_line(text, words, tmp_path):
    path = tmp_path / "broken.conllu"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"broken.conllu.*{words}"):
        read_conllu(path)


def test_bytes_that_are_no_text_are_refused_by_name_and_line(tmp_path):
    path = tmp_path / "latin.conllu"
    path.write_bytes(b"# a\n1\tcaf\xe9" + b"\t_" * 8)
    with pytest.raises(ValueError, match="latin.conllu, line 2: not UTF-8"):
        read_conllu(path)


def test_a_folder_without_both_parts_is_refused(tmp_path):
    for path in ("", str(tmp_path / "nowhere")):
        with pytest.raises(ValueError, match=r"set --data\.path"):
            read_treebank(path, "upos")
    write(tmp_path / "x-test.conllu", sentences(2))
    with pytest.raises(MissingFiles, match=r"needs \*train\*.conllu"):
        read_treebank(str(tmp_path), "upos")


def test_several_files_of_a_part_are_read_as_one(tmp_path):
    for name, count in (("x-train-a", 3), ("x-train-b", 4), ("x-dev", 2)):
        write(tmp_path / f"{name}.conllu", sentences(count))
    found = read_treebank(str(tmp_path), "upos")
    assert [len(found[part]) for part in ("train", "dev", "test")] == [7, 2, 0]


@pytest.mark.parametrize("longest", [8, 128])
def test_each_word_has_its_tag_at_its_first_token_as_transformers_aligns_words(longest, tokenizer):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    found = [*sentences(40), Sentence(["cat", "\0", "the\u200b", "a"], ["NOUN", "ADJ", "DET", "DET"])]
    data = Tagged(found, tokenizer, TAGS, longest)
    several = 0
    for (ids, tags), seen, sentence in zip(data.items, data.seen, found, strict=True):
        encoded = theirs(
            sentence.words, is_split_into_words=True, add_special_tokens=False, truncation=True, max_length=longest - 2
        )
        assert ids[1:-1] == encoded["input_ids"] and len(ids) <= longest
        wanted, last = [], None
        for word in encoded.word_ids():
            assert word is not None
            wanted.append(NO_WORD if word == last else TAGS.index(sentence.tags[word]) + 1)
            last = word
        several += wanted.count(NO_WORD)
        assert tags == [NO_WORD, *wanted, NO_WORD]
        assert [word for word, one in enumerate(seen) if one] == sorted(
            {word for word in encoded.word_ids() if word is not None}
        )
    words = sum(len(sentence.words) for sentence in found)
    assert several > 10 and data.unread == words - sum(tag != NO_WORD for _, tags in data.items for tag in tags) >= 1
    assert (data.unread > 1) == (longest == 8)


@pytest.mark.parametrize("layer", [-1, 0, 1, 2])
def test_states_of_words_are_those_of_each_sentence_alone(layer, tokenizer, backbone):
    data = Tagged(sentences(30), tokenizer, TAGS, 128)
    found = tagging.word_states(backbone, data, layer)
    wanted = []
    with torch.no_grad():
        for ids, tags in data.items:
            encoded = backbone(torch.tensor([ids]))
            states = (encoded.x if layer < 0 else encoded.layers[layer])[0]
            wanted += [(tag, state) for tag, state in zip(tags, states, strict=True) if tag != NO_WORD]
    assert sorted(found.labels.tolist()) == sorted(tag for tag, _ in wanted)
    theirs = torch.stack([state for _, state in wanted])
    distance = torch.cdist(torch.from_numpy(found.x).double(), theirs.double())
    nearest = distance.argmin(1)
    assert distance.min(1).values.max() < 1e-4
    assert [wanted[i][0] for i in nearest.tolist()] == found.labels.tolist()


def test_the_tag_of_a_word_alone_equals_a_count(tokenizer):
    names = ["A", "B", "C"]
    rng = np.random.default_rng(1)

    def drawn(n, words):
        return [Sentence(list(rng.choice(words, 5)), list(rng.choice(names, 5, p=[0.2, 0.5, 0.3]))) for _ in range(n)]

    train = Tagged(drawn(50, ["cat", "the", "a", "runs"]), tokenizer, names, 64)
    test = Tagged(drawn(20, list(WORDS)), tokenizer, names, 64)
    counts, every = {}, Counter()
    for ids, tags in train.items:
        for token, tag in zip(ids, tags, strict=True):
            if tag != NO_WORD:
                counts.setdefault(token, Counter())[tag] += 1
                every[tag] += 1
    predicted, labels = tagging.most_frequent(train, test)
    asked = [(token, tag) for ids, tags in test.items for token, tag in zip(ids, tags, strict=True) if tag != NO_WORD]
    assert labels.tolist() == [tag for _, tag in asked]
    assert predicted.tolist() == [
        min(range(1, 4), key=lambda t: (-counts.get(token, every)[t], t)) for token, _ in asked
    ]


def test_the_probe_finds_tags_that_the_words_give_away(tmp_path, backbone):
    write(tmp_path / "x-train.conllu", sentences(120))
    write(tmp_path / "x-test.conllu", sentences(40, seed=1))
    config = TagProbeConfig(data=TaggedConfig(path=str(tmp_path)))
    score, chosen = config.evaluate(backbone, 0)
    assert score.figures["accuracy"] > 0.95 and chosen["words"] > 100
    score, _ = config.evaluate(encoders.raw_features(backbone)[1], 0)
    assert score.figures["accuracy"] == 1.0


def test_a_tag_that_training_has_not_is_wrong_for_the_probe(tmp_path, backbone):
    write(tmp_path / "x-train.conllu", sentences(120))
    write(tmp_path / "x-test.conllu", [Sentence(["cat", "runs", "the", "cat"], ["NOUN", "VERB", "DET", "AAA"])])
    config = TagProbeConfig(data=TaggedConfig(path=str(tmp_path)))
    for encoder in (backbone, encoders.raw_features(backbone)[1]):
        assert config.evaluate(encoder, 0)[0].figures["accuracy"] == 0.75


def test_tagging_wants_a_text_encoder_and_a_layer_that_is_there(tmp_path, backbone):
    write(tmp_path / "x-train.conllu", sentences(20))
    write(tmp_path / "x-dev.conllu", sentences(20, seed=1))
    data = TaggedConfig(path=str(tmp_path))
    with pytest.raises(ValueError, match="text encoders"):
        TagProbeConfig(data=data).evaluate(pluri.load("fbank"), 0)
    with pytest.raises(ValueError, match="layer 3"):
        TagProbeConfig(data=data, layer=3).evaluate(backbone, 0)


def test_the_published_treebank_is_read_whole():
    root = os.environ.get("PLURI_TRIAL_DATA")
    folder = Path(root or "", "text/UD_English-EWT")
    if not root or not folder.is_dir():
        pytest.skip("no UD_English-EWT")
    found = {part: read_conllu(folder / f"en_ewt-ud-{part}.conllu") for part in ("train", "dev", "test")}
    for part, parsed in found.items():
        lines = (folder / f"en_ewt-ud-{part}.conllu").read_text().splitlines()
        assert len(parsed) == sum(line.startswith("# sent_id") for line in lines)
        assert sum(len(s.words) for s in parsed) == sum(line.split("\t")[0].isdigit() for line in lines)
    assert {tag for s in found["test"] for tag in s.tags} <= {tag for s in found["train"] for tag in s.tags}

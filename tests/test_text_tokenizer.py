# SPDX-License-Identifier: Apache-2.0
"""A vocabulary is the same in every process and from every kind of file, and cuts text as transformers does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pluri.text import tokenizer

TYPING = Path(__file__).resolve().parents[1] / ".typing"


def ordered(trained):
    return sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__)


def test_a_vocabulary_has_its_special_tokens_first_no_gaps_and_at_most_the_size_asked_for(prose, vocabulary):
    tokens = vocabulary[1].get_vocab()
    assert sorted(tokens.values()) == list(range(len(tokens))) and 400 < len(tokens) <= 500
    assert ordered(vocabulary[1])[:5] == list(tokenizer.SPECIAL)
    described = tokenizer.describe(vocabulary[1])
    assert described.size == len(tokens) and described.mask_id == 4 and described.special_ids == (0, 1, 2, 3, 4)
    assert described.continues is not None
    assert described.continues.tolist() == [token.startswith("##") for token in ordered(vocabulary[1])]
    with pytest.raises(ValueError, match="vocab_size must be above"):
        tokenizer.train_wordpiece(prose, 60)


def test_another_process_learns_the_same_vocabulary(prose, vocabulary):
    """The other one has another hash seed, so nothing may hang on the order of a table."""
    program = (
        "import json, sys\n"
        "from pluri.text import tokenizer\n"
        "texts = json.load(sys.stdin)\n"
        "tokens = tokenizer.train_wordpiece(lambda: texts, 500).get_vocab()\n"
        "print(json.dumps(sorted(tokens, key=tokens.__getitem__)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(TYPING), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", program]
    texts = json.dumps(list(prose()))
    done = subprocess.run(command, env=environment, input=texts, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    again = tokenizer.train_wordpiece(prose, 500)
    assert json.loads(done.stdout) == ordered(vocabulary[1]) == ordered(again)


@pytest.mark.parametrize("lowercase", [True, False])
def test_encodings_equal_those_of_transformers_with_the_same_vocabulary_file(prose, vocabulary, lowercase, tmp_path):
    transformers = pytest.importorskip("transformers")
    shutil.copy(vocabulary[0] / "text" / "vocab.txt", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    ours = tokenizer.load_tokenizer(tmp_path)
    unknown = 0
    for text in [*prose(), "Ωmega 龘 Ж", "unseen 龖龖 Ünïcödé"]:
        wanted = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_special_tokens=False).ids == wanted
        unknown += wanted.count(1)
    assert unknown > 2


def test_a_tokenizer_is_the_same_from_each_kind_of_file_and_folder(prose, vocabulary):
    root, trained = vocabulary
    for path in ("text", "text/vocab.txt", "json", "json/tokenizer.json"):
        loaded = tokenizer.load_tokenizer(root / path)
        assert loaded.get_vocab() == trained.get_vocab()
        for text in prose():
            assert loaded.encode(text).ids == trained.encode(text).ids
        assert loaded.decode(loaded.encode("the quick brown fox").ids) == "the quick brown fox"


def test_a_saved_tokenizer_that_pads_and_cuts_does_so_no_longer(vocabulary, tmp_path):
    text = "The quick brown fox jumps over the lazy dog, again and again."
    other = tokenizer.load_tokenizer(vocabulary[0] / "json")
    other.enable_truncation(3)
    other.enable_padding(length=50)
    other.save(str(tmp_path / "tokenizer.json"))
    wanted = vocabulary[1].encode(text).ids
    assert tokenizer.load_tokenizer(tmp_path).encode(text).ids == wanted and 3 < len(wanted) < 50


def test_a_vocabulary_without_special_tokens_and_a_missing_one_are_refused(vocabulary, tmp_path):
    with pytest.raises(ValueError, match="neither tokenizer.json nor vocab.txt, nor a vocab.json"):
        tokenizer.load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="set data.tokenizer"):
        tokenizer.load_tokenizer(tmp_path / "nowhere.txt")
    tokens = [token for token in ordered(vocabulary[1]) if token not in ("[MASK]", "[SEP]")]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    with pytest.raises(ValueError, match=r"has no \[SEP\], \[MASK\]"):
        tokenizer.load_tokenizer(tmp_path)


def test_tokens_that_are_strange_line_ends_do_not_move_the_ids_behind_them(tmp_path):
    transformers = pytest.importorskip("transformers")
    tokens = [*tokenizer.SPECIAL, "\u2028", "\u0085", "a", "##b"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    assert theirs.convert_tokens_to_ids("##b") == tokens.index("##b")
    assert tokenizer.load_tokenizer(tmp_path).token_to_id("##b") == tokens.index("##b")

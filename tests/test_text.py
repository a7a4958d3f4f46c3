# SPDX-License-Identifier: Apache-2.0
"""Text: files to sentences, the vocabulary and its ids, BERT's pairs, and the shard that is made once."""

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pluri.ssl import draw
from pluri.text import corpus, tokenizer
from pluri.text.corpus import TextDataConfig
from pluri.text.documents import LONGEST, documents, files, sentences
from pluri.text.pairs import Shard, pair_table, plain_table

TYPING = Path(__file__).resolve().parents[1] / ".typing"
MIXED = (
    "The quick brown fox jumps over the lazy dog, again and again.",
    "Naïve café-goers don't pay £3.50 (or do they?) for coffee!",
    "今天天气很好，我们去公园散步吧。",
    "他用 Python 3 写了一个程序：“你好，世界”！",
    "The unseen ☃ and \U0001f600, soft\u00adhyphens,\ttabs\u0000 and zero\u200bwidth.",
    "Ａｌｌ ｆｕｌｌ－ｗｉｄｔｈ; ÅNGSTRÖM and Ĳssel; x" + "y" * 120 + " z",
    "",
)


def read(path):
    bad: list[tuple[str, str]] = []
    return list(documents(path, bad)), bad


# Files to sentences


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("It rained. We stayed in! Why not?", ["It rained.", "We stayed in!", "Why not?"]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ('She left. "Wait!" (Nobody did.) 12 men came.', ["She left.", '"Wait!"', "(Nobody did.)", "12 men came."]),
        ("It costs 3.50 euros, e.g. at night.", ["It costs 3.50 euros, e.g. at night."]),
        ("今天下雨。我们在家！好吗？好", ["今天下雨。", "我们在家！", "好吗？", "好"]),
        ("他说：“走吧。”然后走了。真的吗？！真的……", ["他说：“走吧。”", "然后走了。", "真的吗？！", "真的……"]),
        ("他写Python。It works. Really.", ["他写Python。", "It works.", "Really."]),
        ("   ", []),
    ],
)
def test_lines_are_split_into_english_and_chinese_sentences(line, wanted):
    assert sentences(line) == wanted


def test_chinese_sentences_equal_a_loop():
    rng = random.Random(0)
    stops, closers = "。！？；…", "」』”’）"
    for _ in range(500):
        line = "".join(rng.choices("一二三" + stops + closers, k=rng.randint(1, 20)))
        wanted, piece = [], ""
        for i, character in enumerate(line):
            before = line[:i].rstrip(closers)
            if piece and character not in stops + closers and before and before[-1] in stops:
                wanted.append(piece)
                piece = ""
            piece += character
        assert sentences(line) == [*wanted, piece]


def test_endless_sentences_are_cut_at_spaces_and_nothing_is_lost():
    rng = random.Random(0)
    words = ["".join(rng.choices("abc", k=rng.randint(1, 12))) for _ in range(3000)]
    cut = sentences(" ".join(words))
    assert len(cut) > 5 and max(map(len, cut)) <= LONGEST
    assert " ".join(cut).split() == words
    solid = sentences("x" * (2 * LONGEST + 7))
    assert [len(piece) for piece in solid] == [LONGEST, LONGEST, 7]


def test_empty_lines_end_documents_in_plain_and_gzipped_files(tmp_path):
    content = "\ufeffOne. Two.\nThree.\n\n \t\n\nFour.\r\n\r\n五。\nSix.".encode()
    wanted = [["One. Two.", "Three."], ["Four."], ["五。", "Six."]]
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(content))
    for name in ("a.txt", "b.txt.gz"):
        assert read(tmp_path / name) == (wanted, [])


def test_all_text_files_of_a_folder_are_found_in_a_lasting_order(tmp_path):
    for name in ("b/2.txt", "b/1.TXT", "a/3.txt.gz", "notes.md", "0.text"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [str(path.relative_to(tmp_path)) for path in files(tmp_path)] == [
        "0.text",
        "a/3.txt.gz",
        "b/1.TXT",
        "b/2.txt",
    ]
    assert files(tmp_path / "notes.md") == [tmp_path / "notes.md"]  # a file that is named is taken whatever its suffix
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no text files"):
        files(tmp_path / "empty")
    with pytest.raises(ValueError, match="set --data.path"):
        files(tmp_path / "nowhere")


def test_bad_bytes_are_counted_and_named_and_the_rest_is_read(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_bytes("Grüße.\n".encode("latin-1") + b"Fine.\n\n" + "Köln.\n".encode("latin-1") + "Köln.\n".encode())
    found, bad = read(path)
    assert [len(document) for document in found] == [2, 2] and found[0][1] == "Fine." and found[1][1] == "Köln."
    assert [name for name, _ in bad] == [str(path)] and bad[0][1].startswith("2 lines are not UTF-8")
    path.write_bytes("Sixteen bits.\n".encode("utf-16"))
    found, bad = read(path)
    assert found == [] and "zero bytes" in bad[0][1]


def test_a_gzip_file_that_was_cut_off_is_named_and_its_beginning_used(tmp_path):
    path = tmp_path / "cut.txt.gz"
    lines = "".join(f"Line {random.Random(i).random()}.\n\n" for i in range(5000)).encode()
    path.write_bytes(gzip.compress(lines)[:20000])
    found, bad = read(path)
    assert found[0] == ["Line 0.8444218515250481."] and 100 < len(found) < 5000
    assert bad == [(str(path), bad[0][1])] and "ended before" in bad[0][1]


def test_a_file_that_is_no_gzip_file_is_named_with_a_reason(tmp_path):
    path = tmp_path / "plain.txt.gz"
    path.write_bytes(b"Plain text that somebody called .gz.\n")
    found, bad = read(path)
    assert found == [] and len(bad) == 1
    assert "None" not in bad[0][1] and "gzip" in bad[0][1].lower()


def test_a_gzip_file_with_spoilt_content_is_named(tmp_path):
    path = tmp_path / "spoilt.txt.gz"
    path.write_bytes(gzip.compress(b"x")[:10] + b"\xff" * 100)
    found, bad = read(path)
    assert found == [] and [name for name, _ in bad] == [str(path)]


def test_suffixes_in_capitals_are_read_like_any_others(tmp_path):
    path = tmp_path / "A.TXT.GZ"
    path.write_bytes(gzip.compress(b"One.\n\nTwo.\n"))
    assert files(tmp_path) == [path]
    assert read(path) == ([["One."], ["Two."]], [])


# The vocabulary


def prose():
    """Made-up words in which many pieces are equally frequent, so that ties have to be broken somehow."""
    rng = random.Random(1)
    for _ in range(150):
        yield " ".join("".join(rng.choices("abcdefghij", k=rng.randint(2, 6))) for _ in range(10)) + "."
    yield from MIXED


def train(lowercase=True):
    return tokenizer.train_wordpiece(prose, 500, lowercase)


def ordered(trained):
    return sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A folder with a vocab.txt, one with a tokenizer.json, and the tokenizer in both."""
    root = tmp_path_factory.mktemp("vocabulary")
    trained = train()
    for name in ("text", "json"):
        (root / name).mkdir()
    (root / "text" / "vocab.txt").write_text("\n".join(ordered(trained)) + "\n", encoding="utf-8")
    trained.save(str(root / "json" / "tokenizer.json"))
    return root, trained


def test_a_vocabulary_has_its_special_tokens_first_no_gaps_and_at_most_the_size_asked_for(vocabulary):
    tokens = vocabulary[1].get_vocab()
    assert sorted(tokens.values()) == list(range(len(tokens))) and 400 < len(tokens) <= 500
    assert ordered(vocabulary[1])[:5] == list(tokenizer.SPECIAL)
    described = tokenizer.describe(vocabulary[1])
    assert described.size == len(tokens) and described.mask_id == 4 and described.special_ids == (0, 1, 2, 3, 4)
    assert described.continues is not None
    assert described.continues.tolist() == [token.startswith("##") for token in ordered(vocabulary[1])]
    with pytest.raises(ValueError, match="vocab_size must be above"):
        tokenizer.train_wordpiece(prose, 60)


def test_another_process_learns_the_same_vocabulary(vocabulary):
    """The other one has another hash seed, so nothing may hang on the order of a table."""
    program = (
        "import importlib.util, json, sys\n"
        "spec = importlib.util.spec_from_file_location('this_test', sys.argv[1])\n"
        "this_test = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(this_test)\n"
        "print(json.dumps(this_test.ordered(this_test.train())))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(TYPING), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", program, __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ordered(vocabulary[1]) == ordered(train())


@pytest.mark.parametrize("lowercase", [True, False])
def test_encodings_equal_those_of_transformers_with_the_same_vocabulary_file(vocabulary, lowercase, tmp_path):
    transformers = pytest.importorskip("transformers")
    shutil.copy(vocabulary[0] / "text" / "vocab.txt", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    ours = tokenizer.load_tokenizer(tmp_path)
    unknown = 0
    for text in [*MIXED, *list(prose())[:20], "Ωmega 龘 Ж", "unseen 龖龖 Ünïcödé"]:
        wanted = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_special_tokens=False).ids == wanted
        unknown += wanted.count(1)
    assert unknown > 2


def test_a_tokenizer_is_the_same_from_each_kind_of_file_and_folder(vocabulary):
    root, trained = vocabulary
    for path in ("text", "text/vocab.txt", "json", "json/tokenizer.json"):
        loaded = tokenizer.load_tokenizer(root / path)
        assert loaded.get_vocab() == trained.get_vocab()
        for text in MIXED:
            assert loaded.encode(text).ids == trained.encode(text).ids
        assert loaded.decode(loaded.encode("the quick brown fox").ids) == "the quick brown fox"


def test_a_saved_tokenizer_that_pads_and_cuts_does_so_no_longer(vocabulary, tmp_path):
    other = tokenizer.load_tokenizer(vocabulary[0] / "json")
    other.enable_truncation(3)
    other.enable_padding(length=50)
    other.save(str(tmp_path / "tokenizer.json"))
    wanted = vocabulary[1].encode(MIXED[0]).ids
    assert tokenizer.load_tokenizer(tmp_path).encode(MIXED[0]).ids == wanted and 3 < len(wanted) < 50


def test_a_vocabulary_without_special_tokens_and_a_missing_one_are_refused(vocabulary, tmp_path):
    with pytest.raises(ValueError, match="neither tokenizer.json nor vocab.txt"):
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


# Pairs


def make_shard(counts, longest_sentence, seed=0):
    """Documents of `counts` sentences of 1 to `longest_sentence` tokens; token i is i."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest_sentence + 1, sum(counts))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    return Shard(np.arange(bounds[-1]), bounds, np.concatenate([[0], np.cumsum(counts)]))


def document_of(shard, tokens):
    """Which document each token belongs to."""
    return np.searchsorted(shard.sentences[shard.documents], tokens, side="right") - 1


def test_half_of_the_pairs_are_random_and_come_from_other_documents():
    rng = np.random.default_rng(0)
    shard = make_shard(rng.integers(1, 40, 600), 12)
    chosen = rng.permutation(600)[:500]
    table = pair_table(shard, chosen, 64, 0.1, draw.key(0))
    _, a, a_end, b, b_end, is_random = table.T
    assert (table[:, 0] == np.arange(len(table))).all()
    assert (a_end > a).all() and (b_end > b).all() and ((a_end - a) + (b_end - b) + 3 <= 64).all()
    assert set(is_random) == {0, 1}
    for start, end in ((a, a_end), (b, b_end)):
        assert (document_of(shard, start) == document_of(shard, end - 1)).all()
        assert set(document_of(shard, start)) <= set(chosen)
    same = document_of(shard, a) == document_of(shard, b)
    assert (same == (is_random == 0)).all() and (b >= a_end)[is_random == 0].all()
    # Only sentences that are left over alone at the end of a document are always followed by something random.
    single = np.isin(a, shard.sentences[shard.documents[1:] - 1])
    assert abs(is_random[~single].mean() - 0.5) < 0.03
    again = pair_table(shard, chosen, 64, 0.1, draw.key(0))
    assert (table == again).all()
    assert (b[:50] != pair_table(shard, chosen, 64, 0.1, draw.key(1))[:50, 3]).any()


@pytest.mark.parametrize(("longest_sentence", "longest"), [(1, 24), (9, 1000)])
def test_every_sentence_is_used_once_because_replaced_ones_are_put_back(longest_sentence, longest):
    """With sentences of one token, and with documents far below `longest`, nothing has to be cut off."""
    shard = make_shard(np.random.default_rng(0).integers(1, 50, 200), longest_sentence)
    table = pair_table(shard, np.arange(200), longest, 0.2 if longest_sentence == 1 else 0.0, draw.key(3))
    used = np.zeros(len(shard.tokens), dtype=np.int64)
    for _, a, a_end, b, b_end, is_random in table.tolist():
        used[a:a_end] += 1
        if not is_random:
            assert b == a_end
            used[b:b_end] += 1
    assert (used == 1).all()


def published_pairs(lengths, longest, short, rng):
    """create_instances_from_document of google-research/bert@eedf5716, on lengths of sentences; (A, B, random) each."""
    out = []
    for number, document in enumerate(lengths):
        most = longest - 3
        target = rng.randint(2, most) if rng.random() < short else most
        chunk, total, i = [], 0, 0
        while i < len(document):
            chunk.append(document[i])
            total += document[i]
            if i == len(document) - 1 or total >= target:
                end = rng.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
                a = sum(chunk[:end])
                is_random = len(chunk) == 1 or rng.random() < 0.5
                if is_random:
                    b = 0
                    other = number
                    while other == number:
                        other = rng.randint(0, len(lengths) - 1)
                    for length in lengths[other][rng.randint(0, len(lengths[other]) - 1) :]:
                        b += length
                        if b >= target - a:
                            break
                    i -= len(chunk) - end
                else:
                    b = sum(chunk[end:])
                while a + b > most:
                    a, b = (a - 1, b) if a > b else (a, b - 1)
                out.append((a, b, is_random))
                chunk, total = [], 0
            i += 1
    return np.array(out)


@pytest.mark.parametrize(("longest", "short"), [(64, 0.1), (128, 0.5), (20, 0.0)])
def test_pairs_are_spread_like_those_of_the_published_code(longest, short):
    shard = make_shard(np.random.default_rng(1).integers(1, 40, 1500), 25)
    lengths = [
        np.diff(shard.sentences[first : last + 1]).tolist()
        for first, last in zip(shard.documents[:-1], shard.documents[1:], strict=True)
    ]
    # Short items come in heaps, so that one draw's number of pairs has a deviation of 2 %.
    theirs = np.concatenate([published_pairs(lengths, longest, short, random.Random(seed)) for seed in range(6)])
    table = np.concatenate([pair_table(shard, np.arange(1500), longest, short, draw.key(seed)) for seed in range(6)])
    ours = np.stack([table[:, 2] - table[:, 1], table[:, 4] - table[:, 3], table[:, 5]], axis=1)
    assert abs(len(ours) / len(theirs) - 1) < 0.03
    assert np.abs(ours.mean(0) / theirs.mean(0) - 1).max() < 0.03
    for column in (0, 1):
        quantiles = [np.quantile(x[:, column], np.linspace(0.05, 0.95, 10)) for x in (ours, theirs)]
        assert np.abs(quantiles[0] - quantiles[1]).max() <= max(1.0, 0.04 * longest)  # whole tokens
    full = [((x[:, 0] + x[:, 1]) == longest - 3).mean() for x in (ours, theirs)]
    assert abs(full[0] - full[1]) < 0.03


def test_the_given_share_of_documents_is_cut_into_short_items():
    shard = make_shard([120] * 1500, 1)
    for short in (0.0, 0.1, 0.6):
        table = pair_table(shard, np.arange(1500), 23, short, draw.key(5))
        sizes = (table[:, 2] - table[:, 1]) + (table[:, 4] - table[:, 3])
        true = table[:, 5] == 0  # pairs of one document, which are as long as was wanted but for the document's last
        longest = np.zeros(1500, dtype=np.int64)
        np.maximum.at(longest, document_of(shard, table[true, 1]), sizes[true])
        assert longest.max() == 20
        # One of the 19 lengths that are drawn for short items is the longest.
        assert abs((longest < 20).mean() - short * 18 / 19) < 0.035
        if short == 0.6:
            below = np.bincount(longest, minlength=21)[2:20] / (1500 * short)
            assert np.abs(below - 1 / 19).max() < 0.03


def test_cuts_fall_on_the_fronts_and_backs_of_the_longer_side_alike():
    shard = make_shard([2] * 400, 1)
    shard = shard._replace(tokens=np.arange(800 * 50), sentences=np.arange(801) * 50)
    table = pair_table(shard, np.arange(400), 43, 0.0, draw.key(0))
    _, a, a_end, b, b_end, _ = table.T
    assert (a_end - a == 20).all() and (b_end - b == 20).all()  # 100 tokens for 40 places: half from each
    for start in (a, b):
        assert abs((start % 50).mean() - 15.0) < 0.5 and 2 < (start % 50).std() < 3.4


def test_next_sentences_of_a_single_document_are_refused():
    shard = make_shard([20], 5)
    with pytest.raises(ValueError, match="set data.pairs=False"):
        pair_table(shard, np.arange(1), 32, 0.1, 0)


def test_plain_runs_use_each_token_once_and_are_as_long_as_fits():
    shard = make_shard(np.random.default_rng(2).integers(1, 30, 100), 20)
    chosen = np.random.default_rng(3).permutation(100)[:80]
    starts = set(shard.sentences.tolist())
    for longest in (7, 24, 64, 2000):
        table = plain_table(shard, chosen, longest)
        used = np.zeros(len(shard.tokens), dtype=np.int64)
        for _, start, end, second, second_end, is_random in table.tolist():
            used[start:end] += 1
            assert 0 < end - start <= longest - 2 and (second, second_end, is_random) == (end, end, 0)
        wanted = np.isin(document_of(shard, shard.tokens), chosen)
        assert (used == wanted).all()
        assert (document_of(shard, table[:, 1]) == document_of(shard, table[:, 2] - 1)).all()
        if longest > 22:  # every sentence fits, so runs are of whole ones, and no run could take in the next
            assert set(table[:, 1].tolist()) <= starts and set(table[:, 2].tolist()) <= starts
            ends = {int(shard.sentences[last]) for last in shard.documents}
            for start, end in table[:, 1:3].tolist():
                following = int(shard.sentences[np.searchsorted(shard.sentences, end) + 1]) if end not in ends else None
                assert following is None or following - start > longest - 2


# The corpus


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
    assert names == {data.names[i] for i in data.documents} - (
        {data.names[0]} & {data.names[i] for i in data.documents}
    )


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

# SPDX-License-Identifier: Apache-2.0
"""Files of text become documents and sentences, in English and Chinese; what cannot be read is named."""

import gzip
import random

import pytest

from pluri.text.documents import LONGEST, documents, files, sentences


def read(path):
    bad: list[tuple[str, str]] = []
    return list(documents(path, bad)), bad


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
    for name in ("b/2.txt", "b/1.txt", "a/3.txt.gz", "notes.md", "0.text"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [str(path.relative_to(tmp_path)) for path in files(tmp_path)] == [
        "0.text",
        "a/3.txt.gz",
        "b/1.txt",
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

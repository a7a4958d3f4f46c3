# SPDX-License-Identifier: Apache-2.0
"""Beam search: a language model decides, its words are spelt as references are, and what is missing is said."""

import sys

import pytest
import torch

from pluri.benchmarks.superb.ctc.beam import BeamConfig
from pluri.benchmarks.superb.ctc.targets import letter_vocabulary

ARPA = (
    "\\data\\\nngram 1=5\nngram 2=1\n\n\\1-grams:\n-99\t<s>\t0\n-1\t</s>\n-2\t<unk>\t0\n-0.3\tBAD\t0\n-3\tBED\t0\n\n"
    "\\2-grams:\n-0.5\tBED </s>\n\n\\end\\\n"
)


def test_a_language_model_decides_between_words_that_sound_alike(tmp_path):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    (tmp_path / "lm.arpa").write_text(ARPA)
    vocabulary = letter_vocabulary()
    decode = BeamConfig(lm=str(tmp_path / "lm.arpa")).build(vocabulary)
    row = torch.full((6, 32), -9.0)
    for frame, letter in enumerate(("B", "E", "D", "|", "<s>", "<s>")):
        row[frame, vocabulary.symbols.index(letter)] = 2.0
    assert decode(row) == "BED"
    row[1, vocabulary.symbols.index("A")] = 1.9
    assert decode(row) == "BAD"
    (tmp_path / "bad.arpa").write_text("some words\n" + ARPA)
    with pytest.raises(ValueError, match="does not begin with"):
        BeamConfig(lm=str(tmp_path / "bad.arpa")).build(vocabulary)
    (tmp_path / "words.txt").write_text("BAD\nBED\n")
    with pytest.raises(ValueError, match="KenLM cannot read"):
        BeamConfig(lm=str(tmp_path / "bad.arpa"), words=str(tmp_path / "words.txt")).build(vocabulary)
    with pytest.raises(ValueError, match="is missing"):
        BeamConfig(lm=str(tmp_path / "none.arpa")).build(vocabulary)


def test_a_language_model_s_words_are_spelt_as_the_references_are(tmp_path):
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    vocabulary = letter_vocabulary()
    row = torch.full((6, 32), -9.0)
    for frame, letter in enumerate(("B", "E", "D", "|", "<s>", "<s>")):
        row[frame, vocabulary.symbols.index(letter)] = 2.0
    mixed = ARPA.replace("1=5", "1=8").replace("-3\tBED\t0\n", "-3\tBED\t0\n-2\tbed\t0\n-1\tBed\t0\n-1\tbad\t0\n")
    for model in (ARPA.replace("BAD", "bad").replace("BED", "bed"), mixed):
        (tmp_path / "lm.arpa").write_text(model)
        assert BeamConfig(lm=str(tmp_path / "lm.arpa")).build(vocabulary)(row) == "BED"


def test_without_the_library_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder", None)
    with pytest.raises(ValueError, match="pip install flashlight-text"):
        BeamConfig(lm="any.arpa").build(letter_vocabulary())

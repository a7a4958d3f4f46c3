# SPDX-License-Identifier: Apache-2.0
"""Beam search over words with an n-gram language model, by flashlight-text (BSD licence; optional).

SUPERB decodes ASR so (s3prl@ec8064b, downstream/asr/config.yaml): words spelt by letters, KenLM's LibriSpeech 4-gram.
"""

import dataclasses
from pathlib import Path

from torch import Tensor

from ....ssl.config import Config
from ..layouts.listings import numbered_lines
from .probe import Decoder
from .targets import Vocabulary, letters_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamConfig(Config):
    """Beam search, besides greedy decoding. Defaults: SUPERB's."""

    lm: str = ""  # n-gram model of words, ARPA or KenLM's binary; "": no beam search
    words: str = ""  # rows whose first column is a word; "": the words of an ARPA model
    size: int = 5  # hypotheses that are kept
    threshold: float = 25.0  # nats behind the best
    lm_weight: float = 2.0
    word_score: float = -1.0  # nats that a word gains

    def __post_init__(self) -> None:
        if not self.lm and (changed := [f.name for f in dataclasses.fields(self) if vars(self)[f.name] != f.default]):
            raise ValueError(f"beam.{changed[0]} has no effect: set beam.lm to a language model")

    def build(self, vocabulary: Vocabulary) -> Decoder:
        """The decoder. Raises ValueError without flashlight-text, or for words that have no letters of these."""
        try:
            from flashlight.lib.text.decoder import (  # pyright: ignore[reportMissingImports]
                CriterionType,
                LexiconDecoder,
                LexiconDecoderOptions,
                SmearingMode,
                Trie,
            )
            from flashlight.lib.text.decoder.kenlm import KenLM  # pyright: ignore[reportMissingImports]
            from flashlight.lib.text.dictionary import Dictionary  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ValueError("beam search needs flashlight-text: pip install flashlight-text") from error
        spelt = self._spelt(vocabulary)
        unknown = len(spelt)
        try:
            model = KenLM(self.lm, Dictionary([*spelt, "<unk>"]))
        except RuntimeError as error:
            why = " ".join(str(error).split())[-120:]
            raise ValueError(f"KenLM cannot read {self.lm}: {why}") from error
        silence = vocabulary.symbols.index("|")
        trie, start = Trie(len(vocabulary.symbols), silence), model.start(False)
        for number, letters in enumerate(spelt.values()):
            trie.insert(letters, number, model.score(start, number)[1])
        trie.smear(SmearingMode.MAX)
        limits = self.size, len(vocabulary.symbols), self.threshold
        scores = self.lm_weight, self.word_score, float("-inf"), 0.0  # words, unknown ones, silence
        options = LexiconDecoderOptions(*limits, *scores, False, CriterionType.CTC)
        search = LexiconDecoder(options, trie, model, silence, vocabulary.blank, unknown, [], False)
        words = [vocabulary.text(letters) for letters in spelt.values()]  # as references are spelt, whatever lm's case

        def decode(row: Tensor) -> str:
            scores = row.float().log_softmax(-1).contiguous()
            best = search.decode(scores.data_ptr(), *scores.shape)
            return " ".join(words[number] for number in best[0].words if 0 <= number < unknown) if best else ""

        return decode

    def _spelt(self, vocabulary: Vocabulary) -> dict[str, list[int]]:
        """The words that can be said, with the numbers of their letters."""
        if not Path(self.lm).is_file():
            raise ValueError(f"{self.lm} is missing: beam.lm is an n-gram model in ARPA's or KenLM's form")
        words = [line.split()[0] for _, line in numbered_lines(Path(self.words))] if self.words else _unigrams(self.lm)
        known = {symbol: number for number, symbol in enumerate(vocabulary.symbols)}
        spelt = {word: letters_of(word) for word in words}
        kept = {
            word: [known[one] for one in letters] for word, letters in spelt.items() if known.keys() >= set(letters)
        }
        if not kept:
            raise ValueError(f"{self.words or self.lm}: no word is spelt with the {len(known)} symbols of the task")
        return kept


def _unigrams(path: str) -> list[str]:
    """The words of an ARPA model."""
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file]
    lines = lines[next((i for i, line in enumerate(lines) if line), 0) :]
    if lines[:1] != ["\\data\\"] or "\\1-grams:" not in lines:
        what = "cut off what stands before or, if it is KenLM's binary, set beam.words to a list of its words"
        raise ValueError(f"{path} does not begin with \\data\\, as an ARPA model does: {what}")
    start = lines.index("\\1-grams:") + 1
    end = next((i for i in range(start, len(lines)) if lines[i].startswith("\\")), len(lines))
    words = [line.split()[1] for line in lines[start:end] if len(line.split()) > 1]
    return [word for word in words if word.lower() not in ("<s>", "</s>", "<unk>")]

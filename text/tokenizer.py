# SPDX-License-Identifier: Apache-2.0
"""WordPiece, trained on the user's corpus or loaded, RoBERTa's byte-level BPE, loaded, and how either frames texts.

WordPiece's normaliser and splitting are BERT's (google-research/bert, tokenization.py), as `tokenizers` has them.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordPiece
from tokenizers.trainers import WordPieceTrainer

from ..ssl.encoder import Vocabulary

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")  # the same five as RoBERTa calls them
FILE = "tokenizer.json"
VOCABULARIES = ("vocab.txt", "vocab.json")  # of WordPiece, and of byte-level BPE, which has a merges.txt beside it
SPACE = "\u0120"  # how byte-level BPE writes a space
LONGEST_WORD = 100  # characters; longer ones become [UNK]


def _normalizer(lowercase: bool) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lowercase
    )


def _wordpiece(vocabulary: dict[str, int] | None, lowercase: bool) -> Tokenizer:
    model = WordPiece(vocab=vocabulary or {}, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _normalizer(lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def train_wordpiece(texts: Callable[[], Iterable[str]], vocab_size: int, lowercase: bool = True) -> Tokenizer:
    """A vocabulary of at most `vocab_size` pieces for these texts, [PAD] being 0; the same in every process.

    `tokenizers` numbers characters in the order of a hash table that is another one in each process, and merges of
    equal count follow the numbers. So the characters are numbered here, by frequency, and handed over as if special.

    Args:
        texts: called twice, gives the same texts each time.
    """
    tokenizer = _wordpiece(None, lowercase)
    alphabet, pieces = _characters(_words(texts(), lowercase), vocab_size // 2)
    first = [*SPECIAL, *alphabet, *pieces]
    if len(first) >= vocab_size:
        raise ValueError(f"the texts use {len(alphabet)} characters: data.vocab_size must be above {len(first)}")
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=first,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator((" ".join(words) for words in _words(texts(), lowercase)), trainer)
    return _wordpiece(tokenizer.get_vocab(with_added_tokens=False), lowercase)


def _words(texts: Iterable[str], lowercase: bool) -> Iterator[list[str]]:
    """The normalised words of each text; those that WordPiece gives up on are left out (they would take for ever)."""
    normalizer = _normalizer(lowercase)
    for text in texts:
        yield [word for word in normalizer.normalize_str(text).split() if len(word) <= LONGEST_WORD]


def _characters(texts: Iterable[list[str]], most: int) -> tuple[list[str], list[str]]:
    """Characters that words are made of, commonest first and at most `most`, and "##x" for those within words."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(text)
    counts: Counter[str] = Counter()
    within: set[str] = set()
    for word, count in words.items():
        for character in word:
            counts[character] += count
        within.update(word[1:])
    kept = sorted(counts, key=lambda character: (-counts[character], character))[:most]
    return kept, [f"##{x}" for x in kept if x in within and not _is_punctuation(x)]


def _is_punctuation(character: str) -> bool:
    """Whether BERT splits words here: Unicode's punctuation, and all ASCII that is neither letter, digit nor space."""
    ascii_sign = character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    return ascii_sign or unicodedata.category(character).startswith("P")


def load_tokenizer(path: Path) -> Tokenizer:
    """From tokenizer.json, a vocab.txt (lower-casing unless its folder says otherwise), a vocab.json, or their folder.

    Raises: ValueError if there is none, or it lacks one of BERT's special tokens and is not RoBERTa's.
    """
    if path.is_dir():
        found = [path / name for name in (FILE, *VOCABULARIES) if (path / name).is_file()]
        if not found:
            raise ValueError(f"{path} holds neither {FILE} nor vocab.txt, nor a vocab.json")
        path = found[0]
    if not path.is_file():
        raise ValueError(
            f"there is no tokenizer at {path}: set data.tokenizer to a vocab.txt, a tokenizer.json or a folder"
        )
    if path.name == "vocab.json":
        tokenizer = _from_merges(path)
    else:
        tokenizer = Tokenizer.from_file(str(path)) if path.suffix == ".json" else _from_vocabulary(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if _missing(tokenizer, SPECIAL) and not _is_roberta(tokenizer):
        kind, special = ("RoBERTa", ROBERTA) if _is_bytewise(tokenizer) else ("BERT", SPECIAL)
        missing = ", ".join(_missing(tokenizer, special))
        raise ValueError(f"{path} has no {missing}: {kind}'s special tokens are needed")
    return tokenizer


def _from_vocabulary(path: Path) -> Tokenizer:
    tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return _wordpiece({token: number for number, token in enumerate(tokens)}, _said(path, "do_lower_case", True))


def _from_merges(path: Path) -> Tokenizer:
    """Byte-level BPE with RoBERTa's special tokens, as transformers has it (Radford et al. 2019, section 2.2)."""
    merges = path.with_name("merges.txt")
    if not merges.is_file():
        raise ValueError(f"{path} has no merges.txt beside it: byte-level BPE needs both")
    tokenizer = Tokenizer(BPE.from_file(str(path), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=_said(path, "add_prefix_space", False))
    tokenizer.decoder = decoders.ByteLevel()
    known = [token for token in ROBERTA if tokenizer.token_to_id(token) is not None]
    tokenizer.add_special_tokens([AddedToken(token, lstrip=token == "<mask>") for token in known])
    return tokenizer


def _said(vocabulary: Path, name: str, default: bool) -> bool:
    """What the settings beside a vocabulary say."""
    settings = vocabulary.with_name("tokenizer_config.json")
    return json.loads(settings.read_text(encoding="utf-8")).get(name, default) if settings.is_file() else default


def _missing(tokenizer: Tokenizer, tokens: Iterable[str]) -> list[str]:
    return [token for token in tokens if tokenizer.token_to_id(token) is None]


def _is_bytewise(tokenizer: Tokenizer) -> bool:
    """Whether a space is a part of the word behind it, as in byte-level BPE."""
    return isinstance(tokenizer.decoder, decoders.ByteLevel)


def _is_roberta(tokenizer: Tokenizer) -> bool:
    # XLM-R's special tokens have the same names, but its SentencePiece treats spaces in another way.
    return _is_bytewise(tokenizer) and bool(_missing(tokenizer, SPECIAL)) and not _missing(tokenizer, ROBERTA)


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token, by BERT's name for it ([CLS] also for RoBERTa's <s>)."""
    name = ROBERTA[SPECIAL.index(token)] if _is_roberta(tokenizer) else token
    number = tokenizer.token_to_id(name)
    assert number is not None, f"load_tokenizer admits no tokenizer without {token}"
    return number


class Frame(NamedTuple):
    """How the ids of one text or two stand between markers."""

    start: int
    stop: int
    between: tuple[int, ...]  # two texts
    segments: bool  # whether a second text and its stop are segment 1; else all is segment 0
    space: str  # to be put before a word that is tokenised alone, so that it is cut as within a sentence

    @property
    def markers(self) -> int:
        """How many ids of a pair are no text's."""
        return 2 + len(self.between)

    def one(self, ids: Sequence[int]) -> list[int]:
        """A text between its markers."""
        return [self.start, *ids, self.stop]

    def two(self, first: Sequence[int], second: Sequence[int]) -> list[int]:
        """Two texts between their markers."""
        return [self.start, *first, *self.between, *second, self.stop]

    def begin(self, first: int) -> int:
        """Where the second text begins, behind a first of so many ids."""
        return 1 + first + len(self.between)

    def two_segments(self, first: int, second: int) -> list[int]:
        """The segment of each id of two texts of so many ids."""
        return [0] * self.begin(first) + [int(self.segments)] * (second + 1)


def frame(tokenizer: Tokenizer) -> Frame:
    """How a tokenizer's model wants texts: [CLS] a [SEP] b [SEP] with segments, or <s> a </s></s> b </s> without.

    BERT: Devlin et al. 2019, arXiv:1810.04805, figure 2. RoBERTa: facebookresearch/fairseq@087c5434,
    fairseq/models/roberta/hub_interface.py.
    """
    start, stop = (special_id(tokenizer, token) for token in ("[CLS]", "[SEP]"))
    roberta = _is_roberta(tokenizer)
    return Frame(start, stop, (stop, stop) if roberta else (stop,), not roberta, " " * _is_bytewise(tokenizer))


def describe(tokenizer: Tokenizer) -> Vocabulary:
    """What an objective has to know of the ids; in byte-level BPE, whatever has no space before it continues a word."""
    tokens = tokenizer.get_vocab()
    size = max(tokens.values()) + 1
    bytewise = _is_bytewise(tokenizer)
    special = tuple(special_id(tokenizer, token) for token in SPECIAL)
    continues = torch.zeros(size, dtype=torch.bool)
    within = (not token.startswith(SPACE) if bytewise else token.startswith("##") for token in tokens)
    continues[[number for number, one in zip(tokens.values(), within, strict=True) if one]] = True
    continues[list(special)] = False
    return Vocabulary(size, special_id(tokenizer, "[MASK]"), special, continues)

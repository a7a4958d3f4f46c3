# SPDX-License-Identifier: Apache-2.0
"""WordPiece: trained on the user's corpus, or loaded from a vocabulary file or a Hugging Face folder.

The normaliser and the splitting are BERT's (google-research/bert, tokenization.py), as `tokenizers` has them.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer

from ..ssl.encoder import Vocabulary

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FILE = "tokenizer.json"
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
    """From tokenizer.json, from a vocab.txt (lower-casing unless its folder says otherwise), or a folder with either.

    Raises: ValueError if there is none, or it lacks one of BERT's special tokens.
    """
    if path.is_dir():
        found = [path / name for name in (FILE, "vocab.txt") if (path / name).is_file()]
        if not found:
            raise ValueError(f"{path} holds neither {FILE} nor vocab.txt")
        path = found[0]
    if not path.is_file():
        raise ValueError(
            f"there is no tokenizer at {path}: set data.tokenizer to a vocab.txt, a tokenizer.json or a folder"
        )
    tokenizer = Tokenizer.from_file(str(path)) if path.suffix == ".json" else _from_vocabulary(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if missing := [token for token in SPECIAL if tokenizer.token_to_id(token) is None]:
        raise ValueError(f"{path} has no {', '.join(missing)}: BERT's special tokens are needed")
    return tokenizer


def _from_vocabulary(path: Path) -> Tokenizer:
    tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    settings = path.with_name("tokenizer_config.json")
    lowercase = json.loads(settings.read_text()).get("do_lower_case", True) if settings.is_file() else True
    return _wordpiece({token: number for number, token in enumerate(tokens)}, lowercase)


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of one of BERT's special tokens."""
    number = tokenizer.token_to_id(token)
    assert number is not None, f"load_tokenizer admits no tokenizer without {token}"
    return number


def describe(tokenizer: Tokenizer) -> Vocabulary:
    """What an objective has to know of the ids."""
    tokens = tokenizer.get_vocab()
    size = max(tokens.values()) + 1
    continues = torch.zeros(size, dtype=torch.bool)
    continues[[number for token, number in tokens.items() if token.startswith("##")]] = True
    special = tuple(special_id(tokenizer, token) for token in SPECIAL)
    return Vocabulary(size, special_id(tokenizer, "[MASK]"), special, continues)

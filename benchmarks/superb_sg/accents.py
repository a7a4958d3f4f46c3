# SPDX-License-Identifier: Apache-2.0
"""Common Voice 7.0 in Spanish, Chinese and Arabic, and SBCSAE, for OOD-ASR, and how its error rates become one.

Tsai et al. 2022 (arXiv:2203.06849, section 3). Common Voice: Ardila et al. 2020 (arXiv:1912.06670), LANGUAGE/{train,
dev,test}.tsv and clips/, whose sentences are cleaned as s3prl@ec8064b, downstream/ctc/corpus/common_voice_preprocess.py
does. SBCSAE (Santa Barbara corpus of spoken American English): {train,dev,test}.tsv and wav/, as
github.com/vectominist/SBCSAE-preprocess leaves them.
"""

import re
import string
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from ...ssl.tables import table
from ..superb.ctc.errors import character_error_rate, word_error_rate
from ..superb.layouts.listings import need_folder
from ..superb.utterances import Parts, Utterance, checked, leave_out

LANGUAGES = ("es", "zh-CN", "ar")
CORPORA = (*LANGUAGES, "sbcsae")
ACCENT = "mexicano"  # of the Spanish rows
PARTS = ("train", "dev", "test")

# Characters of other kinds that SUPERB-SG takes for punctuation; three are accents that stand alone.
_SIGNS = "「」、⋯。《》丶–—―‘“”『』〜ー・☭«»،؛؟‐−¡¿ː·×─〈〉\u0301\u0303\u030c "
_SPACED = str.maketrans({**dict.fromkeys(string.punctuation.replace("'", "") + _SIGNS, " "), "’": "'", "ㄧ": "一"})
# Letters of other scripts for which a row is left out, besides Latin ones in Chinese and Arabic.
_FOREIGN = {"es": set("しらゴミムラ消箱良"), "zh-CN": set("ΜИТオカドヤ䴕"), "ar": set()}
_LATIN = set(string.ascii_letters + "'")


def common_voice(root: Path, language: str) -> Parts:
    """Utterances with the cleaned sentence as `text`; rows that cleaning leaves nothing of are no part of it.

    Args:
        root: the folder of a release, with a folder for each language; a clip's .wav is preferred to its .mp3.
        language: one of LANGUAGES.
    Raises: ValueError for another language, tables without the columns, or test audio that is missing.
    """
    if language not in LANGUAGES:
        raise ValueError(f"no rules for {language}: OOD-ASR has {', '.join(LANGUAGES)}")
    folder = need_folder(root / language)
    skipped: list[tuple[str, str]] = []
    found: dict[str, list[Utterance]] = {part: [] for part in PARTS}
    for part in PARTS:
        for number, row in table(folder / f"{part}.tsv"):
            place = f"{folder / part}.tsv, line {number}"
            _need(row, ("path", "sentence", *(("accent",) if language == "es" else ())), place)
            if language == "es" and row["accent"] != ACCENT:
                continue
            if text := cleaned(row["sentence"], language):
                listed = need_folder(folder / "clips") / row["path"]
                _add(found[part], skipped, part, place, listed, text)
    which = f", accent {ACCENT}" if language == "es" else ""
    protocol = f"SUPERB-SG: Common Voice in {language}{which}; its own train, dev and test"
    return checked(Parts(found["train"], found["dev"], found["test"], protocol, skipped), folder)


def sbcsae(root: Path) -> Parts:
    """Utterances with `text` as the tables have it.

    Args:
        root: the folder of the tables and of wav/, from which their paths start.
    Raises: ValueError for tables without the columns, or test audio that is missing.
    """
    skipped: list[tuple[str, str]] = []
    found: dict[str, list[Utterance]] = {part: [] for part in PARTS}
    for part in PARTS:
        for number, row in table(root / f"{part}.tsv"):
            place = f"{root / part}.tsv, line {number}"
            _need(row, ("path", "sentence"), place)
            _add(found[part], skipped, part, place, need_folder(root / "wav") / row["path"], row["sentence"])
    protocol = "SUPERB-SG: SBCSAE; the parts of SBCSAE-preprocess"
    return checked(Parts(found["train"], found["dev"], found["test"], protocol, skipped), root)


def _need(row: Mapping[str, str], columns: tuple[str, ...], place: str) -> None:
    if missing := [name for name in columns if name not in row]:
        raise ValueError(f"{place}: there is no column {missing[0]}: a row has {', '.join(columns)}")


def _add(
    found: list[Utterance], skipped: list[tuple[str, str]], part: str, place: str, listed: Path, text: str
) -> None:
    """An utterance with the audio of a row, which may have become a .wav since."""
    audio = next((path for path in (listed.with_suffix(".wav"), listed) if path.is_file()), None)
    if audio is None:
        leave_out(skipped, part, place, f"there is no audio {listed}")
    else:
        found.append(Utterance(audio.stem, audio, text=text))


def cleaned(sentence: str, language: str) -> str:
    """Upper case without punctuation, Chinese without spaces; "" for a sentence that SUPERB-SG leaves out.

    Args:
        language: one of LANGUAGES.
    """
    text = re.sub(" +", " ", unicodedata.normalize("NFKC", sentence).upper().translate(_SPACED))
    if language == "zh-CN":
        text = text.replace(" ", "")
    foreign = _FOREIGN[language] | (_LATIN if language != "es" else set())
    return "" if foreign & set(text) else text.strip()


def error_rates(said: Mapping[str, tuple[list[str], list[str]]]) -> dict[str, float]:
    """The word error rate of each corpus, of zh-CN the character error rate, and their mean, as fractions.

    Args:
        said: hypotheses and references of each of CORPORA. Raises: ValueError if one is missing.
    """
    if missing := [name for name in CORPORA if name not in said]:
        raise ValueError(f"OOD-ASR is the mean over {', '.join(CORPORA)}: there is no {missing[0]}")
    rates = {name: (character_error_rate if name == "zh-CN" else word_error_rate)(*said[name]) for name in CORPORA}
    return {"ood_asr": sum(rates.values()) / len(rates), **rates}

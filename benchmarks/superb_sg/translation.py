# SPDX-License-Identifier: Apache-2.0
"""CoVoST 2 English to German for ST: its rows as SUPERB-SG cleans them, and BLEU.

Layout: covost_v2.en_de.{train,dev,test}.tsv, as get_covost_splits.py of github.com/facebookresearch/covost writes them
(Wang et al. 2020, arXiv:2007.10310), beside Common Voice 4's clips. Cleaning follows s3prl@ec8064b,
downstream/speech_translation/prepare_data; differs: the punctuation of both sides stays as it is, which Moses's
normaliser mends there.
"""

import string
from collections.abc import Sequence
from pathlib import Path

from ...ssl.tables import table
from ..superb.layouts.listings import need_folder
from ..superb.utterances import Parts, Utterance, checked, leave_out

RATIO = 5  # words of one side to one of the other
_DROPPED = str.maketrans("", "", "".join(sorted(set(string.punctuation) - set("'-"))))


def covost2(root: Path, clips: Path | None = None) -> Parts:
    """Utterances with the cleaned English as `text` and the German as the only of `labels`.

    Args:
        root: the folder of the three tables. clips: of Common Voice; None: root/clips.
    Raises: ValueError, with the line, for rows without path, sentence or translation, or test audio that is missing.
    """
    skipped: list[tuple[str, str]] = []
    folder = need_folder(clips or root / "clips")
    found = {
        part: _part(root / f"covost_v2.en_de.{part}.tsv", part, folder, skipped) for part in ("train", "dev", "test")
    }
    protocol = f"SUPERB-SG: CoVoST 2 en-de; rows with REMOVE, or of a length ratio above {RATIO}, left out"
    return checked(Parts(found["train"], found["dev"], found["test"], protocol, skipped), root)


def _part(path: Path, part: str, clips: Path, skipped: list[tuple[str, str]]) -> list[Utterance]:
    kept = []
    for number, row in table(path):
        place = f"{path}, line {number}"
        if missing := [name for name in ("path", "sentence", "translation") if name not in row]:
            raise ValueError(f"{place}: there is no column {missing[0]}: a row has path, sentence and translation")
        if not usable(row["sentence"], row["translation"]):
            continue
        audio = clips / row["path"]
        if not audio.is_file():
            leave_out(skipped, part, place, f"there is no audio {audio}")
            continue
        translation = " ".join(row["translation"].split())
        kept.append(Utterance(audio.stem, audio, text=source_text(row["sentence"]), labels=(translation,)))
    return kept


def usable(sentence: str, translation: str) -> bool:
    """Whether SUPERB-SG keeps a pair: both say something, neither says REMOVE, neither is five times as long."""
    if "REMOVE" in sentence or "REMOVE" in translation:
        return False
    shorter, longer = sorted((len(sentence.split()), len(translation.split())))
    return shorter > 0 and longer <= RATIO * shorter


def source_text(sentence: str) -> str:
    """Lower case, without punctuation other than ' and -."""
    return " ".join(sentence.translate(_DROPPED).split()).lower()


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Case-sensitive, detokenised BLEU of a split, 0 to 100 (Post 2018, arXiv:1804.08771; tokeniser 13a).

    Raises: ValueError without the package sacrebleu, or for unlike lengths.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses do not pair with {len(references)} references")
    try:
        from sacrebleu.metrics.bleu import BLEU  # pyright: ignore[reportMissingImports]  an extra
    except ImportError as error:
        raise ValueError("speech translation is scored by BLEU: pip install sacrebleu") from error
    return float(BLEU().corpus_score(list(hypotheses), [list(references)]).score)

# SPDX-License-Identifier: Apache-2.0
"""Exact match and F1 of answers, as the official scripts of SQuAD, MLQA and CMRC 2018 count them, in percent.

- squad: evaluate-v1.1.py, or evaluate-v2.0.py where questions may be impossible (Rajpurkar et al. 2018,
  arXiv:1806.03822): words, without case, ASCII punctuation and articles. XQuAD's numbers, the Chinese too, are by this.
- mlqa_zh: mlqa_evaluation_v1.py for Chinese (Lewis et al. 2019, arXiv:1910.07475): each Han character is a word, and
  all of Unicode's punctuation goes. Serves DRCD, whose F1 is over characters.
- cmrc2018: cmrc2018_evaluate.py (Cui et al. 2019, arXiv:1810.07366): characters too, but F1 is of the longest run that
  two answers share. CLUE's numbers for CMRC 2018 and DRCD are by this. Differs: what is not Chinese is cut into words
  by a pattern here, by nltk there, which cuts contractions ("don't") too.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import Literal

from .files import Question, Questions

Protocol = Literal["squad", "mlqa_zh", "cmrc2018"]

HAN = "\u4e00-\u9fa5"  # as the scripts have it
ARTICLES = re.compile(r"\b(?:a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
MLQA_TOKEN = re.compile(rf"[{HAN}]|[^\s{HAN}]+")
CMRC_SIGNS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
CMRC_TOKEN = re.compile(rf"[{HAN}]|(?:(?![{HAN}])\w)+(?:(?:['.]|,(?=\d))(?:(?![{HAN}])\w)+)*|[^\w\s]")


def score(
    questions: Questions,
    predictions: Mapping[str, str],
    protocol: Protocol = "squad",
    null_odds: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """The figures of a whole file, under the names of evaluate-v2.0.py: exact, f1, total; HasAns_ and NoAns_ of each.

    Args:
        predictions: an answer for each question's id; "": there is none.
        null_odds: for each id, how much more likely than an answer it is that there is none. They add the scores at the
            best threshold, best_exact and best_f1, and the thresholds, best_exact_thresh and best_f1_thresh. Unlike in
            the script they change no prediction; with it, odds above 1 do.
    Raises: ValueError for a question without a prediction or odds, or a protocol that the file is not made for.
    """
    exact, f1 = raw_scores(questions, predictions, protocol)
    figures = _means(exact, f1, exact)
    if not questions.nullable:
        if null_odds:
            raise ValueError(f"{questions.path}: no question is marked is_impossible: leave out the null odds")
        return figures
    answerable = {question.id: bool(question.answers) for question in questions.items}
    for name, wanted in (("HasAns", True), ("NoAns", False)):
        if ids := [one for one, has in answerable.items() if has is wanted]:
            figures |= {f"{name}_{key}": value for key, value in _means(exact, f1, ids).items()}
    if null_odds is not None:
        _need_all(questions, null_odds, "null odds")
        for name, raw in (("exact", exact), ("f1", f1)):
            best, threshold = best_threshold(raw, predictions, null_odds, answerable)
            figures |= {f"best_{name}": best, f"best_{name}_thresh": threshold}
    return figures


def raw_scores(
    questions: Questions, predictions: Mapping[str, str], protocol: Protocol = "squad"
) -> tuple[dict[str, float], dict[str, float]]:
    """Exact match and F1 of each question, 0 to 1, the best over its answers. Raises ValueError as `score` does."""
    if questions.nullable and protocol != "squad":
        raise ValueError(f"{questions.path} has impossible questions, which {protocol} does not know: set it to squad")
    _need_all(questions, predictions, "prediction")
    exact: dict[str, float] = {}
    f1: dict[str, float] = {}
    for question in questions.items:
        golds = _golds(questions, question)
        given = predictions[question.id]
        exact[question.id] = max(_exact(gold, given, protocol) for gold in golds)
        f1[question.id] = max(_f1(gold, given, protocol, questions.nullable) for gold in golds)
    return exact, f1


def best_threshold(
    raw: Mapping[str, float],
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float],
    answerable: Mapping[str, bool],
) -> tuple[float, float]:
    """The mean score in percent, and the threshold, if those questions are called impossible whose odds are above it.

    As evaluate-v2.0.py: thresholds are the odds themselves, or 0 if none beats calling all impossible; of equally good
    ones the lowest; what `predictions` already call impossible stays so. To be used on the dev split.
    """
    current = best = float(sum(not has for has in answerable.values()))
    threshold = 0.0
    for one in sorted(null_odds, key=null_odds.__getitem__):
        if one not in raw:
            continue
        current += raw[one] if answerable[one] else -float(bool(predictions[one]))
        if current > best:
            best, threshold = current, null_odds[one]
    return 100.0 * best / len(raw), threshold


def normalized(text: str) -> str:
    """Lower case, without ASCII punctuation, the words a, an and the, and all but single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(NO_PUNCTUATION)).split())


def _words(text: str, protocol: Protocol) -> list[str]:
    """What F1 is counted over."""
    if protocol == "squad":
        return normalized(text).split()
    if protocol == "mlqa_zh":
        kept = "".join(x for x in text.lower() if x not in string.punctuation and unicodedata.category(x)[0] != "P")
        return MLQA_TOKEN.findall(kept)
    return CMRC_TOKEN.findall(_without_signs(text))


def _without_signs(text: str) -> str:
    return "".join(x for x in text.lower().strip() if x not in CMRC_SIGNS)


def _exact(gold: str, given: str, protocol: Protocol) -> float:
    if protocol == "cmrc2018":
        return float(_without_signs(gold) == _without_signs(given))
    return float(_words(gold, protocol) == _words(given, protocol))


def _f1(gold: str, given: str, protocol: Protocol, nullable: bool) -> float:
    wanted, said = _words(gold, protocol), _words(given, protocol)
    if nullable and not (wanted and said):
        return float(wanted == said)  # evaluate-v1.1.py gives 0 here
    if protocol == "cmrc2018":
        same = SequenceMatcher(None, wanted, said, autojunk=False).find_longest_match().size
    else:
        same = (Counter(wanted) & Counter(said)).total()
    if not same:
        return 0.0
    precision, recall = same / len(said), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _golds(questions: Questions, question: Question) -> list[str]:
    texts = [answer.text for answer in question.answers]
    if questions.nullable:
        return [text for text in texts if normalized(text)] or [""]
    if not texts:
        raise ValueError(f"{questions.path}, question {question.id}: no answer to score against: is it a hidden test?")
    return texts


def _need_all(questions: Questions, given: Mapping[str, object], what: str) -> None:
    missing = [question.id for question in questions.items if question.id not in given]
    if missing:
        rest = f" and {len(missing) - 1} others" if missing[1:] else ""
        raise ValueError(f"{questions.path}, question {missing[0]}: no {what}{rest}: give one for each question")


def _means(exact: Mapping[str, float], f1: Mapping[str, float], ids: Iterable[str]) -> dict[str, float]:
    ids = list(ids)
    total = len(ids)
    sums = {"exact": sum(exact[one] for one in ids), "f1": sum(f1[one] for one in ids)}
    return {**{name: 100.0 * value / total for name, value in sums.items()}, "total": float(total)}

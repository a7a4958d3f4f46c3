# SPDX-License-Identifier: Apache-2.0
"""Scores slot filling (SF): which slot types an utterance holds, and how their values are spelt.

The text is that of Audio SNIPS in SUPERB: "PLAY B-artist QUEEN E-artist NOW". Rules of Yang et al. 2021
(arXiv:2105.01051) as s3prl@ec8064b scores them (s3prl/metric/slot_filling.py); differs: a value may hold ":" and ";".
"""

import re
from collections.abc import Sequence

from .errors import Errors, edits

SPAN = re.compile(r"B-(\S+) (.+?) E-\1")
TAGS = (re.compile(r"B-\S+ "), re.compile(r" E-\S+"))


def read_slots(text: str) -> dict[str, list[str]]:
    """The values of each slot type, in their order; tags inside a value, such as unclosed ones, are left out.

    A slot without a value is none. As in the protocol, a closing tag only has to begin with the type's name.
    """
    found: dict[str, list[str]] = {}
    for name, value in SPAN.findall(re.sub(" +", " ", text)):
        for tag in TAGS:  # one after the other: a closing tag may touch an opening one
            value = tag.sub("", value)
        found.setdefault(name, []).append(value)
    return found


def type_f1(hypothesis: str, reference: str) -> float:
    """F1 of the set of slot types in one utterance; 1 where both have none, 0 where only one has."""
    said, meant = set(read_slots(hypothesis)), set(read_slots(reference))
    if not said and not meant:
        return 1.0
    return 2 * len(said & meant) / (len(said) + len(meant))


def slot_type_f1(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """The mean of the utterances' F1, 0 to 1. Raises ValueError for unlike lengths or no utterance."""
    _check(hypotheses, references)
    return sum(type_f1(*pair) for pair in zip(hypotheses, references, strict=True)) / len(references)


def slot_value_errors(hypotheses: Sequence[str], references: Sequence[str]) -> Errors:
    """Edits of characters over all reference values, each against the nearest said value of its type, or nothing.

    Said values without a reference cost nothing, and one may serve several references.
    Raises: ValueError for unlike lengths or no utterance.
    """
    _check(hypotheses, references)
    wrong = characters = 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        said = read_slots(hypothesis)
        for name, values in read_slots(reference).items():
            for value in values:
                wrong += min(edits(candidate, value) for candidate in said.get(name, [""]))
                characters += len(value)
    return Errors(wrong, characters)


def slot_value_cer(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """The character error rate of slot values, as a fraction. Raises ValueError also where no reference has a slot."""
    return slot_value_errors(hypotheses, references).rate


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references) or not references:
        raise ValueError(
            f"slots are scored in pairs: {len(hypotheses)} hypotheses do not fit {len(references)} references"
        )

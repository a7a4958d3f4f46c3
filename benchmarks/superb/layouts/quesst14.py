# SPDX-License-Identifier: Apache-2.0
"""QUESST 2014 for QbE: spoken queries, spoken documents, and which query occurs where.

Layout: speech.fit.vutbr.cz/files/quesst14Database.tgz. scoring/language_key_{utterances,dev,eval}.lst have rows
`quesst14Database/Audio/NAME.wav LANGUAGE`; SUPERB keeps nnenglish (s3prl@ec8064b, downstream/quesst14_dtw). What
matches is in scoring/groundtruth_quesst14_{dev,eval}/quesst14_{dev,eval}.rttm, rows `LEXEME DOCUMENT 1 START SECONDS
QUERY ...`, where NO_KEYWORD stands for none (known from programs that read it; no description was found).
"""

from pathlib import Path
from typing import NamedTuple

from ..utterances import Utterance, need_all_of_test
from .listings import numbered_lines

LANGUAGE = "nnenglish"


class Search(NamedTuple):
    """Queries to be looked for in documents; which layer is best is chosen by the dev queries."""

    dev: list[Utterance]
    test: list[Utterance]
    documents: list[Utterance]
    dev_truth: dict[str, set[str]] | None  # the documents that hold each query, by names; None: not known
    test_truth: dict[str, set[str]] | None
    recordings: list[str]  # names of all documents that the truth speaks of, searched or not
    protocol: str


def quesst14(root: Path) -> Search:
    """The English queries and documents, and the truth of all languages, against which SUPERB scores.

    Args:
        root: the folder quesst14Database.
    Raises: ValueError, with the line, for rows of another form or missing audio.
    """
    everything = _listed(root, "utterances")
    found = {}
    for name, rows in (("dev", _listed(root, "dev")), ("eval", _listed(root, "eval")), ("utterances", everything)):
        english = [(place, path) for place, path, language in rows if language == LANGUAGE]
        need_all_of_test([(place, f"there is no audio {path}") for place, path in english if not path.is_file()])
        if not english:
            raise ValueError(f"{root / 'scoring'}: language_key_{name}.lst lists nothing in {LANGUAGE}")
        found[name] = [Utterance(path.stem, path) for _, path in english]
    recordings = [path.stem for _, path, _ in everything]
    truths = [_truth(root, name, set(recordings)) for name in ("dev", "eval")]
    protocol = f"SUPERB: the {LANGUAGE} part, dev queries to choose the layer, eval queries for the score"
    return Search(found["dev"], found["eval"], found["utterances"], truths[0], truths[1], recordings, protocol)


def _listed(root: Path, name: str) -> list[tuple[str, Path, str]]:
    """Each row's place, audio and language."""
    file = root / "scoring" / f"language_key_{name}.lst"
    found = []
    for number, line in numbered_lines(file):
        fields = line.split()
        if len(fields) != 2 or "/" not in fields[0]:
            raise ValueError(f"{file}, line {number}: a row is a path and a language, not {line!r}")
        found.append((f"{file}, line {number}", root / fields[0].split("/", 1)[1], fields[1]))
    return found


def _truth(root: Path, name: str, recordings: set[str]) -> dict[str, set[str]] | None:
    file = root / "scoring" / f"groundtruth_quesst14_{name}" / f"quesst14_{name}.rttm"
    if not file.is_file():
        return None
    found: dict[str, set[str]] = {}
    for number, line in numbered_lines(file, empty=True):
        fields = line.split()
        if fields[0] != "LEXEME":
            continue
        if len(fields) < 6 or fields[1] not in recordings:
            raise ValueError(f"{file}, line {number}: a LEXEME row has a listed document in column 2, a query in 6")
        if fields[5] != "NO_KEYWORD":
            found.setdefault(fields[5], set()).add(fields[1])
    return found

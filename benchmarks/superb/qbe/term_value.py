# SPDX-License-Identifier: Apache-2.0
"""Scores spoken term detection (QbE): the maximum term-weighted value, and the list of scores as XML.

TWV as in Fiscus et al. 2007 ("Results of the 2006 spoken term detection evaluation"), over trials of a query and a
whole recording as in QUESST (Anguera et al. 2014, CEUR-WS 1263, paper 35). Costs are those of the scoring script of
QUESST 2015 (score-TWV-Cnxe.sh: P_target 0.0008, C_fa 1, C_miss 100; its README calls the tool with the effective prior
0.0741289 that these make). That 2014 used the same is from memory, not confirmed.
"""

import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

PRIOR, FALSE_ALARM, MISS = 0.0008, 1.0, 100.0
BETA = FALSE_ALARM / MISS * (1 / PRIOR - 1)  # what a false alarm costs beside a miss: 12.49
DEFAULT = -10.0  # the score of trials that a system leaves out, as SUPERB calls the script
YES = 2.0  # deviations above a query's mean at which s3prl says that it is there


class TermValue(NamedTuple):
    """The best term-weighted value, and the lowest score that it accepts (infinite where it accepts nothing)."""

    value: float
    threshold: float


def greatest_term_value(
    scores: Mapping[str, Mapping[str, float]],
    truth: Mapping[str, Collection[str]],
    recordings: Collection[str],
    default: float = DEFAULT,
    beta: float = BETA,
) -> TermValue:
    """MTWV: 1 - the mean over queries of (misses + beta x false alarms), at the one best threshold; 0 to 1.

    Trials are all queries of the truth with all recordings. SUPERB searches the English part alone, but its leaderboard
    calls the script with groundtruth_quesst14_eval and -10 for what is left out. If those files hold all languages, as
    their name says (they were not at hand), give them here too: values are then some four times smaller.

    Args:
        scores: of each query, of each recording; queries that are not in the truth are not scored.
        truth: the recordings that hold each query; queries in none are left out.
    Raises: ValueError for unknown recordings, scores that are no numbers, or a truth without occurrences.
    """
    places = {recording: place for place, recording in enumerate(recordings)}
    queries = [query for query, found in truth.items() if found]
    if not queries:
        raise ValueError("no term-weighted value: no query occurs in any recording")
    given = np.full((len(queries), len(places)), default, dtype=np.float64)
    gains = np.empty_like(given)  # what accepting a trial adds to the sum of the queries' values
    for row, query in enumerate(queries):
        heard, held = scores.get(query, {}), set(truth[query])
        if unknown := (heard.keys() | held) - places.keys():
            raise ValueError(f"query {query}: {min(unknown)} is not among the {len(places)} recordings")
        given[row, [places[name] for name in heard]] = list(heard.values())
        gains[row] = -beta / max(len(places) - len(held), 1)
        gains[row, [places[name] for name in held]] = 1 / len(held)
    if np.isnan(given).any():
        raise ValueError(f"query {queries[int(np.isnan(given).any(1).argmax())]} has a score that is no number")
    order = np.argsort(-given, axis=None, kind="stable")
    descending = given.ravel()[order]
    ends = np.append(np.flatnonzero(np.diff(descending)), len(descending) - 1)  # equal scores are accepted together
    values = np.cumsum(gains.ravel()[order])[ends] / len(queries)
    best = int(values.argmax())
    if values[best] <= 0:
        return TermValue(0.0, float("inf"))
    return TermValue(float(values[best]), float(descending[ends[best]]))


def write_stdlist(path: Path, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Writes scores as `benchmark.stdlist.xml` (NIST STD 2006 evaluation plan), to four decimals as SUPERB does."""
    root = ET.Element(
        "stdlist",
        termlist_filename="benchmark.stdlist.xml",
        indexing_time="1.00",
        language="english",
        index_size="1",
        system_id="benchmark",
    )
    for query, found in scores.items():
        listed = ET.SubElement(root, "detected_termlist", termid=query, term_search_time="1.0", oov_term_count="1")
        for recording, score in found.items():
            given = {"score": f"{score:.4f}", "decision": "YES" if score > YES else "NO"}
            where = {"file": recording, "channel": "1", "tbeg": "0.000", "dur": "0.00"}
            ET.SubElement(listed, "term", where | given)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)


def read_stdlist(path: Path) -> dict[str, dict[str, float]]:
    """The scores of each query and recording. Raises ValueError for a file of another form."""
    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{path} is not XML: {error}") from error
    try:
        return {
            listed.attrib["termid"]: {term.attrib["file"]: float(term.attrib["score"]) for term in listed}
            for listed in root.iter("detected_termlist")
        }
    except KeyError as error:
        raise ValueError(f"{path} is no list of detected terms: an element has no {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: a score is no number: {error}") from error

# SPDX-License-Identifier: Apache-2.0
"""QbE: in which recordings does a spoken query occur? Nothing is trained; each layer's states are matched by DTW.

Yang et al. 2021 (arXiv:2105.01051, section 2): the layer that finds the dev queries best looks for those of test.
OUT/superb-qbe/ENCODER-HASH holds the search, OUT/predictions/ENCODER-HASH the scores as the leaderboard takes them.
"""

import time

from ....ssl.config import to_dict
from ...scores import Row
from .. import baselines
from ..entrant import Entrant
from ..layouts.quesst14 import Search
from ..predictions import FILES, pack
from ..swept import departures, submission
from .search import Found, SearchConfig, find
from .spoken_terms import SHORTEST
from .term_value import write_stdlist


def row(name: str, config: SearchConfig, data: tuple[Search, bool], entrant: Entrant) -> Row:
    """An encoder's row, or that of its random twins; seeds are of the twins, as nothing else is drawn.

    Args:
        data: what is searched, and whether it is what the leaderboard scores.
    Raises: ValueError if there is no truth to score by, or audio that cannot be read.
    """
    start = time.perf_counter()
    wanted, official = data
    who, out = entrant.who, entrant.out
    each, chosen = [], []
    for backbone, _ in entrant.backbones():
        found, place = find(entrant.storing(config, backbone), wanted, backbone, entrant.folder(name), out, entrant.say)
        grid = [{"layer": int(layer), "dev": value} for layer, value in found.dev.items()]
        each.append({**found.test, "dev": max(found.dev.values())})
        how = {"layer": found.layer, "by": "dev MTWV", "grid": grid, "layers": [], "sweeps": [str(place)]}
        notes = [*_notes(found, wanted), *baselines.notes(who)]
        chosen.append({**how, "bad": 0, "changed": departures(config), "notes": notes})
        if not entrant.twin_of:
            to = out / "predictions" / (submission(who, backbone, config) if official else place.name)
            chosen[-1]["predictions"] = str(to)
            path = to / "predict" / FILES["qbe"] if official else to / "qbe.stdlist.xml"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_stdlist(path, found.scores)
            if official:
                pack(to)
    rules = (f"{wanted.protocol}; {config.rules()}", "test")
    return Row.of((name, who), "mtwv", each, chosen, time.perf_counter() - start, to_dict(config), rules, [])


def _notes(found: Found, wanted: Search) -> list[str]:
    level = [layer for layer, value in found.dev.items() if value == found.dev[str(found.layer)]]
    best = "the best" if len(level) == 1 else f"the first of {len(level)} that are level at the best"
    notes = [f"layer {found.layer}, {best} of {len(found.dev)} by the dev queries"]
    if flat := [query for query, scores in found.scores.items() if not any(scores.values())]:
        few = f"have fewer than {SHORTEST} frames, or sound alike everywhere"
        notes.append(
            f"{len(flat)} of {len(found.scores)} test queries score 0 in every document, as they {few}: {flat[0]}"
        )
    if "mtwv_english" in found.test:
        rest = f"all {len(wanted.recordings)} documents and all queries, where what is not searched scores -10"
        notes.append(f"mtwv: {rest}; mtwv_english: the {len(wanted.documents)} documents and queries searched, alone")
    return notes


def qbe() -> SearchConfig:
    """Spoken queries in recordings, no training; maximum term-weighted value (QUESST 2014 English, or a manifest)."""
    return SearchConfig()

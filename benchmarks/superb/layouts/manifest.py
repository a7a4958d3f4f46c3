# SPDX-License-Identifier: Apache-2.0
"""Anybody's data for any of the ten tasks: a .tsv, .csv or .jsonl with the columns path, and label or text.

Further columns may be split, speaker, start and end (seconds); `manifest_rows.py` says what they do.
"""

import os
from pathlib import Path

from ..asv.trials import draw_trials, with_trials
from ..sd.rttm import Turn
from ..utterances import Parts, Slot, Trial, Utterance, checked, need_all_of_test
from .manifest_rows import SPLITS, Row, read_rows, split_rows
from .quesst14 import Search


def labelled(path: Path, slots: tuple[str, ...] = ("label",), apart: bool = False) -> Parts:
    """Utterances with a value of each slot: KS, SID and ER (label), IC (several columns).

    Args:
        slots: the columns that hold the labels.
        apart: no speaker is in two parts (ER), if there is a column speaker.
    Raises: ValueError, with the line, for what cannot be used, such as a label that training never sees.
    """
    rows = read_rows(path, slots)
    parts, skipped, protocol = split_rows(path, rows, apart, taught=slots)
    ours = "" if any(row.split for row in rows) else ": name train, dev and test in a column split"
    for row in (row for found in parts.values() for row in found):
        if broken := [slot for slot in slots if len(row.values[slot].splitlines()) > 1]:
            raise ValueError(f"{row.place}: the {broken[0]} has a line break: remove it")
    seen = [sorted({row.values[slot] for row in parts["train"]}) for slot in slots]
    for part in ("dev", "test"):
        for row in parts[part]:
            for slot, values in zip(slots, seen, strict=True):
                if row.values[slot] not in values:
                    lacks = f"no row for training has the {slot} {row.values[slot]!r}"
                    raise ValueError(f"{row.place}: {lacks}{ours}")
    made = {
        part: [row.utterance()._replace(labels=tuple(row.values[slot] for slot in slots)) for row in rows]
        for part, rows in parts.items()
    }
    values = tuple(Slot(slot, tuple(names)) for slot, names in zip(slots, seen, strict=True))
    return checked(Parts(made["train"], made["dev"], made["test"], protocol, skipped, values), path)


def transcribed(path: Path, tags: bool = False) -> Parts:
    """Utterances with `text`: PR, ASR and, with a column tags (a slot or O for each word), SF.

    No speaker is in two parts, if there is a column speaker. The text of SF becomes upper-case, as that of Audio SNIPS.
    Raises: ValueError, with the line, for what cannot be used.
    """
    parts, skipped, protocol = split_rows(path, read_rows(path, ("text", *(("tags",) if tags else ()))), True)
    made: dict[str, list[Utterance]] = {}
    names: set[str] = set()
    for part, rows in parts.items():
        made[part] = []
        for row in rows:
            words, kinds = row.values["text"].split(), tuple(row.values["tags"].split()) if tags else ()
            if tags and len(words) != len(kinds):
                raise ValueError(f"{row.place}: {len(kinds)} tags for {len(words)} words")
            own = {kind.removeprefix("B-").removeprefix("I-") for kind in kinds} - {"O"}
            names |= own if part == "train" else set()
            if strange := sorted(own - names):
                raise ValueError(f"{row.place}: no row for training has the slot {strange[0]!r}")
            text = " ".join(words).upper() if tags else " ".join(words)
            made[part].append(row.utterance()._replace(text=text, tags=kinds))
    slots = (Slot("slots", tuple(sorted(names))),) if tags else ()
    return checked(Parts(made["train"], made["dev"], made["test"], protocol, skipped, slots), path)


def verified(path: Path, trials: Path | None = None, clean: bool = True) -> Parts:
    """Utterances of speakers, who are in one part each, with trials: ASV. The label is the speaker.

    Args:
        clean: choices are made by trials of dev, whose speakers are set apart if none are named.
        trials: rows `1 a.wav b.wav` of test utterances, or ALL; None: they are drawn, as those of dev always are.
    Raises: ValueError, with the line, for what cannot be used.
    """
    rows = [row._replace(speaker=row.values["label"]) for row in read_rows(path, ("label",))]
    parts, skipped, protocol = split_rows(path, rows, True, least=2, dev=clean)
    if parts["dev"] and not clean:
        protocol += f", of which the {len(parts['dev'])} for dev are not used, as best on test is taken"
        parts["dev"] = []
    made = {part: [row.utterance()._replace(labels=(row.speaker,)) for row in found] for part, found in parts.items()}
    voices = sorted({row.speaker for row in parts["train"]})
    if len(voices) == 1:
        raise ValueError(f"{path}: training has one speaker only, {voices[0]!r}: there is nothing to tell apart")
    slot = Slot("speaker", tuple(voices))
    read = checked(Parts(made["train"], made["dev"], made["test"], protocol, skipped, (slot,)), path)
    if clean:
        read = read._replace(dev_trials=_drawn(path, "dev", read.dev))
    if trials is not None:
        return with_trials(read, trials)
    return read._replace(trials=_drawn(path, "test", read.test), protocol=f"{protocol}; trials drawn")


def _drawn(path: Path, part: str, utterances: list[Utterance]) -> tuple[Trial, ...]:
    try:
        return draw_trials(utterances)
    except ValueError as error:
        raise ValueError(f"{path}, {part}: {error}") from None


def diarized(path: Path) -> Parts:
    """Recordings with turns: SD. A row is a turn, with start and end, of the speaker in the column label.

    Raises: ValueError, with the line, for what cannot be used.
    """
    turns: dict[str, list[Turn]] = {}
    first: dict[str, Row] = {}
    for row in read_rows(path, ("label",)):
        if row.end is None:
            raise ValueError(f"{row.place}: a turn needs start and end, in seconds")
        file = os.path.normpath(row.path)
        if first.setdefault(file, row).split != row.split:
            raise ValueError(f"{row.place}: {row.values['path']} is in {first[file].split!r} and {row.split!r}")
        turns.setdefault(file, []).append(Turn(row.values["label"], row.start, row.end))
    whole = [row._replace(start=0.0, end=None) for row in first.values()]
    parts, skipped, protocol = split_rows(path, whole, False)
    made = {
        part: [row.utterance()._replace(turns=tuple(turns[os.path.normpath(row.path)])) for row in rows]
        for part, rows in parts.items()
    }
    return checked(Parts(made["train"], made["dev"], made["test"], protocol, skipped), path)


def searched(path: Path) -> Search:
    """Queries and documents: QbE. Split is dev or test for queries and document for documents.

    The label of a query is its term, that of a document all terms that occur in it, between spaces or in several rows,
    or nothing.
    Raises: ValueError, with the line, for what cannot be used, such as one name for two queries.
    """
    found: dict[str, dict[str, tuple[Utterance, set[str]]]] = {"dev": {}, "test": {}, "document": {}}
    lacking: list[tuple[str, str]] = []
    for row in read_rows(path, (), ("label",)):
        kind, said = SPLITS.get(row.split, row.split), row.values.get("label", "").split()
        if kind not in found:
            raise ValueError(f"{row.place}: split is dev or test (queries) or document, not {row.split!r}")
        if kind != "document" and len(said) != 1:
            raise ValueError(f"{row.place}: a query has one term as its label, without spaces, not {' '.join(said)!r}")
        if not row.path.is_file():
            lacking.append((row.place, f"there is no audio {row.path}"))
        one = row.utterance()
        before, terms = found[kind].setdefault(one.name, (one, set()))
        if (terms and kind != "document") or before.path != one.path:
            raise ValueError(f"{row.place}: a {kind} row above has the name {one.name} already; remove one")
        terms.update(said)
    need_all_of_test(lacking)
    for kind, pairs in found.items():
        if not pairs:
            raise ValueError(f"{path}: no row has the split {kind}")
    truth = [
        {query: {document for document, (_, said) in found["document"].items() if term <= said}
         for query, (_, term) in found[kind].items()}
        for kind in ("dev", "test")
    ]  # fmt: skip
    dev, test, documents = ([one for one, _ in found[kind].values()] for kind in ("dev", "test", "document"))
    names = list(found["document"])
    return Search(dev, test, documents, truth[0], truth[1], names, f"the splits of {path.name}")

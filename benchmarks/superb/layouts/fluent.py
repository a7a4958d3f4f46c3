# SPDX-License-Identifier: Apache-2.0
"""Fluent Speech Commands for IC: wavs/ and data/{train,valid,test}_data.csv with an action, an object and a location.

Layout: Lugosch et al. 2019 (arXiv:1904.03670); slots and their order as in s3prl@ec8064b, downstream/fluent_commands.
"""

from pathlib import Path

from ....ssl.tables import table
from ..utterances import Parts, Slot, Utterance, checked, leave_out

SLOTS = ("action", "object", "location")
COLUMNS = ("path", *SLOTS)


def fluent_speech_commands(root: Path) -> Parts:
    """Utterances with three labels, of which all must be right; values are numbered as the train CSV brings them.

    Args:
        root: the folder fluent_speech_commands_dataset.
    Raises: ValueError, with the line, for missing columns, a value that training never sees, or missing test audio.
    """
    skipped: list[tuple[str, str]] = []
    train = _read(root, "train", "train", skipped)
    slots = tuple(
        Slot(name, tuple(dict.fromkeys(utterance.labels[i] for _, utterance in train))) for i, name in enumerate(SLOTS)
    )
    parts = [train, _read(root, "dev", "valid", skipped), _read(root, "test", "test", skipped)]
    for place, utterance in (pair for part in parts[1:] for pair in part):
        for slot, value in zip(slots, utterance.labels, strict=True):
            if value not in slot.values:
                raise ValueError(f"{place}: the {slot.name} {value!r} is not in train_data.csv: mend one of the files")
    kept = [[utterance for _, utterance in part] for part in parts]
    protocol = "SUPERB: the corpus's own train, valid and test CSV; right means all three slots"
    return checked(Parts(kept[0], kept[1], kept[2], protocol, skipped, slots), root)


def _read(root: Path, part: str, name: str, skipped: list[tuple[str, str]]) -> list[tuple[str, Utterance]]:
    file = root / "data" / f"{name}_data.csv"
    found = []
    for number, row in table(file):
        place = f"{file}, line {number}"
        if missing := [column for column in COLUMNS if not row.get(column)]:
            raise ValueError(f"{place}: no {', '.join(missing)}; a row has {', '.join(COLUMNS)}")
        path = root / row["path"]
        if not path.is_file():
            leave_out(skipped, part, place, f"there is no audio {path}")
            continue
        labels = tuple(row[slot] for slot in SLOTS)
        speaker, text = row.get("speakerId", ""), row.get("transcription", "")
        found.append((place, Utterance(path.stem, path, text=text, labels=labels, speaker=speaker)))
    return found

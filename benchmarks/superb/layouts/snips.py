# SPDX-License-Identifier: Apache-2.0
"""Audio SNIPS for SF: {train,valid,test}/*.wav, all.iob.snips.txt and slots.txt, as SUPERB prepared them.

A row of all.iob.snips.txt is `ID BOS WORDS EOS <tab> O TAGS INTENT`; an ID begins with the synthetic voice's name.
Split of the voices and layout: s3prl@ec8064b, downstream/ctc/snips.yaml and preprocess/snips_preprocess.py; corpus:
Lai et al. 2021 (arXiv:2010.13105).
"""

from pathlib import Path

from ..utterances import Parts, Slot, Utterance, checked, leave_out
from .listings import need_folder, numbered_lines

VOICES = {
    "train": ("Ivy", "Joanna", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli"),
    "valid": ("Aditi", "Amy", "Geraint", "Nicole"),
    "test": ("Brian", "Emma", "Raveena", "Russell"),
}


def audio_snips(root: Path) -> Parts:
    """Utterances with `text` (upper-case words) and a tag, a slot or O, for each word; `slots` has one Slot, "slots".

    Args:
        root: the folder SNIPS.
    Raises: ValueError, with the line, for rows of another form and tags that slots.txt lacks.
    """
    names = read_slots(root / "slots.txt")
    rows = _rows(root / "all.iob.snips.txt", set(names))
    skipped: list[tuple[str, str]] = []
    parts: dict[str, list[Utterance]] = {}
    for part, voices in VOICES.items():
        kind = "dev" if part == "valid" else part
        parts[part] = []
        present = set()
        for path in sorted(need_folder(root / part).rglob("*.wav")):
            voice = path.stem.split("-")[0]
            if voice not in voices:
                continue
            present.add(path.stem)
            if path.stem not in rows:
                leave_out(skipped, kind, str(path), "all.iob.snips.txt has no row for it")
                continue
            text, tags = rows[path.stem]
            parts[part].append(Utterance(path.stem, path, text=text, tags=tags, speaker=voice))
        for name in rows:
            voice, _, rest = name.partition("-")
            if voice in voices and rest.startswith(f"snips-{part}-") and name not in present:
                leave_out(skipped, kind, f"{root / 'all.iob.snips.txt'}: {name}", f"no audio {root / part / name}.wav")
    protocol = "SUPERB: 8 voices for train, 4 for valid, 4 for test, and the corpus's own sentences in each"
    slot = Slot("slots", names)
    return checked(Parts(parts["train"], parts["valid"], parts["test"], protocol, skipped, (slot,)), root)


def read_slots(path: Path) -> tuple[str, ...]:
    """The slots that slots.txt names below its first line, which is O (no slot)."""
    names = [line.strip() for _, line in numbered_lines(path)]
    if names[:1] != ["O"] or len(set(names)) != len(names):
        raise ValueError(f"{path}: the first line should be O, and each slot should stand there once")
    return tuple(names[1:])


def _rows(file: Path, slots: set[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Words and tags by the utterance's name."""
    rows = {}
    for number, line in numbered_lines(file):
        place = f"{file}, line {number}"
        name, _, rest = line.strip().partition(" ")
        words, tab, tags = rest.partition("\t")
        text, kinds = words.split(" "), tags.split(" ")
        if not tab or text[0] != "BOS" or text[-1] != "EOS" or len(text) != len(kinds):
            raise ValueError(f"{place}: a row is an id, BOS words EOS, a tab, and as many of: O, tags, intent")
        if unknown := {kind.removeprefix("B-").removeprefix("I-") for kind in kinds[1:-1]} - slots - {"O"}:
            raise ValueError(f"{place}: slots.txt has no slot {min(unknown)}")
        if name in rows:
            raise ValueError(f"{place}: {name} has a row already")
        rows[name] = " ".join(text[1:-1]), tuple(kinds[1:-1])
    return rows

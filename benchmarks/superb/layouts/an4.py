# SPDX-License-Identifier: Apache-2.0
"""CMU AN4 (census), a small corpus for trying PR, ASR, SID and ASV: etc/an4_{train,test}.{fileids,transcription}, wav/.

Layout: the archives an4_sphere and an4_raw of the CMU Sphinx group (github.com/cmusphinx/an4).
"""

import re
from pathlib import Path

from ..apart import set_apart
from ..asv.trials import draw_trials, with_trials
from ..utterances import Parts, Slot, Utterance, checked, leave_out
from .listings import numbered_lines

AUDIO = (".wav", ".sph", ".flac")
# an4.dic has the article first, but A is a spelled letter in all of AN4's utterances but one.
SPELLED = {"A": ("EY",)}


def an4(root: Path) -> Parts:
    """Utterances with `text` and speaker; a tenth of the training speakers, two or more, is for dev.

    Raises: ValueError, with the line, if the lists disagree, or for test audio that is missing.
    """
    skipped: list[tuple[str, str]] = []
    train, test = (_listed(root, part, skipped) for part in ("train", "test"))
    dev = set_apart((utterance.speaker for utterance in train), 0.1, least=2)
    protocol = f"AN4's own train and test; {len(dev)} training speaker(s) set apart by name for dev"
    return checked(
        Parts(
            [utterance for utterance in train if utterance.speaker not in dev],
            [utterance for utterance in train if utterance.speaker in dev],
            test,
            protocol,
            skipped,
        ),
        root,
    )


def an4_identification(root: Path) -> Parts:
    """The speakers of AN4's training list: of each speaker's utterances every fifth is for test, the one after for dev.

    Raises: as `an4`.
    """
    skipped: list[tuple[str, str]] = []
    parts: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    seen: dict[str, int] = {}
    for utterance in _listed(root, "train", skipped):
        turn = seen[utterance.speaker] = seen.get(utterance.speaker, -1) + 1
        part = "test" if turn % 5 == 3 else "dev" if turn % 5 == 4 else "train"
        parts[part].append(utterance._replace(labels=(utterance.speaker,)))
    slot = Slot("speaker", tuple(sorted(seen)))
    protocol = "AN4's training speakers; of each five utterances of a speaker, in the list's order, 3 / 1 / 1"
    return checked(Parts(parts["train"], parts["dev"], parts["test"], protocol, skipped, (slot,)), root)


def an4_verification(root: Path, trials: Path | None = None, clean: bool = False) -> Parts:
    """AN4's training speakers to learn from, and trials of test utterances.

    Args:
        trials: in VoxCeleb's form with paths from wav/, or ALL; None: etc/veri_test.txt.
        clean: choices are made by trials of the speakers that `an4` sets apart; else all are learned from.
    Raises: as `an4`, and for a trial of utterances that the test list lacks.
    """
    parts = an4(root)
    if not clean:
        parts = parts._replace(
            train=sorted((*parts.train, *parts.dev), key=lambda utterance: utterance.path),
            dev=[],
            protocol="AN4's own train and test; no dev part, best on test is taken",
        )
    parts = parts._replace(
        train=[utterance._replace(labels=(utterance.speaker,)) for utterance in parts.train],
        dev_trials=draw_trials(parts.dev) if clean else (),
        slots=(Slot("speaker", tuple(sorted({utterance.speaker for utterance in parts.train}))),),
    )
    return with_trials(parts, trials or root / "etc" / "veri_test.txt")


def _listed(root: Path, part: str, skipped: list[tuple[str, str]]) -> list[Utterance]:
    ids, texts = (root / "etc" / f"an4_{part}.{kind}" for kind in ("fileids", "transcription"))
    names, rows = list(numbered_lines(ids)), list(numbered_lines(texts))
    if len(names) != len(rows):
        raise ValueError(f"{ids} lists {len(names)} utterances and {texts} {len(rows)}: they must go together")
    utterances = []
    for (_, place), (number, line) in zip(names, rows, strict=True):
        place = place.strip()
        match = re.fullmatch(r"(.*)\(([^()\s]+)\)\s*", line)
        if match is None or match[2] != Path(place).name:
            raise ValueError(f"{texts}, line {number}: it should end in ({Path(place).name}), as {ids.name} lists it")
        text = " ".join(word for word in match[1].split() if not re.fullmatch(r"</?s>|<sil>", word))
        path = next((path for suffix in AUDIO if (path := root / "wav" / f"{place}{suffix}").is_file()), None)
        if path is not None:
            utterances.append(Utterance(match[2], path, text=text, speaker=Path(place).parent.name))
        elif (raw := root / "wav" / f"{place}.raw").is_file():
            # Both byte orders are published under this name, and nothing in the file tells them apart.
            raise ValueError(f"{raw} has no header: take an4_sphere, or `sox -r 16k -e signed -b 16 -c 1 IN OUT.wav`")
        else:
            leave_out(skipped, part, f"{ids}: {place}", f"there is no {root / 'wav' / place}{AUDIO[0]}")
    return utterances

# SPDX-License-Identifier: Apache-2.0
"""AMI for trying SD, as pyannote keeps it: NAME.{train,development,test}.{lst,rttm,uem} beside <recording>.wav.

Layout: github.com/pyannote/pyannote-audio, its debug set of AMI excerpts (Carletta 2005), and its database.yml.
"""

from pathlib import Path

from ..sd.rttm import read_rttm, read_uem
from ..utterances import Parts, Utterance, checked, leave_out
from .listings import need_folder, numbered_lines


def ami(root: Path) -> Parts:
    """Recordings with turns and what is scored of them.

    Raises: ValueError if a list is missing or there twice, a recording has no turns or its UEM file passes it over, or
        for missing test audio.
    """
    skipped: list[tuple[str, str]] = []
    found: dict[str, list[Utterance]] = {}
    for part, name in (("train", "train"), ("dev", "development"), ("test", "test")):
        lists = sorted(need_folder(root).glob(f"*.{name}.lst"))
        if len(lists) != 1:
            raise ValueError(f"{root} needs one file *.{name}.lst and has {len(lists)}")
        turns = read_rttm(lists[0].with_suffix(".rttm"))
        uem = lists[0].with_suffix(".uem")
        scored = read_uem(uem) if uem.is_file() else {}
        found[part] = []
        for number, line in numbered_lines(lists[0]):
            recording = line.strip()
            path = root / f"{recording}.wav"
            if uem.is_file() and recording not in scored and path.is_file():
                raise ValueError(f"{lists[0]}, line {number}: {uem.name} does not say what to score of {recording}")
            if recording not in turns:
                raise ValueError(f"{lists[0]}, line {number}: {lists[0].stem}.rttm has no turns of {recording}")
            if path.is_file():
                spoken, stretches = tuple(turns[recording]), tuple(scored.get(recording, []))
                found[part].append(Utterance(recording, path, turns=spoken, scored=stretches))
            else:
                leave_out(skipped, part, f"{lists[0]}, line {number}", f"there is no audio {path}")
    protocol = "the lists' own train, development and test"
    return checked(Parts(found["train"], found["dev"], found["test"], protocol, skipped), root)

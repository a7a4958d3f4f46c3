# SPDX-License-Identifier: Apache-2.0
"""Libri2Mix for SD, in Kaldi folders data/{train,dev,test}: wav.scp segments utt2spk spk2utt reco2dur rttm.

The folders are made by prepare_diarization.py of s3prl's LibriMix fork (github.com/s3prl/LibriMix@d569d35); Cosentino
et al. 2020 (arXiv:2005.11262).
"""

import re
from collections import deque
from pathlib import Path

from ..sd.rttm import Turn, read_rttm
from ..utterances import Parts, Utterance, checked, leave_out
from .listings import need_folder, numbered_lines, seconds

# Two utterances of LibriSpeech, such as 4077-13754-0001_5142-33396-0065 (metadata/Libri2Mix of the fork).
_MIXTURE = re.compile(r"\d+-\d+-\d{4}_\d+-\d+-\d{4}")


def librimix(root: Path) -> Parts:
    """Recordings with turns: train and dev from `segments`, test from `rttm`, which is what SUPERB scores against.

    Args:
        root: the folder that holds train, dev and test; paths in wav.scp are absolute, or start from wav.scp's folder.
    Raises: ValueError, with the line, for files that contradict one another, pipes, or missing test audio.
    """
    skipped: list[tuple[str, str]] = []
    train, dev, test = (kaldi(root / part, part, skipped) for part in ("train", "dev", "test"))
    protocol = "Kaldi folders train, dev and test; recordings are not called as those of Libri2Mix"
    if is_libri2mix(test):
        protocol = "SUPERB: Libri2Mix 16k max, both speakers and noise; s3prl's folders train, dev and test"
    return checked(Parts(train, dev, test, protocol, skipped), root)


def is_libri2mix(test: list[Utterance]) -> bool:
    """Whether recordings have the names of mixtures of two utterances of LibriSpeech."""
    return all(_MIXTURE.fullmatch(one.name) for one in test)


def kaldi(folder: Path, part: str, skipped: list[tuple[str, str]]) -> list[Utterance]:
    """The recordings of one Kaldi folder; for the part "test" with the turns of rttm, else with those of segments."""
    need_folder(folder)
    lengths = {name: seconds(text, place) for name, text, place in _pairs(folder / "reco2dur")}
    turns = _segments(folder)
    if part == "test":
        reference = read_rttm(folder / "rttm")
        for name, spoken in turns.items():
            if {turn.speaker for turn in spoken} != {turn.speaker for turn in reference.get(name, [])}:
                raise ValueError(f"{folder / 'rttm'}: {name} has other speakers there than in segments and utt2spk")
        turns = reference
    found = []
    for name, text, place in _pairs(folder / "wav.scp"):
        if text.endswith("|"):
            raise ValueError(f"{place}: {text!r} is a command; write the audio to files and name them here")
        if name not in lengths:
            raise ValueError(f"{folder / 'reco2dur'} has no length of {name}, which wav.scp lists")
        path = folder / text
        if path.is_file():
            found.append(Utterance(name, path, end=lengths[name], turns=tuple(turns.get(name, []))))
        else:
            leave_out(skipped, part, place, f"there is no audio {path}")
    return found


def _pairs(file: Path) -> list[tuple[str, str, str]]:
    """Name, the rest of the line, and the line's place."""
    found = []
    for number, line in numbered_lines(file):
        place = f"{file}, line {number}"
        name, *rest = line.split(None, 1)
        if not rest:
            raise ValueError(f"{place}: {name} has no value")
        found.append((name, rest[0].strip(), place))
    return found


def _segments(folder: Path) -> dict[str, list[Turn]]:
    """The turns of each recording. Two speakers' turns may share a name; the order of the files tells them apart."""
    speakers: dict[str, deque[str]] = {}
    for name, speaker, _ in _pairs(folder / "utt2spk"):
        speakers.setdefault(name, deque()).append(speaker)
    listed = {name for name, _, _ in _pairs(folder / "spk2utt")}
    if strange := {speaker for names in speakers.values() for speaker in names} ^ listed:
        raise ValueError(f"{folder / 'spk2utt'}: {min(strange)} is not in both utt2spk and spk2utt")
    known = {name for name, _, _ in _pairs(folder / "wav.scp")}
    turns: dict[str, list[Turn]] = {}
    for name, rest, place in _pairs(folder / "segments"):
        fields = rest.split()
        if len(fields) != 3:
            raise ValueError(f"{place}: a row is an utterance, its recording, start and end")
        if fields[0] not in known:
            raise ValueError(f"{place}: wav.scp has no recording {fields[0]}")
        if not speakers.get(name):
            raise ValueError(f"{place}: utt2spk has no speaker of {name}")
        start, end = seconds(fields[1], place), seconds(fields[2], place)
        if end < start:
            raise ValueError(f"{place}: {name} ends before it starts")
        speaker = speakers[name].popleft()
        if end > start:
            turns.setdefault(fields[0], []).append(Turn(speaker, start, end))
    return turns

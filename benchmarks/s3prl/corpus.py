# SPDX-License-Identifier: Apache-2.0
"""Lays keywords out as s3prl's speech_commands expects them, in symbolic links, so that both split them alike.

s3prl@ec8064b, downstream/speech_commands, splits by the SHA-1 of a file's name: links have names that fall into the
part that pluri's reader put the clip in, which is the official one for the official corpus.
"""

import itertools
import shutil
from pathlib import Path

from ..superb.layouts.speech_commands import KEYWORDS, NOISE, part_of
from ..superb.utterances import Parts, Utterance, file_lengths

TRAIN, TEST = "train", "test"


def lay_out(parts: Parts, folder: Path) -> tuple[Path, Path]:
    """Two folders of links: what s3prl takes as the corpus, train and dev, and as the test archive.

    Args:
        parts: measured. Recordings of noise, from which silence is cut, are those of train; dev shares them.
        folder: is made anew.
    Raises: ValueError for classes that are not Speech Commands', or pieces of files.
    """
    _check(parts)
    shutil.rmtree(folder, ignore_errors=True)
    train, test = folder / TRAIN, folder / TEST
    (train / NOISE).mkdir(parents=True)
    for part, utterances in (("train", parts.train), ("dev", parts.dev)):
        name = _name(part)
        for number, utterance in enumerate(utterances):
            if utterance.crop is None:
                _link(train / utterance.labels[0] / f"{name}_nohash_{number}.wav", utterance.path)
    for number, path in enumerate(dict.fromkeys(one.path for one in parts.train if one.crop is not None)):
        _link(train / NOISE / f"{number}.wav", path)
    for number, utterance in enumerate(parts.test):  # clips of several folders may have one name
        _link(test / utterance.labels[0] / f"{number}-{Path(utterance.name).stem}.wav", utterance.path)
    return train, test


def _name(part: str) -> str:
    """The first speaker's name that falls into a part."""
    return next(name for number in itertools.count() if part_of(name := f"{part}{number}") == part)


def _link(link: Path, path: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(path.resolve())


def _check(parts: Parts) -> None:
    everything = [*parts.train, *parts.dev, *parts.test]
    lengths = file_lengths(one.path for one in everything)
    for utterance in everything:
        if not set(utterance.labels) <= set(KEYWORDS.values):
            known = ", ".join(KEYWORDS.values)
            raise ValueError(f"{utterance.path}: s3prl's speech_commands knows no {utterance.labels[0]}, only {known}")
        if not _whole(utterance, lengths[utterance.path]):
            raise ValueError(f"{utterance.path}: s3prl reads whole files, and the data name a piece of this one")


def _whole(utterance: Utterance, length: float | str) -> bool:
    assert not isinstance(length, str) and utterance.end is not None
    return utterance.start == 0.0 and utterance.end > length - 1e-6

# SPDX-License-Identifier: Apache-2.0
"""VCC2020's first task for VC, any speaker to one target: its lists, and mel-cepstral distortion.

Layout and lists: s3prl@ec8064b, downstream/a2o-vc-vcc2020 (data/data_download.sh, data/lists, dataset.py): a folder
SPEAKER/NUMBER.wav for each speaker, and prompts/Eng_transcriptions.txt. Corpus: Zhao et al. 2020 (arXiv:2008.12527).
Shape letters: T frames of the converted speech, U of the target's, C coefficients.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.distance import cdist

from ..superb.layouts.listings import need_folder, numbered_lines
from ..superb.utterances import Parts, Utterance, checked, leave_out

TARGETS = ("TEF1", "TEF2", "TEM1", "TEM2")
SOURCES = ("SEF1", "SEF2", "SEM1", "SEM2")
TRAIN = (*(f"E1{number:04}" for number in range(1, 61)), *(f"E2{number:04}" for number in range(1, 51)))
DEV = tuple(f"E1{number:04}" for number in range(61, 71))
TEST = tuple(f"E3{number:04}" for number in range(1, 26))
_DECIBELS = 10.0 / np.log(10.0) * np.sqrt(2.0)


def vcc2020(root: Path, target: str) -> Parts:
    """What a target says, to learn from, and for test what each source speaker says: 25 sentences of four speakers.

    A target says only some of the sentences of train and dev; test utterances have their words as `text`, and
    `spoken_by_target` says where the target's own are.

    Args:
        root: the folder of the speakers' folders. target: one of TARGETS.
    Raises: ValueError for another target, or test audio or words that are missing.
    """
    if target not in TARGETS:
        raise ValueError(f"no target {target}: VCC2020's first task has {', '.join(TARGETS)}")
    folder = need_folder(root / target)
    train, dev = (
        [
            Utterance(name, folder / f"{name}.wav", speaker=target)
            for name in names
            if (folder / f"{name}.wav").is_file()
        ]
        for names in (TRAIN, DEV)
    )
    words = _words(root / "prompts" / "Eng_transcriptions.txt")
    skipped: list[tuple[str, str]] = []
    test = []
    for name in TEST:
        if name not in words:
            raise ValueError(f"{root / 'prompts' / 'Eng_transcriptions.txt'} has no words of {name}")
        for path in (spoken_by_target(root, target, name), *(root / who / f"{name}.wav" for who in SOURCES)):
            if not path.is_file():
                leave_out(skipped, "test", str(path), "there is no such audio")
        test += [
            Utterance(f"{who}_{name}", root / who / f"{name}.wav", text=words[name], speaker=who) for who in SOURCES
        ]
    protocol = f"SUPERB-SG: VCC2020 task 1, any to {target}; s3prl's lists"
    return checked(Parts(train, dev, test, protocol, skipped), root)


def spoken_by_target(root: Path, target: str, sentence: str) -> Path:
    """The recording that a converted test sentence, such as E30001, is compared with."""
    return root / target / f"{sentence}.wav"


def _words(path: Path) -> dict[str, str]:
    found = {}
    for number, line in numbered_lines(path):
        name, *rest = line.split(None, 1)
        if not rest:
            raise ValueError(f"{path}, line {number}: {name} has no words")
        found[name] = rest[0].strip()
    return found


def mel_cepstral_distortion(converted: np.ndarray, target: np.ndarray) -> float:
    """The mean distance in dB of frames that dynamic time warping aligns (Kubichek 1993).

    SUPERB-SG compares 40 coefficients, the first too, of order 39 with a warping of 0.466, of WORLD's envelopes each
    5 ms, and only of frames louder than 20 dB below the mean power. It warps by fastdtw, which is near the best path;
    this path is the best one.

    Args:
        converted: (T, C). target: (U, C).
    Raises: ValueError for no frames, or unlike numbers of coefficients.
    """
    if not len(converted) or not len(target) or converted.shape[1] != target.shape[1]:
        raise ValueError(f"no distortion between cepstra of shapes {converted.shape} and {target.shape}")
    from librosa.sequence import dtw

    distances = cdist(converted, target)  # (T, U)
    _, path = dtw(C=distances)
    return float(_DECIBELS * distances[path[:, 0], path[:, 1]].mean())

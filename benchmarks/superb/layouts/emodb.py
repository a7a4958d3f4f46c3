# SPDX-License-Identifier: Apache-2.0
"""EMO-DB (Berlin) for trying ER: wav/<speaker><text><emotion><version>.wav, for example 03a01Fa.wav.

Burkhardt et al. 2005 (Interspeech, "A database of German emotional speech"); names as its site explains them.
"""

import re
from pathlib import Path

from ..utterances import Parts, Slot, Utterance, checked
from .listings import need_folder

EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "N": "neutral",
    "T": "sadness",
}


_NAME = re.compile(r"(\d\d)[a-z]\d\d([A-Z])[a-z]?")


def is_emodb(root: Path) -> bool:
    """Whether a folder has a clip of such a name."""
    return any(_NAME.fullmatch(path.stem) for path in (root / "wav").glob("*.wav"))


def emodb(root: Path, fold: int) -> Parts:
    """Utterances whose one label is the emotion; one speaker is test, the next one dev, the rest train.

    Args:
        fold: the tested speaker, from 1 in the order of their numbers; there are as many folds as speakers.
    Raises: ValueError for a file of another name, or a fold that does not exist.
    """
    found: dict[str, list[Utterance]] = {}
    for path in sorted(need_folder(root / "wav").glob("*.wav")):
        match = _NAME.fullmatch(path.stem)
        if match is None or match[2] not in EMOTIONS:
            raise ValueError(
                f"{path}: EMO-DB's names are speaker, text, one of {''.join(EMOTIONS)} and version, like 03a01Fa.wav"
            )
        utterance = Utterance(path.stem, path, labels=(EMOTIONS[match[2]],), speaker=match[1])
        found.setdefault(match[1], []).append(utterance)
    speakers = sorted(found)
    if len(speakers) < 3:
        raise ValueError(f"{root} has {len(speakers)} speaker(s), and train, dev and test need one each")
    if not 1 <= fold <= len(speakers):
        raise ValueError(f"{root} has the folds 1 to {len(speakers)}, one for each speaker, not {fold}")
    test, dev = speakers[fold - 1], speakers[fold % len(speakers)]
    train = [utterance for speaker in speakers if speaker not in (test, dev) for utterance in found[speaker]]
    protocol = f"leave one speaker out: {test} is test, {dev} is dev, the other {len(speakers) - 2} are train"
    slot = Slot("emotion", tuple(EMOTIONS.values()))
    return checked(Parts(train, found[dev], found[test], protocol, [], (slot,)), root)

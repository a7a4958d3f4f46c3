# SPDX-License-Identifier: Apache-2.0
"""The Free Spoken Digit Dataset, for trying KS and SID: recordings/<digit>_<speaker>_<index>.wav at 8 kHz.

Split rule: github.com/Jakobovski/free-spoken-digit-dataset, README: index 0 to 4 is for test.
"""

import re
from pathlib import Path
from typing import Literal

from ..utterances import Parts, Slot, Utterance, checked
from .listings import need_folder


def fsdd(root: Path, target: Literal["digit", "speaker"] = "digit") -> Parts:
    """Utterances whose one label is the digit or the speaker; of what is not for test, index 5 and 6 are for dev.

    Raises: ValueError for a file of another name.
    """
    parts: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for path in sorted(need_folder(root / "recordings").glob("*.wav")):
        match = re.fullmatch(r"(\d)_([^_]+)_(\d+)", path.stem)
        if match is None:
            raise ValueError(f"{path}: FSDD's names are <digit>_<speaker>_<index>.wav; take the file out, or rename it")
        digit, speaker, index = match.groups()
        part = "test" if int(index) < 5 else "dev" if int(index) < 7 else "train"
        label = digit if target == "digit" else speaker
        parts[part].append(Utterance(path.stem, path, labels=(label,), speaker=speaker, text=digit))
    values = sorted({label for utterances in parts.values() for (label,) in (u.labels for u in utterances)})
    protocol = "FSDD's rule: index 0 to 4 is test; 5 and 6 are dev; the same speakers in all parts"
    slot = Slot(target, tuple(values))
    return checked(Parts(parts["train"], parts["dev"], parts["test"], protocol, [], (slot,)), root)

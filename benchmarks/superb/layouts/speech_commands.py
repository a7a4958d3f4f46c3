# SPDX-License-Identifier: Apache-2.0
"""Speech Commands v0.01 and v0.02 for KS: ten words, _unknown_ and _silence_.

Layout and split rule: Warden 2018 (arXiv:1804.03209, section 7) and the corpus's README. SUPERB trains on v0.01, and
scores the separate test archive; facts checked in s3prl@ec8064b, downstream/speech_commands.
"""

import hashlib
from pathlib import Path

from ..utterances import Parts, Slot, Utterance, checked, leave_out
from .listings import need_folder, numbered_lines

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
NOISE = "_background_noise_"
KEYWORDS = Slot("word", (*WORDS, UNKNOWN, SILENCE))
_LATER = ("backward", "forward", "follow", "learn", "visual")  # words that v0.02 has, and v0.01 has not


def is_published(root: Path, test_root: Path) -> bool:
    """Whether both are v0.01, by their names and the corpus's words."""
    names = root.absolute().name, test_root.absolute().name
    later = any((root / word).is_dir() for word in _LATER)
    return names == ("speech_commands_v0.01", "speech_commands_test_set_v0.01") and not later


def part_of(name: str) -> str:
    """Where a clip belongs: the part of its name up to _nohash_, the speaker, decides by its SHA-1 digest."""
    speaker = name.split("_nohash_")[0]
    most = 2**27 - 1
    percent = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (most + 1) * (100.0 / most)
    return "dev" if percent < 10.0 else "test" if percent < 20.0 else "train"


def speech_commands(root: Path, test_root: Path | None = None) -> Parts:
    """Utterances whose one label is the word.

    Silence in train and dev is a random second of the six background recordings (`crop`), which both parts share, as
    published. Tasks draw train and dev balanced by class.

    Args:
        root: speech_commands_v0.01 (or v0.02), with a folder for each word.
        test_root: speech_commands_test_set_v0.01 (or v0.02); None: root's validation_list.txt and testing_list.txt
            split it, which is not SUPERB's protocol.
    Raises: ValueError for folders that are missing or, in the test archive, of no class.
    """
    if test_root is None:
        return _by_lists(root)
    parts: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for folder in sorted(need_folder(root).iterdir()):
        if folder.is_dir() and folder.name != NOISE:
            for path in sorted(folder.glob("*.wav")):
                parts[part_of(path.name)].append(_utterance(path))
    test = []
    for folder in sorted(path for path in need_folder(test_root).iterdir() if path.is_dir()):
        if folder.name not in KEYWORDS.values:
            raise ValueError(f"{folder} is none of the classes {', '.join(KEYWORDS.values)}: is it the test archive?")
        test += [_utterance(path) for path in sorted(folder.glob("*.wav"))]
    noise = _noise(need_folder(root / NOISE))
    if not noise:
        raise ValueError(f"{root / NOISE} holds no .wav, and silence is cut from them: unpack the corpus again")
    protocol = "SUPERB: SHA-1 of the speaker, 80 / 10 / (10 unused); the test archive is test; noise in train and dev"
    return checked(Parts(parts["train"] + noise, parts["dev"] + noise, test, protocol, [], (KEYWORDS,)), root)


def _utterance(path: Path) -> Utterance:
    label = path.parent.name if path.parent.name in KEYWORDS.values else UNKNOWN
    speaker = path.name.split("_nohash_")[0].split("_")[-1] if "_nohash_" in path.name else ""
    return Utterance(f"{path.parent.name}-{path.name}", path, labels=(label,), speaker=speaker)


def _noise(folder: Path) -> list[Utterance]:
    return [
        Utterance(f"{NOISE}-{path.name}", path, labels=(SILENCE,), crop=1.0) for path in sorted(folder.glob("*.wav"))
    ]


def _by_lists(root: Path) -> Parts:
    listed: dict[str, str] = {}
    skipped: list[tuple[str, str]] = []
    for part, name in (("dev", "validation_list.txt"), ("test", "testing_list.txt")):
        for number, line in numbered_lines(root / name):
            listed[line.strip()] = part
            if not (root / line.strip()).is_file():
                leave_out(skipped, part, f"{root / name}, line {number}", f"there is no {root / line.strip()}")
    parts: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for path in sorted(root.glob("*/*.wav")):
        if path.parent.name != NOISE:
            parts[listed.get(f"{path.parent.name}/{path.name}", "train")].append(_utterance(path))
    noise = _noise(root / NOISE)
    protocol = "not SUPERB's: split by validation_list.txt and testing_list.txt, the rest is train; no test archive"
    parts["train"] += noise
    parts["dev"] += noise
    return checked(Parts(parts["train"], parts["dev"], parts["test"], protocol, skipped, (KEYWORDS,)), root)

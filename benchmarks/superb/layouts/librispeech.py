# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech for PR and ASR: <subset>/<speaker>/<chapter>/<id>.flac beside <speaker>-<chapter>.trans.txt.

SUPERB (Yang et al. 2021, arXiv:2105.01051, section 3) trains on train-clean-100, chooses on dev-clean and scores
test-clean. Layout: Panayotov et al. 2015 (openslr.org/12) and its README.TXT.
"""

from pathlib import Path

from ..utterances import Parts, Utterance, checked, leave_out
from .listings import need_folder, numbered_lines


def librispeech(
    root: Path,
    train: tuple[str, ...] = ("train-clean-100",),
    dev: tuple[str, ...] = ("dev-clean",),
    test: tuple[str, ...] = ("test-clean",),
) -> Parts:
    """Utterances with `text` (upper-case words) and speaker.

    Args:
        root: the folder LibriSpeech. train, dev, test: its subsets.
    Raises: ValueError for a subset that is missing, or a test utterance without audio or transcript.
    """
    skipped: list[tuple[str, str]] = []
    found = {
        part: [utterance for name in names for utterance in _subset(root / name, part, skipped)]
        for part, names in (("train", train), ("dev", dev), ("test", test))
    }
    official = (train, dev, test) == (("train-clean-100",), ("dev-clean",), ("test-clean",))
    protocol = (
        f"LibriSpeech, {'SUPERB' if official else 'not SUPERB'}'s subsets: "
        f"{'+'.join(train)} / {'+'.join(dev)} / {'+'.join(test)}"
    )
    return checked(Parts(found["train"], found["dev"], found["test"], protocol, skipped), root)


def _subset(folder: Path, part: str, skipped: list[tuple[str, str]]) -> list[Utterance]:
    utterances = []
    for file in sorted(need_folder(folder).glob("*/*/*.trans.txt")):
        rows: set[str] = set()
        for number, line in numbered_lines(file):
            name, _, text = line.partition(" ")
            if not text.strip():
                raise ValueError(f"{file}, line {number}: {name!r} has no transcript; a line is an id and its words")
            rows.add(name)
            path = file.parent / f"{name}.flac"
            if path.is_file():
                utterances.append(Utterance(name, path, text=text.strip(), speaker=name.split("-")[0]))
            else:
                leave_out(skipped, part, f"{file}, line {number}", f"there is no audio {path}")
        for path in sorted(file.parent.glob("*.flac")):
            if path.stem not in rows:
                leave_out(skipped, part, str(path), f"{file.name} has no transcript of it")
    for path in sorted({path.parent for path in folder.glob("*/*/*.flac")}):
        if not list(path.glob("*.trans.txt")):
            leave_out(skipped, part, str(path), f"there is no {path.parent.name}-{path.name}.trans.txt")
    return utterances

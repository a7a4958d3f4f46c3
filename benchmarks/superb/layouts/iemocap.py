# SPDX-License-Identifier: Apache-2.0
"""IEMOCAP for ER: SessionN/sentences/wav/<dialogue>/<id>.wav, labels in SessionN/dialog/EmoEvaluation/<dialogue>.txt.

Busso et al. 2008 (doi:10.1007/s10579-008-9076-6). SUPERB tells neutral, happy (with excited), angry and sad apart, in
five folds that test one session each (s3prl@ec8064b, downstream/emotion).
"""

import re
from pathlib import Path

import torch

from ..utterances import Parts, Slot, Utterance, checked, leave_out
from .listings import need_folder

EMOTIONS = Slot("emotion", ("neu", "hap", "ang", "sad"))
MEANT = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}  # other labels are not used
FOLDS = (1, 2, 3, 4, 5)

# The published dev part is random by position, so it depends on the order in which the authors' disk listed the
# dialogues of each session: Fs02_2 is SesNNF_script02_2, Mi04 is SesNNM_impro04.
PUBLISHED_ORDER = {
    1: "Fs02_2 Fi07 Fs03_2 Mi02 Fi06 Fs01_3 Ms02_1 Mi04 Ms01_1 Fi01 Fs01_1 Fi05 Ms01_2 Ms02_2 Fs02_1 Ms03_2 Mi05 Mi01 "
    "Fi03 Mi03 Ms01_3 Fs03_1 Mi07 Fi02 Mi06 Ms03_1 Fi04 Fs01_2",
    2: "Fi03 Fs03_2 Ms03_2 Mi04 Mi05 Fs02_1 Fs02_2 Ms02_2 Mi08 Mi07 Fs03_1 Ms01_3 Fi06 Fi01 Fi04 Fs01_2 Mi02 Mi03 "
    "Fs01_3 Fi05 Fs01_1 Mi06 Ms02_1 Fi08 Fi02 Ms01_1 Mi01 Ms01_2 Ms03_1 Fi07",
    3: "Fs02_1 Mi04 Ms03_2 Mi05b Mi02 Fi05 Ms02_2 Mi08b Fi07 Ms01_1 Ms02_1 Mi05a Mi07 Ms03_1 Fs03_1 Mi01 Fs01_1 Fi04 "
    "Fs02_2 Fs01_3 Ms01_3 Mi06 Fi01 Fi03 Ms01_2 Mi08a Mi03 Fs03_2 Fs01_2 Fi08 Fi06 Fi02",
    4: "Fs03_1 Fi01 Ms02_1 Ms02_2 Fs01_3 Mi05 Fs02_1 Fi07 Fi02 Fi03 Mi02 Fs01_1 Ms01_1 Fs03_2 Mi06 Fs02_2 Mi01 Mi04 "
    "Fi05 Fs01_2 Fi08 Fi06 Mi03 Ms01_3 Ms01_2 Ms03_1 Ms03_2 Mi07 Fi04 Mi08",
    5: "Ms01_3 Fi04 Ms02_2 Fs01_3 Fs01_2 Fi06 Mi06 Mi01 Fs03_1 Fi07 Fs03_2 Ms01_1b Fi05 Ms01_1 Fi08 Ms03_1 Mi05 Fi01 "
    "Fi02 Mi03 Fs01_1 Mi04 Ms02_1 Fi03 Fs02_2 Fs02_1 Ms03_2 Mi08 Mi02 Mi07 Ms01_2",
}


def iemocap(root: Path, fold: int, clean: bool = False) -> Parts:
    """Utterances whose one label is the emotion; the score is the mean over `FOLDS`.

    Args:
        root: the folder with Session1 to Session5. fold: the session that is tested, from 1.
        clean: dev is the whole session after the tested one (after 5 comes 1), so that no speaker is in two parts. The
            published dev is a random fifth of the other four sessions, whose speakers training hears.
    Raises: ValueError, with the line, for rows of another form, or a tested utterance without audio.
    """
    if fold not in FOLDS:
        raise ValueError(f"IEMOCAP has the folds {FOLDS}, not {fold}")
    skipped: list[tuple[str, str]] = []
    others = {
        session: _session(root / f"Session{session}", session, "train", skipped) for session in FOLDS if session != fold
    }
    test = _session(root / f"Session{fold}", fold, "test", skipped)
    if clean:
        after = fold % 5 + 1
        dev = others.pop(after)
        train = [utterance for session in others.values() for utterance in session]
        protocol = f"clean, fold {fold}: session {fold} is test, all of session {after} is dev"
    else:
        train, dev = _published(list(others.values()))
        protocol = f"SUPERB, fold {fold}: session {fold} is test; a random fifth of the others is dev (same speakers)"
    return checked(Parts(train, dev, test, protocol, skipped, (EMOTIONS,)), root)


def _published(sessions: list[list[Utterance]]) -> tuple[list[Utterance], list[Utterance]]:
    """What torch.utils.data.random_split gives after torch.manual_seed(0): the last fifth of a permutation is dev."""
    utterances = [utterance for session in sessions for utterance in session]
    order = torch.randperm(len(utterances), generator=torch.Generator().manual_seed(0)).tolist()
    count = int((1 - 0.2) * len(utterances))
    return [utterances[i] for i in order[:count]], [utterances[i] for i in order[count:]]


def _session(folder: Path, session: int, part: str, skipped: list[tuple[str, str]]) -> list[Utterance]:
    labels = need_folder(folder / "dialog" / "EmoEvaluation")
    order = {_dialogue(session, short): i for i, short in enumerate(PUBLISHED_ORDER[session].split())}
    files = [path for path in labels.glob("*.txt") if not path.name.startswith(".")]  # the archive has ._ files
    utterances = []
    for file in sorted(files, key=lambda path: (order.get(path.stem, len(order)), path.stem)):
        # Annotators' remarks below the rows are not all UTF-8.
        for number, line in enumerate(file.read_text(encoding="latin-1").split("\n"), start=1):
            if not line.startswith("["):
                continue
            place = f"{file}, line {number}"
            match = re.match(r"\[[^\]]*\]\t(\S+?_([FM])\d+\w*)\t(\w+)", line)
            if match is None:
                raise ValueError(f"{place}: a row is [start - stop], the utterance's id, its emotion, not {line!r}")
            name, gender, emotion = match.groups()
            path = folder / "sentences" / "wav" / file.stem / f"{name}.wav"
            if emotion not in MEANT:
                continue
            if path.is_file():
                speaker = f"Ses{session:02d}{gender}"
                utterances.append(Utterance(name, path, labels=(MEANT[emotion],), speaker=speaker))
            else:
                leave_out(skipped, part, place, f"there is no audio {path}")
    return utterances


def _dialogue(session: int, short: str) -> str:
    return f"Ses{session:02d}{short[0]}_{'impro' if short[1] == 'i' else 'script'}{short[2:]}"

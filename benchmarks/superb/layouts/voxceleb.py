# SPDX-License-Identifier: Apache-2.0
"""VoxCeleb1 for SID and ASV: {dev,test}/wav/<speaker>/<video>/<clip>.wav, the identification split and the trials.

Nagrani et al. 2017 (arXiv:1706.08612). The identification list's rows are `1 id10003/VIDEO/00001.wav`, with 1 for
train, 2 for dev and 3 for test; it is iden_split.txt, or s3prl's veri_test_class.txt. Trials are rows `1 a.wav b.wav`.
Both as in s3prl@ec8064b, downstream/voxceleb1 and downstream/sv_voxceleb1.
"""

from pathlib import Path

from ..apart import set_apart
from ..asv.trials import draw_trials, known, need_new, read_trials
from ..utterances import Parts, Slot, Trial, Utterance, checked, leave_out
from .listings import need_folder, numbered_lines

SPEAKERS = tuple(f"id{10001 + i}" for i in range(1251))
FOLDERS = ("dev/wav", "test/wav", "wav")
PARTS = {"1": "train", "2": "dev", "3": "test"}
LISTINGS = ("iden_split.txt", "veri_test_class.txt")  # VoxCeleb's name and s3prl's
TRIALS = ("voxceleb1_test_v2.txt", "veri_test2.txt")  # s3prl's, of 37,720 trials, and VoxCeleb's cleaned list
OTHERS = ("veri_test.txt",)  # VoxCeleb's uncleaned list


def voxceleb1_identification(root: Path, listing: Path | None = None) -> Parts:
    """Utterances whose one label is one of the 1251 speakers, who are the same in all parts.

    Args:
        root: the folder VoxCeleb1. listing: the identification list; None: it is in root.
    Raises: ValueError, with the line, for rows of another form, speakers that do not exist, or missing test audio.
    """
    listing = listing or _first(root, LISTINGS)
    parts: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    skipped: list[tuple[str, str]] = []
    for number, line in numbered_lines(listing):
        fields = line.split()
        if len(fields) != 2 or fields[0] not in PARTS or fields[1].count("/") != 2:
            raise ValueError(f"{listing}, line {number}: a row is 1, 2 or 3 and speaker/video/clip.wav, not {line!r}")
        part, speaker = PARTS[fields[0]], fields[1].split("/")[0]
        if speaker not in SPEAKERS:
            raise ValueError(f"{listing}, line {number}: {speaker} is none of {SPEAKERS[0]} to {SPEAKERS[-1]}")
        path = _find(root, fields[1])
        if path is None:
            leave_out(skipped, part, f"{listing}, line {number}", f"there is no {fields[1]} in {root}/*/wav")
        else:
            parts[part].append(_utterance(path))
    protocol = f"SUPERB: VoxCeleb1's identification split by {listing.name}"
    slot = Slot("speaker", SPEAKERS)
    return checked(Parts(parts["train"], parts["dev"], parts["test"], protocol, skipped, (slot,)), root)


def voxceleb1_verification(root: Path, trials: Path | None = None, clean: bool = False) -> Parts:
    """All clips of the dev folder to learn speakers from, and the trials' clips as test.

    Args:
        trials: the list of trials; None: as `trials_of`. Published ones are taken as they are; in others a trial that
            comes twice, or of a clip with itself, is refused.
        clean: a twentieth of the speakers is set apart for dev, with trials of its own (`dev_trials`), so that nothing
            need be chosen on test; the published protocol has no dev and takes the checkpoint that is best on test.
    Raises: ValueError, with the line, for rows of another form or trials of missing clips.
    """
    trials = trials or trials_of(root)
    folder = need_folder(root / "dev" / "wav")
    train = [_utterance(path) for path in sorted(folder.glob("*/*/*.wav"))]
    apart = set_apart((utterance.speaker for utterance in train), 0.05, least=2) if clean else set()
    dev = [utterance for utterance in train if utterance.speaker in apart]
    train = [utterance for utterance in train if utterance.speaker not in apart]
    test, pairs = _tried(root, trials)
    if both := {utterance.speaker for utterance in train} & {utterance.speaker for utterance in test}:
        raise ValueError(f"{trials}: the speaker {min(both)} is in {folder} too, where training would hear it")
    whose = "SUPERB" if trials.name in TRIALS else "not SUPERB's trials"
    protocol = (
        f"{whose}: trains on all of dev, no dev part, {len(pairs)} trials of {trials.name}; best on test is taken"
    )
    if clean:
        protocol = f"clean: {len(apart)} dev speakers set apart with trials of their own; scored on {trials.name}"
    slot = Slot("speaker", tuple(sorted({utterance.speaker for utterance in train})))
    dev_trials = draw_trials(dev) if dev else ()
    parts = Parts(train, dev, test, protocol, [], (slot,), pairs, dev_trials)
    return checked(parts, root)


def trials_of(root: Path) -> Path:
    """The list of trials in VoxCeleb1's folder: SUPERB's, or else the first, uncleaned one. Raises ValueError."""
    return _first(root, (*TRIALS, *OTHERS))


def _tried(root: Path, trials: Path) -> tuple[list[Utterance], tuple[Trial, ...]]:
    """The clips of a list's trials, and the trials."""
    clips: dict[str, Utterance] = {}
    pairs: list[Trial] = []
    listed: dict[Trial, int] = {}
    for number, same, *ends in read_trials(trials):
        for end in ends:
            if end not in clips:
                path = _find(root, end)
                if path is None:
                    raise ValueError(f"{trials}, line {number}: there is no {end} in {root}/*/wav")
                clips[end] = _utterance(path)
        pair = Trial(same, clips[ends[0]].name, clips[ends[1]].name)
        pairs.append(known(pair, {clips[end].name: clips[end].speaker for end in ends}, f"{trials}, line {number}"))
        if trials.name not in (*TRIALS, *OTHERS):
            need_new(pair, number, listed, trials)
    return list(clips.values()), tuple(pairs)


def _utterance(path: Path) -> Utterance:
    speaker, video, _ = path.parts[-3:]
    return Utterance(f"{speaker}-{video}-{path.stem}", path, labels=(speaker,), speaker=speaker)


def _find(root: Path, place: str) -> Path | None:
    return next((path for folder in FOLDERS if (path := root / folder / place).is_file()), None)


def _first(root: Path, names: tuple[str, ...]) -> Path:
    path = next((root / name for name in names if (root / name).is_file()), None)
    if path is None:
        raise ValueError(f"{root} has neither {' nor '.join(names)}: put the list there")
    return path

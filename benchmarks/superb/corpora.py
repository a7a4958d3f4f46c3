# SPDX-License-Identifier: Apache-2.0
"""Which corpus a folder holds, told by its files, and how the tasks read it."""

import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from ...ssl.tables import table
from ..finetune import MissingFiles
from .asv.trials import ALL
from .ctc.targets import read_lexicon
from .layouts.ami import ami
from .layouts.an4 import SPELLED, an4, an4_identification, an4_verification
from .layouts.emodb import emodb, is_emodb
from .layouts.fluent import SLOTS, fluent_speech_commands
from .layouts.fsdd import fsdd
from .layouts.iemocap import FOLDS, iemocap
from .layouts.librimix import is_libri2mix, librimix
from .layouts.librispeech import librispeech
from .layouts.listings import need_folder
from .layouts.manifest import diarized, labelled, searched, transcribed, verified
from .layouts.manifest_rows import read_rows
from .layouts.published import lacks, lacks_terms
from .layouts.quesst14 import Search, quesst14
from .layouts.snips import audio_snips
from .layouts.speech_commands import NOISE, is_published, speech_commands
from .layouts.voxceleb import LISTINGS, TRIALS, trials_of, voxceleb1_identification, voxceleb1_verification
from .predictions import need_writable
from .sd.rttm import SLACK, Turn, place_of
from .swept import Fold
from .utterances import Parts, Utterance, measured

TABLES = (".tsv", ".csv", ".jsonl")
SUBSETS = (("train-clean-100",), ("dev-clean",), ("test-clean",))  # of LibriSpeech, for train, dev and test
LEXICONS = ("librispeech-lexicon-200k-g2p.txt", "librispeech-lexicon-allothers-g2p.txt")


def keywords(path: str, test: str) -> list[Fold]:
    """KS: Speech Commands with its test archive (which is looked for beside it) or its own lists, FSDD, a manifest.

    Raises: MissingFiles if it is none of these.
    """
    root = _start(path)
    if is_table(root):
        _need_empty(root, "test", test)
        return _one("ks", labelled(root))
    for folder in (root, root / "speech_commands_v0.01", root / "speech_commands_v0.02"):
        beside = sorted(folder.parent.glob("speech_commands_test_set_v*"))
        same = [one for one in beside if one.name[-4:] == folder.name[-4:]]
        archive = Path(test) if test else next(iter(same or beside), None)
        if (folder / NOISE).is_dir() and archive is not None:
            return _one("ks", speech_commands(folder, archive), is_published(folder, archive))
        if (folder / "validation_list.txt").is_file():
            if test:
                raise ValueError(f"{folder} has no {NOISE}, so --data.test has no use: name the training archive")
            return _one("ks", speech_commands(folder))
    if (root / "recordings").is_dir():
        _need_empty(root, "test", test)
        return _one("ks", fsdd(root))
    raise _missing(root, "speech_commands_v0.01 with _background_noise_, FSDD's recordings, or a manifest")


def intents(path: str) -> list[Fold]:
    """IC: Fluent Speech Commands, or a manifest with the columns action, object and location, or else label.

    Raises: MissingFiles if it is neither.
    """
    root = _start(path)
    if is_table(root):
        columns = {name for _, row in islice(table(root, ()), 1) for name in row}
        return _one("ic", labelled(root, ("label",) if "label" in columns and "action" not in columns else SLOTS))
    for folder in (root, root / "fluent_speech_commands_dataset"):
        if (folder / "data" / "train_data.csv").is_file():
            return _one("ic", fluent_speech_commands(folder), True)
    raise _missing(root, "data/train_data.csv of Fluent Speech Commands, or a manifest")


def speakers(path: str, listing: str) -> list[Fold]:
    """SID: VoxCeleb1 with its identification list, FSDD, AN4, or a manifest. Raises MissingFiles."""
    root = _start(path)
    if is_table(root):
        _need_empty(root, "listing", listing)
        return _one("sid", labelled(root))
    for folder in (root, root / "VoxCeleb1"):
        if listing or (folder / "iden_split.txt").is_file() or (folder / "veri_test_class.txt").is_file():
            official = not listing or Path(listing).name in LISTINGS
            return _one("sid", voxceleb1_identification(folder, Path(listing) if listing else None), official)
    if (root / "recordings").is_dir():
        return _one("sid", fsdd(root, "speaker"))
    if (root / "etc" / "an4_train.fileids").is_file():
        return _one("sid", an4_identification(root))
    raise _missing(root, "VoxCeleb1's iden_split.txt, FSDD's recordings, AN4's etc, or a manifest")


def verification(path: str, trials: str, clean: bool) -> list[Fold]:
    """ASV: VoxCeleb1, AN4, or a manifest, each with a list of trials or, for manifests, drawn ones.

    Args:
        trials: a file's name, or "all" for every pair of test utterances, which VoxCeleb1 has too many of.
        clean: choices are made by trials of speakers set apart, and not by those of test.
    Raises: MissingFiles if it is none of these.
    """
    root, listing = _start(path), Path(trials) if trials else None
    judged = "dev" if clean else "test"
    if listing is not None and listing != ALL and not listing.is_file():
        raise MissingFiles(f"{listing} is missing: --data.trials names a list of trials, or is all")
    if is_table(root):
        return _one("asv", verified(root, listing, clean), judged=judged)
    for folder in (root, root / "VoxCeleb1"):
        if (folder / "dev" / "wav").is_dir():
            if listing == ALL:
                raise ValueError("VoxCeleb1's test utterances are those of a list: name one as --data.trials")
            listing = listing or trials_of(folder)
            official = not clean and listing.name in TRIALS
            return _one("asv", voxceleb1_verification(folder, listing, clean), official, judged)
    if (root / "etc" / "an4_train.fileids").is_file():
        return _one("asv", an4_verification(root, listing, clean), judged=judged)
    raise _missing(root, "VoxCeleb1's dev/wav, AN4's etc, or a manifest")


def conversations(path: str) -> list[Fold]:
    """SD: Libri2Mix in Kaldi folders, AMI as pyannote keeps it, or a manifest of turns.

    Raises: MissingFiles if it is none of these, ValueError for a turn that ends after its audio.
    """
    root = _start(path)
    if is_table(root):
        return _heard(root, _one("sd", diarized(root)))
    for folder in (root, root / "data"):
        if (folder / "test" / "wav.scp").is_file():
            parts = librimix(folder)
            return _heard(folder, _one("sd", parts, is_libri2mix(parts.test)))
    if any(root.glob("*.train.lst")):
        return _heard(root, _one("sd", ami(root)))
    raise _missing(root, "Libri2Mix's train, dev and test with wav.scp, AMI's *.train.lst, or a manifest")


def transcripts(path: str, subsets: tuple[tuple[str, ...], ...] = SUBSETS) -> list[Fold]:
    """PR and ASR: LibriSpeech, AN4, or a manifest with the column text.

    Args:
        subsets: of LibriSpeech, for train, dev and test.
    Raises: MissingFiles if it is none of these.
    """
    root = _start(path)
    for folder in (root, root / "LibriSpeech"):
        if any((folder / name).is_dir() for part in subsets for name in part):
            if len({name for part in subsets for name in part}) < sum(map(len, subsets)):
                raise ValueError(
                    "a subset of LibriSpeech is in two parts: mend --data.train, --data.dev or --data.test"
                )
            parts = librispeech(folder, *subsets)
            official = subsets == SUBSETS
            named = parts._replace(protocol=f"SUPERB: {parts.protocol}") if official else parts
            return _one("asr", named, official)
    if subsets != SUBSETS:
        raise ValueError(f"{root} is not LibriSpeech, or lacks the subsets: leave --data.train, dev and test away")
    if is_table(root):
        return _one("asr", transcribed(root))
    if (root / "etc" / "an4_train.fileids").is_file():
        return _one("asr", an4(root))
    raise _missing(root, "LibriSpeech's train-clean-100, AN4's etc, or a manifest with the column text")


def lexicon(path: str, named: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """PR: the phones of words, from the files that are named or the corpus's own. Raises MissingFiles, ValueError."""
    root = Path(path)
    if missing := [name for name in named if not Path(name).is_file()]:
        raise MissingFiles(f"{missing[0]} is missing: --data.lexicon names files of rows `WORD PHONE PHONE ...`")
    if named:
        return read_lexicon(*map(Path, named))
    own = [folder / name for folder in (root, root / "LibriSpeech") for name in LEXICONS]
    if (root / "etc" / "an4.dic").is_file():
        return read_lexicon(root / "etc" / "an4.dic") | SPELLED
    found = [file for file in own if file.is_file()]
    if not found:
        raise MissingFiles(f"{root} says not how words are pronounced: set --data.lexicon to rows `WORD PHONE ...`")
    return read_lexicon(*found)


def slots(path: str) -> list[Fold]:
    """SF: Audio SNIPS, or a manifest with the columns text and tags. Raises MissingFiles."""
    root = _start(path)
    if is_table(root):
        return _one("sf", transcribed(root, tags=True))
    for folder in (root, root / "SNIPS"):
        if (folder / "all.iob.snips.txt").is_file():
            return _one("sf", audio_snips(folder), True)
    raise _missing(root, "all.iob.snips.txt of Audio SNIPS, or a manifest with the columns text and tags")


def searches(path: str) -> tuple[Search, bool]:
    """QbE: QUESST 2014 or a manifest, and whether it is what the leaderboard scores. Raises MissingFiles."""
    root = _start(path)
    if is_table(root):
        return searched(root), False
    for folder in (root, root / "quesst14Database"):
        if (folder / "scoring" / "language_key_utterances.lst").is_file():
            search = quesst14(folder)
            if few := lacks_terms(search):
                return search._replace(protocol=f"{few}; {search.protocol}"), False
            return search, True
    raise _missing(root, "QUESST14's scoring/language_key_utterances.lst, or a manifest")


def emotions(path: str, clean: bool, wanted: tuple[int, ...]) -> list[Fold]:
    """ER: IEMOCAP in five folds, EMO-DB in one for each speaker, or a manifest, which has one fold.

    Raises: MissingFiles if it is none of these.
    """
    root = _start(path)
    if is_table(root):
        if wanted:
            raise ValueError(f"{root} has one fold: leave --folds-used away")
        if clean:
            raise ValueError(f"--protocol clean is for IEMOCAP; {root} says itself what dev is")
        return _one("er", labelled(root, apart=True))
    for folder in (root, root / "IEMOCAP", root / "IEMOCAP_full_release"):
        if (folder / "Session1").is_dir():
            return _folds("er", {fold: iemocap(folder, fold, clean) for fold in wanted or FOLDS}, not clean)
    if is_emodb(root):
        if clean:
            raise ValueError("--protocol clean is for IEMOCAP; EMO-DB's dev has a speaker of its own anyway")
        count = len({file.name[:2] for file in (root / "wav").glob("*.wav")})
        return _folds("er", {n: emodb(root, n) for n in wanted or range(1, count + 1)}, False)
    raise _missing(root, "IEMOCAP's Session1 to Session5, EMO-DB's wav, or a manifest")


def _need_empty(root: Path, setting: str, value: str) -> None:
    if value:
        raise ValueError(f"--data.{setting} has no use with {root}: leave it away")


def _start(path: str) -> Path:
    if not path:
        raise ValueError("no data named: set --data.path to the corpus's folder or to a manifest")
    return Path(path) if is_table(Path(path)) else need_folder(Path(path))


def is_table(path: Path) -> bool:
    """Whether it is called as a manifest is."""
    return path.suffix.lower() in TABLES


def place(path: str, utterance: Utterance) -> str:
    """Where an utterance stands: its row of the manifest `path`, or else its audio."""
    rows = read_rows(Path(path), ()) if is_table(Path(path)) else []
    same = (row.place for row in rows if (row.path, row.utterance().name) == (utterance.path, utterance.name))
    return next(same, str(utterance.path))


def _heard(root: Path, folds: list[Fold]) -> list[Fold]:
    """The same folds. Raises ValueError, with the row, if a turn ends after its audio: it could never all be found."""
    for one in (one for fold in folds for part in fold.parts[:3] for one in part):
        assert one.end is not None
        scored = max((end for _, end in one.scored), default=math.inf)
        for turn in one.turns:
            if min(turn.end, scored) > one.end + SLACK:
                until = f"{turn.speaker}'s turn ends at {turn.end:g} seconds, and {one.path} at {one.end:g}"
                raise ValueError(f"{_turn_place(root, one, turn)}: {until}: mend the turn or the audio")
    return folds


def _turn_place(root: Path, one: Utterance, turn: Turn) -> str:
    """Where a turn stands: its row of a manifest or of an RTTM file, or else the corpus's folder."""
    if is_table(root):
        rows = ((row.place, (row.path, row.values["label"], row.start, row.end)) for row in read_rows(root, ("label",)))
        return next(place for place, row in rows if row == (one.path, *turn))
    found = (place_of(file, one.name, turn) for file in sorted(root.rglob("*rttm")))
    return next(filter(None, found), str(root))


def _one(task: str, parts: Parts, official: bool = False, judged: str = "dev") -> list[Fold]:
    return [fold._replace(name="", judged=judged) for fold in _folds(task, {1: parts}, official)]


def _folds(task: str, numbered: Mapping[int, Parts], official: bool) -> list[Fold]:
    """Folds by their numbers from 1; official ones of which any lacks anything are compared with nothing."""
    found = {}
    for number, parts in numbered.items():
        need_writable(parts, "\n" if task == "ic" else " ")
        found[number] = measured(parts)
    short = [why for number, parts in found.items() if official and (why := lacks(task, parts, number))]
    if short:
        found = {n: parts._replace(protocol=f"{short[0]}; {parts.protocol}") for n, parts in found.items()}
    return [Fold(f"fold{number}", parts, official and not short) for number, parts in found.items()]


def _missing(root: Path, wanted: str) -> MissingFiles:
    return MissingFiles(f"{root} holds none of what the task can read: it wants {wanted}")

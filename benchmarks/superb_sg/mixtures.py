# SPDX-License-Identifier: Apache-2.0
"""Mixtures and what they are made of: Libri2Mix for SS, Voicebank-DEMAND for SE.

A mixture's sources lie in folders beside its own, under its name. Libri2Mix: Cosentino et al. 2020 (arXiv:2005.11262),
as its scripts leave it. Voicebank-DEMAND: Valentini-Botinhao et al. 2016 (doi:10.7488/ds/2117), at 16 kHz. Parts are
those of s3prl@ec8064b, downstream/separation_stft/scripts and downstream/enhancement_stft/scripts.
"""

import random
from collections.abc import Callable
from pathlib import Path

from ..superb.layouts.listings import need_folder
from ..superb.utterances import Parts, Utterance, checked, file_lengths, leave_out, measured

DEV_SPEAKERS = ("p226", "p287")  # of Voicebank's 28 training speakers
DEV_MIXTURES = 1000  # of Libri2Mix's 3000
_SEED = 7  # of s3prl's subsample.py


def speakers_apart(mixture: Path) -> tuple[Path, ...]:
    """Libri2Mix: the two speakers of a mixture."""
    return tuple(mixture.parent.parent / name / mixture.name for name in ("s1", "s2"))


def without_noise(mixture: Path) -> tuple[Path, ...]:
    """Voicebank: the clean speech of a noisy clip."""
    return (mixture.parent.with_name(mixture.parent.name.replace("noisy", "clean", 1)) / mixture.name,)


def libri2mix(root: Path) -> Parts:
    """Mixtures of two speakers without noise: train-100, 1000 of dev drawn as s3prl draws them, and test.

    Args:
        root: the folder that holds train-100, dev and test: Libri2Mix/wav16k/min.
    Raises: ValueError for folders or test audio that are missing.
    """
    found = {}
    for part, folder in (("train", "train-100"), ("dev", "dev"), ("test", "test")):
        files = sorted(need_folder(root / folder / "mix_clean").glob("*.wav"))
        if part == "dev":
            random.Random(_SEED).shuffle(files)
            files = sorted(files[:DEV_MIXTURES])
        found[part] = files
    protocol = "SUPERB-SG: Libri2Mix 16k min, mix_clean; train-100, 1000 of dev by seed 7, test"
    return _parts(found, speakers_apart, protocol, root)


def voicebank(root: Path) -> Parts:
    """Noisy speech; of the 28 training speakers p226 and p287 are for dev.

    Args:
        root: the folder that holds {clean,noisy}_trainset_28spk_wav_16k and {clean,noisy}_testset_wav_16k.
    Raises: ValueError for folders or test audio that are missing.
    """
    spoken = sorted(need_folder(root / "noisy_trainset_28spk_wav_16k").glob("*.wav"))
    found = {
        "train": [path for path in spoken if not path.stem.startswith(DEV_SPEAKERS)],
        "dev": [path for path in spoken if path.stem.startswith(DEV_SPEAKERS)],
        "test": sorted(need_folder(root / "noisy_testset_wav_16k").glob("*.wav")),
    }
    protocol = f"SUPERB-SG: Voicebank-DEMAND 28spk, 16 kHz; {' and '.join(DEV_SPEAKERS)} for dev"
    return _parts(found, without_noise, protocol, root)


def _parts(
    found: dict[str, list[Path]], sources: Callable[[Path], tuple[Path, ...]], protocol: str, root: Path
) -> Parts:
    """Measured mixtures whose sources are there, and as long as they are.

    Raises: ValueError if that leaves out a test mixture, or more than a twentieth of train or dev.
    """
    skipped: list[tuple[str, str]] = []
    lengths = file_lengths(one for files in found.values() for path in files for one in (path, *sources(path)))
    parts: dict[str, list[Utterance]] = {}
    for part, files in found.items():
        parts[part] = []
        for path in files:
            wrong = _wrong(path, sources(path), lengths)
            if wrong is None:
                parts[part].append(Utterance(path.stem, path))
            else:
                leave_out(skipped, part, *wrong)
    read = Parts(parts["train"], parts["dev"], parts["test"], protocol, skipped, own=True)
    return measured(checked(read, root))


def _wrong(path: Path, sources: tuple[Path, ...], lengths: dict[Path, float | str]) -> tuple[str, str] | None:
    """The first source that cannot be used, and why."""
    whole = lengths[path]
    for source in sources:
        long = lengths[source]
        if isinstance(long, str):
            return str(source), long if source.exists() else f"is missing, a source of {path}"
        if isinstance(whole, float) and abs(long - whole) > 1e-6:
            return str(source), f"lasts {long:g} seconds, but its mixture {path} {whole:g}"
    return None

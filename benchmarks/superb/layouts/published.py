# SPDX-License-Identifier: Apache-2.0
"""How many test clips the leaderboard's data have, so that a part of a corpus is not taken for all of it.

Of QbE no number was found; its lists name the audio, all of which has to be there.
"""

from typing import NamedTuple

from ..utterances import Parts

INCOMPLETE = "incomplete data"  # how the protocol of such data begins
_S3PRL = "s3prl/s3prl@ec8064b"
_LIBRIMIX = "JorisCos/LibriMix@b898ca3, metadata/Libri2Mix"
_CARD = "huggingface/datasets@040102f, datasets/superb/README.md"


class Count(NamedTuple):
    """What is published of a task's test part."""

    test: tuple[int, ...]  # clips (ASV: trials) of each fold; empty: the source gives no number
    source: str
    learnt: int = 0  # clips of train and dev together; 0: a list names those that are missing


COUNTS = {
    "asr": Count((2620,), f"{_CARD}, asr, and {_S3PRL}, test/test_librispeech.py: test-clean, which is PR's too"),
    "ks": Count((3081,), f"{_CARD}, ks"),
    "ic": Count((3793,), f"{_CARD}, ic"),
    "sid": Count((8251,), f"{_CARD}, si"),
    "asv": Count((37_720,), f"{_S3PRL}, downstream/sv_voxceleb1/voxceleb1_test_v2.txt"),
    "er": Count((1085, 1023, 1151, 1031, 1241), f"{_S3PRL}, downstream/emotion/meta_data/Session*/test_meta_data.json"),
    "sd": Count((3000,), f"{_S3PRL}, downstream/separation_stft, whose mixtures of Libri2Mix are the same"),
    "sf": Count((), f"{_S3PRL}, downstream/ctc/snips.yaml, gives no number: all.iob.snips.txt lists the clips"),
    # of dev's 3000 mixtures 1000 are drawn
    "ss": Count(
        (3000,), f"{_LIBRIMIX}: 13900 rows for train-clean-100, 3000 each for dev-clean and test-clean", 14_900
    ),
    "se": Count((824,), "huggingface/datasets JacobLinCool/VoiceBank-DEMAND-16k@4497db3, README.md", 11_572),
}


def lacks(task: str, parts: Parts, fold: int = 1) -> str:
    """What the data of an official fold have less, or more, than is published, in a few words; "" for nothing.

    Args:
        fold: from 1.
    """
    wanted, _, learnt = COUNTS[task]
    found = len(parts.trials if task == "asv" else parts.test)
    short = []
    if wanted and found != wanted[fold - 1]:
        short.append(f"{found} of {wanted[fold - 1]} {'trials' if task == 'asv' else 'test clips'}")
    if learnt and (count := len(parts.train) + len(parts.dev)) != learnt:
        short.append(f"{count} of {learnt} clips of train and dev")
    elif parts.skipped:
        short.append(f"{len(parts.skipped)} clips of train and dev missing")
    return f"{INCOMPLETE}: {' and '.join(short)}" if short else ""

# SPDX-License-Identifier: Apache-2.0
"""How many clips the leaderboard's data have, so that a part of a corpus is not taken for all of it.

Of QbE no number was found: its lists name the audio, all of which has to be there, and are refused where they are as
short as only a slice's can be.
"""

from typing import NamedTuple

from ..utterances import Parts
from .quesst14 import Search

INCOMPLETE = "incomplete data"  # how the protocol of such data begins
_S3PRL = "s3prl/s3prl@ec8064b"
_LIBRIMIX = "JorisCos/LibriMix@b898ca3, metadata/Libri2Mix"
_CARD = "huggingface/datasets@040102f, datasets/superb/README.md"


class Count(NamedTuple):
    """What is published of a task's parts."""

    test: tuple[int, ...]  # clips (ASV: trials) of each fold
    source: str
    learnt: int = 0  # clips of train and dev together; 0: not counted, as the corpus's own lists name what is missing


COUNTS = {
    "asr": Count((2620,), f"{_S3PRL}, test/test_librispeech.py: 28539 and 2703; PR's too", 31_242),
    # six recordings of noise are counted in train and in dev
    "ks": Count((3081,), f"{_CARD}, ks; {_S3PRL}, test/test_speech_commands.py: 51094 and 6804", 57_898),
    "ic": Count((3793,), f"{_CARD}, ic: 23132 and 3118", 26_250),
    "sid": Count((8251,), f"{_CARD}, si: 138361 and 6904", 145_265),
    "asv": Count(
        (37_720,),
        f"{_S3PRL}, downstream/sv_voxceleb1/voxceleb1_test_v2.txt; huggingface datasets "
        "yangwang825/vox1-veri-full@5ca5d0a, README.md: 133777 and 14865 clips of 1211 speakers, and 4874 of others, "
        "together as many as SID's",
        148_642,
    ),
    "er": Count((1085, 1023, 1151, 1031, 1241), f"{_S3PRL}, downstream/emotion/meta_data/Session*/test_meta_data.json"),
    "sd": Count((3000,), "s3prl/LibriMix@d569d35, metadata/Libri2Mix: 13900, 3000 and 3000 rows", 16_900),
    "sf": Count((2800,), f"{_S3PRL}, test/test_snips.py: 104672 and 2800", 107_472),
    # of dev's 3000 mixtures 1000 are drawn
    "ss": Count(
        (3000,), f"{_LIBRIMIX}: 13900 rows for train-clean-100, 3000 each for dev-clean and test-clean", 14_900
    ),
    "se": Count((824,), "huggingface/datasets JacobLinCool/VoiceBank-DEMAND-16k@4497db3, README.md", 11_572),
}


# QUESST 2014 has thousands of documents in six languages, English among them, and hundreds of queries.
LEAST_DOCUMENTS, LEAST_QUERIES = 1000, 100


def lacks_terms(search: Search) -> str:
    """What a part of QUESST 2014 has too little of, in a few words; "" for nothing."""
    queries = min(len(search.dev), len(search.test))
    if len(search.documents) >= LEAST_DOCUMENTS and queries >= LEAST_QUERIES:
        return ""
    least = f"at least {LEAST_DOCUMENTS} and {LEAST_QUERIES} are to be expected"
    return f"{INCOMPLETE}: {len(search.documents)} documents and {queries} queries of a part, where {least}"


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

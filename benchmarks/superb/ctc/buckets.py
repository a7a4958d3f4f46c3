# SPDX-License-Identifier: Apache-2.0
"""The groups of like-long utterances that SUPERB's CTC tasks are trained on (s3prl@ec8064b, downstream/{ctc,asr}).

Shape letter: n utterances.
"""

from collections.abc import Sequence

import numpy as np

LONG = 300_000 / 16_000  # seconds of a window's first clip beyond which PR and SF keep half of the window


def windows(symbols: Sequence[int], seconds: Sequence[float], size: int) -> list[np.ndarray]:
    """PR and SF: n stretches of `size` neighbours in the order of target lengths, longest first, one from each place.

    So utterances are in up to `size` windows of an epoch, and the last `size` windows are the same.
    """
    ranked = np.argsort(-np.asarray(symbols), kind="stable")
    starts = np.minimum(np.arange(len(ranked)), max(0, len(ranked) - size))
    found = [ranked[start : start + size] for start in starts]
    return [one[: max(1, len(one) // 2)] if seconds[one[0]] > LONG else one for one in found]


def buckets(seconds: Sequence[float], size: int, halved: bool) -> list[np.ndarray]:
    """ASR: stretches of `size` in the order of duration, longest first, each utterance in one.

    Args:
        halved: each full stretch becomes two. s3prl means to do so for long ones, but its limit is 2000 samples.
    """
    ranked = np.argsort(-np.asarray(seconds), kind="stable")
    found = [ranked[start : start + size] for start in range(0, len(ranked), size)]
    if halved and size > 1:
        cut = [(one[: size // 2], one[size // 2 :]) if len(one) == size else (one,) for one in found]
        found = [one for pair in cut for one in pair]
    # s3prl drops a last bucket of one; where it is all there is, it stays.
    return found[:-1] if len(found) > 1 and len(found[-1]) == 1 else found

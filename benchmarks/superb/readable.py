# SPDX-License-Identifier: Apache-2.0
"""What is done about clips that cannot be read: none of test may lack, and few of train and dev."""

from collections.abc import Iterable

from .clips import Clips
from .states import States

SHARE = 0.05  # of train or dev that may be bad


def need_all(pieces: Iterable[int], states: States, clips: Clips) -> None:
    """Raises ValueError, with the first, if a clip of test cannot be read."""
    for piece in pieces:
        if piece in states.bad:
            why = states.bad[piece]
            raise ValueError(f"{clips.name(piece)}: {why}; a score over fewer test clips is another score")


def need_most(part: str, before: int, after: int, states: States, clips: Clips) -> None:
    """Raises ValueError, with the first, if too few of a part's clips are left."""
    if before - after > SHARE * before or not after:
        first = next(iter(states.bad))
        raise ValueError(
            f"{before - after} of {before} clips of {part} cannot be read, more than {SHARE:.0%}: "
            f"{clips.name(first)}: {states.bad[first]}"
        )

# SPDX-License-Identifier: Apache-2.0
"""Setting a share of names apart, where a corpus does not say what is for dev: the names alone decide."""

import hashlib
from collections.abc import Iterable


def digest(name: str) -> bytes:
    """What puts names in an order that has nothing to do with them."""
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def set_apart(names: Iterable[str], share: float, least: int = 1) -> set[str]:
    """A share of the names, no fewer than `least` and never all: those whose digests come first.

    Unlike `ssl.data.held_out` it also works for the few speakers of a small corpus; a name's fate can change only when
    other names come or go.

    Raises: ValueError if that would leave none.
    """
    ordered = sorted(set(names), key=digest)
    if len(ordered) <= least:
        raise ValueError(f"{least} of the {len(ordered)} speaker(s) cannot be set apart: add speakers, or name a split")
    return set(ordered[: min(len(ordered) - 1, max(least, round(share * len(ordered))))])

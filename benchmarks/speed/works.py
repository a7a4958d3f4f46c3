# SPDX-License-Identifier: Apache-2.0
"""What `pluri bench` measures."""

from . import cost, finetune, speech, text, vision
from .side import Work

WORKS = (*text.WORKS, *finetune.WORKS, *speech.WORKS, *vision.WORKS)


def find(name: str) -> Work:
    """The work of a name, or the point of a curve."""
    return next((work for work in WORKS if work.name == name), None) or cost.work(name)

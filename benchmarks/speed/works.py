# SPDX-License-Identifier: Apache-2.0
"""What `pluri bench` measures."""

from . import speech, text, vision

WORKS = (*text.WORKS, *speech.WORKS, *vision.WORKS)

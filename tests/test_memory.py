# SPDX-License-Identifier: Apache-2.0
"""Freed memory stays with the process: taking it again costs no page faults."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from pluri.ssl import memory
if sys.argv[1] == "keep":
    assert memory.keep() and memory.keep()
for _ in range(6):
    torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
total = sum(torch.ones(20_000_000).sum().item() for _ in range(5))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, total)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_memory_that_was_freed_is_taken_again_without_page_faults():
    faults = {}
    for how in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        count, total = done.stdout.split()
        faults[how] = int(count)
        assert float(total) == 1e8
    # Five times 80 MB in pages of 4 KiB are some 98,000 faults.
    assert faults["leave"] > 1000 and faults["keep"] < faults["leave"] / 10

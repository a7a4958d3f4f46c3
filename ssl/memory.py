# SPDX-License-Identifier: Apache-2.0
"""Keeps what a CPU run has freed, in huge pages, instead of giving it back to the system and asking for it again.

A step frees and takes gigabytes. The C library hands every large piece back at once, and the system zeroes it page by
page, 4 KiB at a time, when it is taken again: a sixth to a quarter of a training step.
"""

import ctypes
import functools
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # mallopt's names, glibc's malloc.h
_HUGE_PAGES = 14  # madvise's MADV_HUGEPAGE
_PAGE = 2 << 20  # bytes


@functools.cache
def keep(share: float = 0.5) -> bool:
    """From now on memory that is freed stays with this process; a second call does nothing.

    Only addresses are set apart, so that a process takes no more memory than it uses; what it has once used it keeps.
    Changes no result. Does nothing but on Linux with glibc.

    Args:
        share: of the machine's memory, for which huge pages are asked.
    Returns: whether memory is kept.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    try:
        options, allocate, release, advise = libc.mallopt, libc.malloc, libc.free, libc.madvise
    except AttributeError:  # not glibc
        return False
    allocate.restype, allocate.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    release.argtypes = [ctypes.c_void_p]
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if not options(_MMAP_MAX, 0) or not options(_TRIM_THRESHOLD, -1):  # -1: never
        return False
    size = int(share * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    block = allocate(size)
    if block:
        start = -(-block // _PAGE) * _PAGE
        advise(start, (block + size - start) // _PAGE * _PAGE, _HUGE_PAGES)
        release(block)
    return True

# SPDX-License-Identifier: Apache-2.0
"""Scores separated and enhanced speech: SI-SDR and its improvement, PESQ (wide band) and STOI.

SI-SDR: Le Roux et al. 2019 (arXiv:1811.02508, eq. 3 to 5), without taking the mean off, as pb_bss_eval computes it for
s3prl. PESQ: ITU-T P.862.2, by the package pesq. STOI: Taal et al. 2011, by the package pystoi.
Shape letters: R speakers, S samples at 16 kHz.
"""

import itertools
import warnings
from importlib.util import find_spec

import numpy as np

RATE = 16_000  # Hz
LOWEST = -80.0  # dB, of SI-SDR: silence
FLOOR = 1.0  # of PESQ: what an estimate counts in which there is nothing to be heard
_EPS = 1e-8  # of the estimate's energy, added to both parts of it: figures lie within 80 dB of 0


def si_sdr(estimate: np.ndarray, target: np.ndarray) -> float:
    """The scale-invariant signal-to-distortion ratio in dB, between -80 (also of silence) and 80.

    Args:
        estimate, target: (S,). Raises: ValueError for a silent target.
    """
    said, meant = estimate.astype(np.float64), target.astype(np.float64)
    energy = meant @ meant
    if not energy:
        raise ValueError("no SI-SDR: the target is silent")
    scaled = (said @ meant / energy) * meant
    distortion, rest = said - scaled, _EPS * (said @ said)
    if not rest:
        return LOWEST
    return float(10 * np.log10((scaled @ scaled + rest) / (distortion @ distortion + rest)))


def improvement(estimates: np.ndarray, targets: np.ndarray, mixture: np.ndarray) -> tuple[float, tuple[int, ...]]:
    """SI-SDRi: how much higher the mean SI-SDR is than the mixture's, in the order of speakers where that is most.

    s3prl orders speakers by mir_eval's SDR, which allows filters; the two differ where speakers are hardly separated.

    Args:
        estimates, targets: (R, S). mixture: (S,).
    Returns: dB, and for each target the estimate that it is compared with.
    """
    pairs = np.array([[si_sdr(said, meant) for said in estimates] for meant in targets])  # (targets, estimates)
    places = range(len(targets))
    best = max(itertools.permutations(places), key=lambda order: sum(pairs[i, order[i]] for i in places))
    before = np.mean([si_sdr(mixture, meant) for meant in targets])
    return float(np.mean([pairs[i, best[i]] for i in places]) - before), best


def need_packages() -> None:
    """Raises ValueError, which says what to install, if PESQ or STOI cannot be computed."""
    if missing := [name for name in ("pesq", "pystoi") if find_spec(name) is None]:
        raise ValueError(f"speech enhancement is scored by PESQ and STOI: pip install {' '.join(missing)}")


def pesq(estimate: np.ndarray, target: np.ndarray) -> float:
    """Wide-band PESQ, 1.02 to 4.64, or `FLOOR` where the estimate, or the target, is too short or too silent for it.

    Args:
        estimate, target: (S,). Raises: ValueError without the package pesq.
    """
    need_packages()
    from pesq import PesqError  # pyright: ignore[reportMissingImports]  an extra
    from pesq import pesq as compute  # pyright: ignore[reportMissingImports]

    found = FLOOR
    if np.any(estimate) and np.any(target):
        found = compute(RATE, target, estimate, "wb", on_error=PesqError.RETURN_VALUES)
    return max(FLOOR, float(found)) if np.isfinite(found) else FLOOR


def stoi(estimate: np.ndarray, target: np.ndarray) -> float:
    """STOI, up to 1; 1e-5 of speech shorter than 0.4 seconds, as pystoi has it.

    Args:
        estimate, target: (S,). Raises: ValueError without the package pystoi.
    """
    need_packages()
    from pystoi import stoi as compute  # pyright: ignore[reportMissingImports]  an extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what it says of short speech
        return float(compute(target, estimate, RATE, extended=False))

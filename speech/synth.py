# SPDX-License-Identifier: Apache-2.0
"""A small source-filter synthesiser: known phones, words and speakers, for demonstrations and tests without data.

A glottal pulse train, or noise, through three parallel resonances (Klatt 1980, "Software for a cascade/parallel
formant synthesizer"). Vowels' formants are Peterson and Barney's (1952) means for men, scaled by the speaker.
"""

from typing import NamedTuple

import numpy as np

RATE = 16_000  # Hz


class Phone(NamedTuple):
    """What a phone is made of."""

    formants: tuple[float, float, float]  # Hz
    voiced: float  # loudness of the pulses
    noise: float  # loudness of the noise
    milliseconds: float


PHONES = {
    "i": Phone((270, 2290, 3010), 1.0, 0.01, 120),
    "e": Phone((530, 1840, 2480), 1.0, 0.01, 120),
    "a": Phone((730, 1090, 2440), 1.0, 0.01, 140),
    "o": Phone((570, 840, 2410), 1.0, 0.01, 130),
    "u": Phone((300, 870, 2240), 1.0, 0.01, 120),
    "m": Phone((250, 1000, 2200), 0.35, 0.0, 80),
    "n": Phone((250, 1600, 2600), 0.35, 0.0, 80),
    "l": Phone((360, 1300, 2700), 0.5, 0.0, 70),
    "s": Phone((4500, 6000, 7200), 0.0, 0.5, 110),
    "f": Phone((1500, 3500, 7000), 0.0, 0.25, 100),
    "t": Phone((3000, 4200, 6500), 0.0, 0.0, 60),
    "k": Phone((1200, 2000, 3500), 0.0, 0.0, 70),
}
STOPS = {"t", "k"}  # silence, then a burst
WORDS = ("mana", "sito", "kule", "fano", "temi", "lusa", "niko", "sefu", "malo", "kati")


class Speaker(NamedTuple):
    """A voice."""

    pitch: float  # Hz
    tract: float  # formants are this much higher than the means
    tempo: float  # phones last this much longer than usual


def speaker(number: int) -> Speaker:
    """A voice that follows from its number."""
    rng = np.random.default_rng((17, number))
    return Speaker(95.0 + 130.0 * rng.random(), 0.9 + 0.3 * rng.random(), 0.85 + 0.4 * rng.random())


def say(word: str, who: Speaker, seed: int) -> np.ndarray:
    """(S,) float32 at 16 kHz: one word of PHONES' letters, with the small differences of each utterance."""
    from scipy.ndimage import uniform_filter1d
    from scipy.signal import lfilter

    rng = np.random.default_rng((29, seed))
    tracks = [_phone(letter, who, rng) for letter in word]
    formants = np.concatenate([track[0] for track in tracks])
    voiced, noise = (np.concatenate([track[i] for track in tracks]) for i in (1, 2))
    # The mouth does not jump: everything moves within 20 ms.
    formants = uniform_filter1d(formants, 320, axis=0, mode="nearest")
    voiced, noise = (uniform_filter1d(x, 320, mode="nearest") for x in (voiced, noise))
    pitch = who.pitch * (1.08 - 0.16 * np.linspace(0, 1, len(voiced))) * (1 + 0.01 * rng.standard_normal())
    pulses = np.diff(np.floor(np.cumsum(pitch / RATE)), prepend=0.0)
    source = lfilter([1.0], [1.0, -0.8], pulses * 6.0) * voiced
    source = source + rng.standard_normal(len(source)) * noise
    wave = _resonances(source, formants)
    silence = np.zeros(int(RATE * (0.05 + 0.05 * rng.random())))
    wave = np.concatenate([silence, wave, silence])
    return (0.3 * wave / np.abs(wave).max() + 0.001 * rng.standard_normal(len(wave))).astype(np.float32)


def _phone(letter: str, who: Speaker, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Formants (S, 3) in Hz, and loudness of voice and noise (S,)."""
    phone = PHONES[letter]
    count = int(RATE * phone.milliseconds / 1000 * who.tempo * (0.85 + 0.3 * rng.random()))
    shift = who.tract * (1 + 0.03 * rng.standard_normal(3))
    formants = np.tile(np.minimum(np.array(phone.formants) * shift, 7600.0), (count, 1))
    voiced, noise = np.full(count, phone.voiced), np.full(count, phone.noise)
    if letter in STOPS:
        noise[-count // 3 :] = 0.7
    return formants, voiced, noise


def _resonances(source: np.ndarray, formants: np.ndarray) -> np.ndarray:
    """The source through three resonances side by side, each with a gain of one at its peak; they move every 5 ms."""
    from scipy.signal import lfilter

    total = np.zeros_like(source)
    for number, (width, share) in enumerate(((90.0, 1.0), (130.0, 0.6), (200.0, 0.35))):
        state = np.zeros(2)
        for start in range(0, len(source), 80):
            omega = 2 * np.pi * formants[start, number] / RATE
            radius = np.exp(-np.pi * width / RATE)
            a = [1.0, -2.0 * radius * np.cos(omega), radius**2]
            gain = share * (1 - radius) * np.sqrt(1 - 2 * radius * np.cos(2 * omega) + radius**2)
            piece, state = lfilter([gain], a, source[start : start + 80], zi=state)
            total[start : start + 80] += piece
    return total

# SPDX-License-Identifier: Apache-2.0
"""The spectra that speech is separated in: Hann windows of 512 samples, as far apart as the encoder's frames.

As librosa's stft and istft with centred frames, which s3prl@ec8064b (downstream/separation_stft) uses.
Shape letters: R speakers, S samples, T frames, F bins.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 512  # samples at 16 kHz, of the window and of the transform
BINS = WINDOW // 2 + 1
WIDEST = 320  # samples between frames of the leaderboard's slowest encoders; windows that overlap less lose speech
_TAIL = 2048  # samples of silence at the end beyond which nothing is suppressed


def spacing(hop: int) -> tuple[int, int]:
    """The samples between frames of the spectrum, and how often each of an encoder's frames is repeated for that.

    s3prl takes the encoder's own distance; here one of more than 320 samples is divided by the least number that will
    do, as windows of 512 hardly overlap at 480.

    Args:
        hop: samples between the encoder's frames.
    """
    repeats = next(number for number in range(-(-hop // WIDEST), hop + 1) if hop % number == 0)
    return hop // repeats, repeats


def spectrum(wave: Tensor, hop: int) -> Tensor:
    """(S,) to complex (T, F); T is 1 + S // hop, and what lies beyond both ends counts as silence."""
    window = torch.hann_window(WINDOW, device=wave.device)
    found = torch.stft(wave, WINDOW, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    return found.T


def waveform(spectra: Tensor, hop: int, samples: int) -> Tensor:
    """Complex (R, T, F) to (R, S), whose spectrum is nearest; unlike torch.istft to its very end.

    Args:
        samples: S.
    """
    window = torch.hann_window(WINDOW, device=spectra.device)
    frames = (torch.fft.irfft(spectra, WINDOW) * window).transpose(1, 2)  # (R, WINDOW, T)
    long = (frames.shape[2] - 1) * hop + WINDOW

    def add(parts: Tensor) -> Tensor:
        """Frames, each at its place: (R, WINDOW, T) to (R, S)."""
        whole = F.fold(parts, (1, long), (1, WINDOW), stride=(1, hop))[:, 0, 0, WINDOW // 2 :]
        return F.pad(whole, (0, max(0, samples - whole.shape[1])))[:, :samples]

    weight = add((window**2)[None, :, None].expand(1, WINDOW, frames.shape[2]))
    return add(frames) / torch.where(weight > torch.finfo(weight.dtype).tiny, weight, 1.0)


def quiet_end(wave: Tensor) -> Tensor:
    """The same waveform (S,), silent from where its last 512 samples first exceed all that comes before.

    There the windows' sum is almost zero, so that errors become an impulse; s3prl cuts it off before it scores.
    """
    sounding = wave.nonzero()
    end = int(sounding[-1]) + 1 if len(sounding) else 0
    start = end - WINDOW
    if end < len(wave) - _TAIL or start <= 0:
        return wave
    louder = (wave[start:end].abs() > wave[:start].abs().max()).nonzero()
    if not len(louder):
        return wave
    quiet = wave.clone()
    quiet[start + int(louder[0]) :] = 0.0
    return quiet

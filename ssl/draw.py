# SPDX-License-Identifier: Apache-2.0
"""Random numbers drawn from keys: the same on every device, in any order, with any number of loader workers.

A key is a 64-bit integer. `key(seed, epoch, sample_id)` makes one on the host; `fold(keys, "mask")` derives others
from a whole batch of them at once; `uniform(keys, n)` draws n numbers from each. Nothing has a state, so nothing has to
be saved. The mixing function is the finaliser of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number
generators").
"""

import hashlib
import math

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_STRIDE = 0x9E3779B97F4A7C15
_MIX_A = 0xBF58476D1CE4E5B9
_MIX_B = 0x94D049BB133111EB


def _signed(value: int) -> int:
    """The 64-bit pattern of `value` as the signed integer that torch.int64 holds."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * _MIX_A) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_B) & _MASK
    return z ^ (z >> 31)


def _mix_tensor(z: Tensor) -> Tensor:
    # int64 multiplication wraps; its right shift copies the sign, so the copies are masked away.
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * _signed(_MIX_A)
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * _signed(_MIX_B)
    return z ^ ((z >> 31) & ((1 << 33) - 1))


def _number(part: int | str) -> int:
    if isinstance(part, str):
        return int.from_bytes(hashlib.blake2b(part.encode(), digest_size=8).digest(), "little")
    return part & _MASK


def key(*parts: int | str) -> int:
    """One key from any number of integers and names, e.g. `key(seed, epoch, sample_id)`; a signed 64-bit integer."""
    state = 0
    for part in parts:
        state = _mix(((state ^ _number(part)) + _STRIDE) & _MASK)
    return _signed(state)


def fold(keys: Tensor, part: int | str | Tensor) -> Tensor:
    """New keys from old ones and a name, a number or a tensor of numbers; `key(a, b)` is `fold(key(a), b)`."""
    number = part if isinstance(part, Tensor) else _signed(_number(part))
    return _mix_tensor((keys ^ number) + _signed(_STRIDE))


def _bits(keys: Tensor, n: int) -> Tensor:
    counter = torch.arange(1, n + 1, device=keys.device, dtype=torch.int64)
    return _mix_tensor(keys[..., None] + counter * _signed(_STRIDE))


def uniform(keys: Tensor, n: int) -> Tensor:
    """(*keys.shape, n) float32, uniform on the multiples of 2^-24 in [0, 1)."""
    return ((_bits(keys, n) >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def normal(keys: Tensor, n: int) -> Tensor:
    """(*keys.shape, n) float32, standard normal (Box-Muller)."""
    pairs = uniform(keys, 2 * ((n + 1) // 2))
    radius = (-2.0 * torch.log1p(-pairs[..., 0::2])).sqrt()
    angle = 2.0 * math.pi * pairs[..., 1::2]
    # Side by side, so that the numbers do not depend on how many are drawn.
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1).flatten(-2)[..., :n]


def integers(keys: Tensor, n: int, high: int | Tensor) -> Tensor:
    """(*keys.shape, n) int64, uniform on 0 .. high - 1; `high` is a number or a tensor that broadcasts, up to 2^24."""
    return (uniform(keys, n).double() * high).long()  # double: float32 would round u * high up to the next integer


def permutation(seed_key: int, n: int) -> Tensor:
    """(n,) int64: the numbers 0 .. n - 1 in an order that `seed_key` decides."""
    bits = _bits(torch.tensor(seed_key, dtype=torch.int64), n)
    return torch.argsort(bits, stable=True)

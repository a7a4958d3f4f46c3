# SPDX-License-Identifier: Apache-2.0
"""One library's side of a piece of work, in a process of its own that does a step whenever it is asked to.

Two sides of the same work take turns, so that whatever else the machine does falls on both alike; neither shares
memory, threads or settings with the other. `Remote` is the end that asks, `main` the one that answers.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...ssl import draw, memory
from ...ssl.monitor import matmul_peak
from ...ssl.objective import Objective
from ...ssl.optim import OptimizerConfig, clipped_step
from ...ssl.recipe import Recipe

Precision = Literal["fp32", "bf16"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What both sides of a work have in common."""

    device: torch.device
    precision: Precision
    small: bool  # 4 x 256 networks and short inputs
    steps: int  # how many different batches there are
    compile: bool = False  # torch.compile each block of pluri's encoder

    def rows(self, count: int) -> int:
        """Rows of a batch: `count`, and on a GPU, which would else wait for the host's launches, 8 times it."""
        return 8 * count if self.device.type == "cuda" and not self.small else count

    def autocast(self) -> torch.autocast:
        """bf16 by torch's own rules, for either library."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def dtype(self) -> torch.dtype:
        """What matrix products are done in."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


class Side(NamedTuple):
    """A library that is ready to work."""

    step: Callable[[int], None]  # does step number 0, 1, ...
    sizes: list[float]  # real units of each step: padding, and what is cut away, is not counted
    flops: list[float] = []  # of each step, as the mathematics needs them; only pluri's side says
    ahead: int = 0  # steps for which its loader's workers may have made batches before they are asked for


class Work(NamedTuple):
    """The same work in pluri and in a peer. A side is built only in its own process."""

    name: str
    modality: Literal["text", "speech", "vision"]
    peer: str
    unit: str
    needs: tuple[str, ...]  # modules that the peer is made of
    ours: Callable[[Setting], Side]
    theirs: Callable[[Setting], Side]
    quick: bool = False  # also measured by the quick bench
    large: bool = False  # on a CPU only where it is asked for by name


def sized(recipe: Recipe, depth: int, width: int, heads: int) -> Recipe:
    """The same recipe with another encoder: `depth` blocks of `width`, MLPs four times as wide."""
    encoder = dataclasses.replace(recipe.encoder, depth=depth, width=width, heads=heads, hidden=4 * width)
    return dataclasses.replace(recipe, encoder=encoder, front_end=dataclasses.replace(recipe.front_end, width=width))


def small(recipe: Recipe) -> Recipe:
    """The same recipe with 4 blocks of 256."""
    return sized(recipe, 4, 256, 4)


def keys(number: int, rows: int) -> Tensor:
    """(rows,) int64: the keys of a batch's items, drawn at once, as the loader draws an epoch's."""
    return draw.fold(torch.tensor(draw.key(0, number)), torch.arange(rows))


def train_step(
    loss: Callable[[int], Tensor],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    clip: float | None,
    setting: Setting,
) -> Callable[[int], None]:
    """A peer's whole training step: the loss under autocast, backward, clipping, optimiser."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step(number: int) -> None:
        with setting.autocast():
            value = loss(number)
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(trained, clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def objective_step(
    loss: Callable[[int], Tensor], objective: Objective, config: OptimizerConfig, setting: Setting
) -> Callable[[int], None]:
    """The compute of a training step of pluri: what `loss` does (from rows in memory: collating, copying to the device,
    the forward pass under autocast), backward, clipping and the optimiser's step, and what follows it (a teacher's).

    Of what the loop does besides, it leaves out the loader and its workers, seeding dropout, the learning rate's
    schedule, and sending the step's numbers to the host. The input pipeline is measured by `pluri bench input`.
    """
    if setting.compile:
        objective.backbone.encoder.compile_blocks()
    optimizer = config.build(objective)
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]

    def step(number: int) -> None:
        with setting.autocast():
            value = loss(number)
        value.backward()
        clipped_step(optimizer, trained, config.clip)
        optimizer.zero_grad(set_to_none=True)
        objective.after_step(0.5)

    return step


class Remote:
    """A side in another process."""

    def __init__(self, work: str, side: str, setting: Setting) -> None:
        words = [sys.executable, "-m", f"{__package__}.side", work, side, "--precision", setting.precision]
        words += ["--device", setting.device.type, "--steps", str(setting.steps)] + ["--small"] * setting.small
        words += ["--compile"] * setting.compile
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True
        )
        self.sizes: list[float] = []
        self.flops: list[float] = []
        self.ahead = 0

    def ready(self) -> None:
        """Waits until the side is built. Raises RuntimeError with its last words if it cannot be."""
        self.sizes, self.flops, self.ahead = self._read()

    def seconds(self, number: int) -> float:
        """How long the side takes for step `number`."""
        return self._ask(f"{number}\n")

    def memory(self) -> float:
        """GiB that the side has needed at its peak: of the device, or of the process where that is a CPU."""
        return self._ask("memory\n")

    def peak(self) -> float:
        """FLOP/s of a large matrix product, now."""
        return self._ask("peak\n")

    def close(self) -> None:
        """Ends the process and those of its loader, which would else look for it only every five seconds."""
        if self.process.returncode is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _ask(self, words: str) -> float:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it died of is read below
            self.process.stdin.write(words)
            self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        if self.process.returncode == -signal.SIGKILL:
            raise RuntimeError("killed, as the system does where memory ends")
        self.log.seek(0)
        last = self.log.read().decode(errors="replace").strip().split("\n")[-1]
        raise RuntimeError(f"ended with {self.process.returncode}: {last}")


def _peak_memory(device: torch.device) -> float:
    """GiB so far; of a device since it was last asked."""
    if device.type == "cuda":
        most = torch.cuda.max_memory_allocated(device) / 2**30
        torch.cuda.reset_peak_memory_stats(device)
        return most
    # Not ru_maxrss: a process that has been started by a larger one begins with the larger one's.
    lines = Path("/proc/self/status").read_text().split("\n")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def _answer(side: Side, setting: Setting, out: Any) -> None:
    """Reads a line, does what it says, writes a line, until there is none."""

    def say(value: Any) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    say([side.sizes, side.flops, side.ahead])
    most = 0.0  # GiB
    for line in sys.stdin:
        if line == "memory\n":
            say(max(most, _peak_memory(setting.device)))
        elif line == "peak\n":
            most = max(most, _peak_memory(setting.device))  # what the products below take is not the work's
            say(matmul_peak(setting.device, setting.dtype))
            _peak_memory(setting.device)
        else:
            start = time.perf_counter()
            side.step(int(line))
            if setting.device.type == "cuda":
                torch.cuda.synchronize(setting.device)
            say(time.perf_counter() - start)


def full_precision() -> None:
    """No TF32 in a GPU's fp32: torch's own setting allows it to convolutions and not to matrix products, and so to the
    peers' extractors and not to pluri's, nor to the peak."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def main() -> None:
    """The answering end: builds the side that the words name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work")
    parser.add_argument("side", choices=("ours", "theirs"))
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=4)
    words = parser.parse_args()
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what libraries print must not mix with the answers
        setting = Setting(torch.device(words.device), words.precision, words.small, words.steps, words.compile)
        from .works import find

        work = find(words.work)
        torch.manual_seed(0)
        if words.side == "ours" and words.device == "cpu":
            memory.keep()  # as `train.fit` does
        side = work.ours(setting) if words.side == "ours" else work.theirs(setting)
        if words.precision == "fp32":
            full_precision()
        _answer(side, setting, out)


if __name__ == "__main__":
    main()

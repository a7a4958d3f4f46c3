# SPDX-License-Identifier: Apache-2.0
"""What a run says of itself: metrics.jsonl (the truth), TensorBoard, a progress bar, bad items, and collapse alarms."""

import functools
import json
import math
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .linear import linear

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

METRICS, BAD_ITEMS = "metrics.jsonl", "bad_items.jsonl"


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s that this machine reaches in one large matrix product; the best of a few tries of 2048^3 (GPU: 8192^3).

    On a CPU in float32 both libraries that the encoder calls are tried, torch's own product and that of `linear`.
    """
    n, tries = (8192, 20) if device.type == "cuda" else (2048, 3)
    a = torch.randn(n, n, device=device, dtype=dtype)
    b = torch.randn(n, n, device=device, dtype=dtype)
    best = math.inf
    products = [torch.mm, linear] if device.type == "cpu" and dtype == torch.float32 else [torch.mm]
    for product in products * tries:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        product(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2.0 * n**3 / best


known_peak = functools.cache(matmul_peak)  # one measurement for all runs of a process

Shape = list[int]


def flop_counter() -> "FlopCounterMode":
    """torch's counter of the operations of matrix products, with those that it knows nothing of on a CPU."""
    from torch.utils import flop_counter as torchs

    def add_product(into: Shape, a: Shape, b: Shape, *rest: object, out_shape: object = None, **named: object) -> int:
        return torchs.mm_flop(a, b)

    def attention(q: Shape, k: Shape, v: Shape, *rest: object, out_shape: object = None, **named: object) -> int:
        return torchs.sdpa_flop_count(q, k, v)

    def attention_backward(
        gradient: Shape, q: Shape, k: Shape, v: Shape, *rest: object, out_shape: object = None, **named: object
    ) -> int:
        return torchs.sdpa_backward_flop_count(gradient, q, k, v)

    aten = torch.ops.aten
    more = {
        aten.addmm_: add_product,
        aten._scaled_dot_product_flash_attention_for_cpu: attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
    }
    return torchs.FlopCounterMode(display=False, custom_mapping=more)


def rank_me(x: Tensor) -> float:
    """exp(entropy) of the singular values of (B, D): how many dimensions embeddings use (Garrido et al. 2023,
    arXiv:2210.02885, eq. 1)."""
    values = torch.linalg.svdvals(x.detach().float().cpu())
    share = values / values.sum().clamp(min=1e-12) + 1e-5
    return float(torch.exp(-(share * share.log()).sum()))


def embedding_std(x: Tensor) -> float:
    """Deviation of L2-normalised rows (B, D), scaled so that isotropic rows give 1; near 0: collapsed."""
    return float(F.normalize(x.detach().float(), dim=-1).std(0, correction=0).mean() * x.shape[1] ** 0.5)


class Alarm:
    """Says once that a scalar has stayed below its floor for 50 steps: the representation has collapsed."""

    def __init__(self, floors: Mapping[str, float], patience: int = 50) -> None:
        self.floors = dict(floors)
        self.patience = patience
        self.below = dict.fromkeys(floors, 0)

    def check(self, scalars: Mapping[str, float]) -> str | None:
        """The alarm's words, at the step at which it goes off."""
        for name, floor in self.floors.items():
            if name in scalars:
                self.below[name] = self.below[name] + 1 if scalars[name] < floor else 0
                if self.below[name] == self.patience:
                    return (
                        f"collapse: {name} has been below {floor:g} for {self.patience} steps, now {scalars[name]:.3g}"
                    )
        return None


class Monitor:
    """Writes a run's metrics and shows its progress. Only rank 0 has one that writes."""

    def __init__(self, run: Path | None, steps: int, start: int, unit: str) -> None:
        self.unit, self.steps = unit, steps
        self.file = self.bad_file = self.board = self.progress = None
        self.recent: deque[tuple[float, float]] = deque(maxlen=20)  # time and size of the last steps
        self.bad: dict[str, str] = {}
        if run is None:
            return
        self._truncate(run / METRICS, start)
        self.file = (run / METRICS).open("a", buffering=1)
        if (run / BAD_ITEMS).is_file():
            rows = [json.loads(line) for line in (run / BAD_ITEMS).read_text().splitlines()]
            self.bad = {row["item"]: row["reason"] for row in rows}
        self.bad_file = (run / BAD_ITEMS).open("a", buffering=1)
        from torch.utils.tensorboard.writer import SummaryWriter

        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=start)
        self._start_bar(start)

    @staticmethod
    def _truncate(path: Path, step: int) -> None:
        """Drops rows of steps that a resumed run will take again."""
        if not path.is_file():
            return
        kept = []
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        beside = path.with_suffix(".partial")
        beside.write_text("".join(kept))
        beside.rename(path)

    def _start_bar(self, start: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.progress = Progress(*columns)
        self.task = self.progress.add_task("", total=self.steps, completed=start)
        self.progress.start()

    def rate(self, size: float, at: float) -> float:
        """Units a second over the last steps, this one of `size`, done `at` (time.perf_counter), counted in."""
        self.recent.append((at, size))
        if len(self.recent) < 2:
            return math.nan
        elapsed = self.recent[-1][0] - self.recent[0][0]
        return sum(size for _, size in list(self.recent)[1:]) / elapsed

    def step(self, row: dict[str, Any]) -> None:
        """Writes one step's row; it has at least "step" and "loss"."""
        if self.file is None or self.board is None or self.progress is None:
            return
        self.file.write(json.dumps({name: _plain(value) for name, value in row.items()}) + "\n")
        for name, value in row.items():
            if isinstance(value, float):
                self.board.add_scalar(name, value, row["step"])
        words = f"loss {row['loss']:.4f}"
        if row.get("rate", math.nan) > 0:
            words += f"  {row['rate']:,.1f} {self.unit}/s"
        if row.get("mfu", math.nan) > 0:
            words += f"  MFU {row['mfu']:.0%}"
        if self.bad:
            words += f"  {len(self.bad)} bad items"
        self.progress.update(self.task, completed=row["step"], description=words)

    def note(self, text: str) -> None:
        """Prints a line without disturbing the bar."""
        if self.progress is not None:
            self.progress.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def bad_item(self, item: str, reason: str) -> None:
        """Names an item that cannot be used; the same item is named once."""
        if item not in self.bad:
            self.bad[item] = reason
            if self.bad_file is not None:
                self.bad_file.write(json.dumps({"item": item, "reason": reason}) + "\n")

    def close(self) -> None:
        """Ends the bar, counts the bad items, and closes the files."""
        if self.bad and self.bad_file is not None:
            self.note(f"{len(self.bad)} items could not be used: {self.bad_file.name} says why")
        if self.progress is not None:
            self.progress.stop()
        for file in (self.file, self.bad_file, self.board):
            if file is not None:
                file.close()


def _plain(value: Any) -> Any:
    """JSON has no NaN: such numbers become text, which readers see as what they are."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

# SPDX-License-Identifier: Apache-2.0
"""The loop: one for every objective, every modality, pre-training, fine-tuning and probing alike.

A run is a pure function of its recipe: killed at any moment and started again, it goes on to the same bits.
"""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import checkpoint, draw, memory, parallel
from .data import Dataset, Loaded, Loader, Position
from .monitor import Alarm, Monitor, embedding_std, flop_counter, known_peak, rank_me
from .objective import Batch, Objective
from .optim import clipped_step, clipped_step_sharded
from .recipe import Training
from .stopped import Diverged, Interrupted, Stopped

MOST_BAD = 0.05  # share of the items seen that may be bad before the run stops
MOST_NON_FINITE = 10  # steps in a row


class Outcome(NamedTuple):
    """How a run ended."""

    step: int
    row: dict[str, Any]  # the last step's metrics
    held_out: dict[str, float]  # the last evaluation


def fit(
    objective: Objective,
    data: Dataset,
    held_out: Dataset | None,
    training: Training,
    run: Path | None = None,
) -> Outcome:
    """Trains an objective, from the newest checkpoint of `run` if there is one.

    Args:
        objective: trained in place.
        held_out: evaluated every `training.loop.evaluate_every` steps; None: never.
        run: folder for checkpoints and metrics; None: nothing is written.
    Raises: ValueError for settings that cannot be; Stopped if too many items are bad, or too many steps not finite.
    """
    return _Run(objective, data, held_out, training, run).run()


class _Pending(NamedTuple):
    """A step whose numbers have not been read yet."""

    step: int
    names: list[str]
    numbers: Tensor  # on the host: the scalars and the size, summed over ranks, once `there` has been reached
    there: torch.cuda.Event | None
    shares: list[Loaded]
    lr: float
    sent: float  # seconds of time.perf_counter


class _Run:
    """The state of a run."""

    def __init__(
        self, objective: Objective, data: Dataset, held_out: Dataset | None, training: Training, run: Path | None
    ) -> None:
        loop = training.loop
        if loop.accumulate > 1 and objective.batch_statistics:
            raise ValueError(
                "this objective compares items of a batch, so working it off in parts changes it: accumulate=1"
            )
        self.objective, self.data, self.held_out, self.training, self.folder = objective, data, held_out, training, run
        self.device = parallel.find_device(loop.device)
        if self.device.type == "cpu":
            memory.keep()
        self.objective.to(self.device)
        self.step, self.position, self.seen, self.row = 0, Position(0, 0), 0, {}
        self.held_out_scores: dict[str, float] = {}
        self.sharded = parallel.world() > 1 and loop.sharding == "fsdp"
        self.spare: Batch | None = None
        state = self._restore_weights()
        objective.backbone.encoder.recompute = loop.recompute
        if loop.compile:
            objective.backbone.encoder.compile_blocks()
        self.model = self._distribute()
        self.optimizer = training.optimizer.build(objective)
        if state is not None:
            self._restore_optimizer(state)
        writes = run is not None and parallel.rank() == 0
        self.monitor = Monitor(run if writes else None, training.steps, self.step, data.unit)
        for item, reason in data.bad:
            self.monitor.bad_item(item, reason)
        self.alarm = Alarm(objective.alarms)
        self.dtype = torch.bfloat16 if loop.precision == "bf16" else torch.float32
        self.peak = known_peak(self.device, self.dtype) if run is not None else math.nan
        self.flops = math.nan  # of a step, for each unit of size
        self.non_finite = 0
        self.stop_signal: int | None = None

    # --- before and after -------------------------------------------------------------------------------------------

    def _distribute(self) -> nn.Module:
        if parallel.world() == 1:
            return self.objective
        if self.sharded:
            from torch.distributed.fsdp import fully_shard

            for block in self.objective.backbone.encoder.blocks:
                fully_shard(block)
            fully_shard(self.objective)
            return self.objective
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(self.objective, broadcast_buffers=False, gradient_as_bucket_view=True)

    def _restore_weights(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        newest = checkpoint.latest(self.folder) if self.folder is not None else None
        if newest is None:
            return None
        weights, optimizer, state = checkpoint.load(newest)
        self.objective.load_state_dict(weights)
        self.step, self.seen = state["step"], state["seen"]
        self.position = Position(*state["position"])
        self.held_out_scores = state["held_out"]
        return optimizer, state

    def _restore_optimizer(self, loaded: tuple[dict[str, Any], dict[str, Any]]) -> None:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True)
        set_optimizer_state_dict(self.objective, self.optimizer, loaded[0], options=options)

    def save(self) -> None:
        """Writes a checkpoint of the current step; every rank takes part, the first one writes."""
        if self.folder is None:
            return
        keep = self.training.loop.keep
        if not keep and self.step == self.training.steps:
            return checkpoint.prune(self.folder, 0)
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights, optimizer = get_state_dict(self.objective, self.optimizer, options=options)
        if parallel.rank() == 0:
            state = {
                "step": self.step,
                "position": list(self.position),
                "seen": self.seen,
                "held_out": self.held_out_scores,
                "torch": torch.__version__,
            }
            tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
            checkpoint.save(self.folder / checkpoint.name(self.step), tensors, optimizer, state)
            checkpoint.prune(self.folder, max(1, keep))

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Takes all steps that are left."""
        training, loop = self.training, self.training.loop
        main = threading.current_thread() is threading.main_thread()
        ends = (signal.SIGTERM, signal.SIGINT) if main else ()
        handlers = {number: signal.signal(number, self._on_signal) for number in ends}
        try:
            pending: _Pending | None = None
            for shares in self._steps():
                scalars = self._step(shares)
                self.step += 1
                # The numbers of a step are read while the device works on the next one, which waits for nothing.
                if pending is not None:
                    self._report(pending)
                pending = self._fetch(scalars, shares)
                last = self.step == training.steps
                saving = last or self.step % loop.save_every == 0 or self.stop_signal is not None
                evaluating = self.held_out is not None and (last or self.step % loop.evaluate_every == 0)
                if saving or evaluating:
                    self._report(pending, evaluate=evaluating)
                    pending = None
                if saving:
                    self.save()
                if self.stop_signal is not None:
                    number = self.stop_signal
                    raise Interrupted(f"stopped by signal {number} after step {self.step}; start again to go on")
        finally:
            self.monitor.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Outcome(self.step, self.row, self.held_out_scores)

    def _on_signal(self, number: int, frame: object) -> None:
        if self.stop_signal == number == signal.SIGINT:
            raise KeyboardInterrupt  # Ctrl-C a second time: at once
        self.stop_signal = number

    def _steps(self) -> Iterator[list[Loaded]]:
        training, loop = self.training, self.training.loop
        if self.step >= training.steps:
            return
        loader = Loader(
            dataset=self.data,
            batch=training.batch,
            seed=training.seed,
            rank=parallel.rank(),
            world=parallel.world(),
            accumulate=loop.accumulate,
            workers=loop.workers,
            buckets=loop.buckets,
            pin=self.device.type == "cuda",
        )
        for shares in loader.steps(self.position):
            if parallel.world() == 1 and all(share.batch is None for share in shares):
                self._name_bad(shares)
                continue
            yield shares
            if self.step >= training.steps:
                return

    def _step(self, shares: list[Loaded]) -> dict[str, Tensor]:
        """One optimiser step."""
        training = self.training
        self.objective.train()
        torch.manual_seed(draw.key(training.seed, "step", self.step, parallel.rank()) & (2**63 - 1))
        for group in self.optimizer.param_groups:
            group["lr"] = training.optimizer.lr * training.optimizer.schedule.factor(self.step / training.steps)
        batches, weight = self._batches(shares)
        scalars: dict[str, Tensor] = {}
        with self._count_flops(shares):
            for i, batch in enumerate(batches):
                last = i + 1 == len(batches)
                with self._no_sync(not last):
                    with self._autocast():
                        out = self.model(batch)
                    (out["loss"] * weight).backward()  # outside, so that float32 has its gradient in float32
                for name, value in out.items():
                    scalars[name] = scalars.get(name, 0.0) + value.detach() * weight
        norm = self._update()
        self.objective.after_step((self.step + 1) / training.steps)
        self.position = shares[-1].source.after
        return {**scalars, "grad_norm": norm}

    def _update(self) -> Tensor:
        """Lets the optimiser step, unless the gradient is not finite. Returns the gradient's norm, before the clip."""
        parameters = [p for p in self.objective.parameters() if p.grad is not None]
        clip = self.training.optimizer.clip
        step = clipped_step_sharded if self.sharded else clipped_step
        norm = step(self.optimizer, parameters, clip)
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _batches(self, shares: list[Loaded]) -> tuple[list[Batch], float]:
        """The good parts of a step on the device, each with the counts of the whole step, and their weight.

        A rank whose items are all bad takes its last good batch again with weight 0, since the others wait for it.
        """
        batches = [share.batch.to(self.device) for share in shares if share.batch is not None]
        weight = 1.0 if batches else 0.0
        if not batches and self.spare is None:
            raise Stopped("every item of this rank's first batch is bad: see bad_items.jsonl")
        if self.spare is not None and not batches:
            batches = [self.spare]
        self.spare = batches[-1]
        counts = [self.objective.counts(batch) for batch in batches]
        names = list(counts[0])
        total = torch.stack([torch.stack([count[name] for count in counts]).sum() for name in names]) * weight
        shared = dict(zip(names, (parallel.total(total) / parallel.world()).unbind(), strict=True))
        for batch in batches:
            batch.counts = shared
        return batches, weight

    def _no_sync(self, skip: bool) -> contextlib.AbstractContextManager[None]:
        from torch.nn.parallel import DistributedDataParallel

        if skip and isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return contextlib.nullcontext()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @contextlib.contextmanager
    def _count_flops(self, shares: list[Loaded]) -> Iterator[None]:
        """Counts the first step's floating-point operations, for the share of the machine's peak that is reached.

        Padding of attention's groups counts; what is computed again would, so there is no such share with recompute.
        """
        loop = self.training.loop
        if not math.isnan(self.flops) or math.isnan(self.peak) or loop.compile or loop.recompute:
            yield
            return
        with flop_counter() as counter:
            yield
        self.flops = counter.get_total_flops() / max(1e-9, sum(share.size for share in shares))

    # --- reading ----------------------------------------------------------------------------------------------------

    def _fetch(self, scalars: dict[str, Tensor], shares: list[Loaded]) -> _Pending:
        """Sends a step's numbers to the host, behind the step and before the next, without waiting for them."""
        size = torch.full((), float(sum(share.size for share in shares)), device=self.device)
        total = parallel.total(torch.stack([*(value.float() for value in scalars.values()), size]))
        numbers = total.to("cpu", non_blocking=True)  # from a GPU into pinned memory
        there = None
        if self.device.type == "cuda":
            there = torch.cuda.Event()
            there.record()
        lr = self.optimizer.param_groups[0]["lr"]
        return _Pending(self.step, list(scalars), numbers, there, shares, lr, time.perf_counter())

    def _report(self, pending: _Pending, evaluate: bool = False) -> None:
        """Reads a step's numbers, evaluates if due, and writes the step's row."""
        if pending.there is not None:
            pending.there.synchronize()
        *numbers, size = pending.numbers.tolist()
        numbers = [number / parallel.world() for number in numbers]
        row: dict[str, Any] = {"step": pending.step, **dict(zip(pending.names, numbers, strict=True))}
        row["lr"] = pending.lr
        rate = self.monitor.rate(size, pending.sent if pending.there is None else time.perf_counter())
        known = {"rate": rate, "mfu": rate * self.flops / self.peak / parallel.world()}
        row |= {name: value for name, value in known.items() if math.isfinite(value)}
        row["time"] = time.time()
        self._name_bad(pending.shares)
        self._watch(row, pending.shares)
        if evaluate:
            self.held_out_scores = self.evaluate()
            row |= {f"held_out_{name}": value for name, value in self.held_out_scores.items()}
        self.row = row
        self.monitor.step(row)
        if self.non_finite >= MOST_NON_FINITE:
            raise Diverged(
                f"{MOST_NON_FINITE} steps in a row are not finite: lower optimizer.lr or set loop.precision=fp32"
            )

    def _name_bad(self, shares: list[Loaded]) -> None:
        """Counts and names bad items; stops the run when they are too many."""
        self.seen += sum(len(share.source.records) for share in shares)
        for share in shares:
            for item, reason in share.bad:
                self.monitor.bad_item(item, reason)
        bad = len(self.monitor.bad)
        if bad > max(10, MOST_BAD * self.seen):
            seen = max(self.seen, bad + len(self.data.epoch(0).records))  # listing has seen them all
            if bad > MOST_BAD * seen:
                raise Stopped(f"{bad} of {seen} items are bad, more than 5 %: see bad_items.jsonl")

    def _watch(self, row: dict[str, Any], shares: list[Loaded]) -> None:
        """Names steps that are not finite, and collapse."""
        if math.isfinite(row["grad_norm"]):
            self.non_finite = 0
        else:
            self.non_finite += 1
            row["skipped_items"] = [self.data.name(record) for share in shares for record in share.source.records]
            self.monitor.note(f"step {row['step']} is not finite and was skipped; its items are in metrics.jsonl")
        if (words := self.alarm.check(row)) is not None:
            row["alarm"] = words
            self.monitor.note(words)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The objective on the held-out split, and how spread its embeddings are. Every rank does all of it."""
        assert self.held_out is not None
        training, loop = self.training, self.training.loop
        share = training.batch / parallel.world() / loop.accumulate
        loader = Loader(dataset=self.held_out, batch=share, seed=training.seed, workers=min(1, loop.workers))
        self.objective.eval()
        sums: dict[str, float] = {}
        weight, pooled = 0.0, []
        for loaded in loader.once(most=loop.evaluate_batches):
            if loaded.batch is None:
                continue
            batch = loaded.batch.to(self.device)
            count = float(next(iter(self.objective.counts(batch).values())))
            with self._autocast():
                scalars = self.objective(batch)
                if not self.sharded:
                    encoded = self.objective.backbone(batch.inputs, batch.lengths, layers=False)
                    pooled.append(encoded.pooled().float().cpu())
            weight += count
            for name, value in scalars.items():
                sums[name] = sums.get(name, 0.0) + float(value) * count
        scores = {name: total / weight for name, total in sums.items()}
        if sum(len(x) for x in pooled) > 1:
            embeddings = torch.cat(pooled)[:2048]
            scores |= {"embedding_std": embedding_std(embeddings), "rank_me": rank_me(embeddings)}
        words = "  ".join(f"{name} {value:.4g}" for name, value in scores.items())
        self.monitor.note(f"step {self.step}, held out: {words}")
        return scores

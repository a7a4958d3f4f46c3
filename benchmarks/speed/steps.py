# SPDX-License-Identifier: Apache-2.0
"""One training step of a base recipe beside transformers' own on the same batch, alternating in one process.

    python -m pluri.benchmarks.speed.steps [bert wav2vec2 byol] [--precision fp32] [--steps 3] [--small]

What is timed is forward, backward and optimiser, from a batch that is already in memory. Rows are of uneven length, as
real ones are; tokens, seconds and images a second count real ones only. Memory is the peak of a process of its own that
does two steps of one side.
"""

import argparse
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ... import recipes
from ...ssl import draw
from ...ssl.monitor import matmul_peak
from ...ssl.objective import Batch
from ...ssl.objectives.byol import ByolConfig
from ...ssl.recipe import Recipe

Step = Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Work:
    """The same work in two libraries."""

    name: str
    unit: str
    size: float  # real units of a step
    ours: Callable[[], Step]  # builds the model
    theirs: Callable[[], Step]


def _optimizer(model: nn.Module, lr: float = 1e-4) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=lr, fused=True)


def _step(loss: Callable[[], Tensor], model: nn.Module, device: torch.device, dtype: torch.dtype) -> Step:
    """A whole training step of either library: the loss under autocast, backward, clipping, AdamW."""
    optimizer = _optimizer(model)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def _keys(count: int) -> Tensor:
    return torch.tensor([draw.key(0, "speed", i) for i in range(count)])


def _ours(recipe: Recipe, batch: Batch, device: torch.device, dtype: torch.dtype) -> Step:
    torch.manual_seed(0)
    objective = recipe.build().to(device).train()
    there = batch.to(device)
    step = _step(lambda: objective(there)["loss"], objective, device, dtype)

    def whole() -> None:
        step()
        objective.after_step(0.5)

    return whole


def bert(device: torch.device, dtype: torch.dtype, small: bool) -> Work:
    """BERT with NSP: 16 rows of at most 128 tokens, lengths beta(1.8, 1.2); transformers' BertForPreTraining."""
    import transformers

    rng = np.random.default_rng(0)
    lengths = torch.tensor(np.clip(np.rint(128 * rng.beta(1.8, 1.2, 16)), 8, 128).astype(np.int64))
    ids = torch.tensor(rng.integers(1000, 30000, (16, int(lengths.max()))))
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    ids = torch.where(real, ids, 0)
    segments = ((torch.arange(ids.shape[1]) >= lengths[:, None] // 2) & real).long()
    is_random = torch.tensor(rng.integers(0, 2, 16))
    recipe = recipes.find("text/bert")
    sizes: dict[str, Any] = {}
    if small:
        sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
        recipe = _shrink(recipe)
    batch = Batch(torch.stack([ids, segments], -1), lengths, _keys(16), {"is_random": is_random})
    masked = real & (torch.tensor(rng.random(ids.shape)) < 0.15)
    inputs = {
        "input_ids": torch.where(masked, 103, ids),
        "token_type_ids": segments,
        "attention_mask": real.long(),
        "labels": torch.where(masked, ids, -100),
        "next_sentence_label": is_random,
    }
    inputs = {name: value.to(device) for name, value in inputs.items()}

    def theirs() -> Step:
        config = transformers.BertConfig(**sizes)
        config._attn_implementation = "sdpa"
        model = transformers.BertForPreTraining(config).train()
        nn.Module.to(model, device)
        return _step(lambda: model(**inputs).loss, model, device, dtype)

    return Work("bert", "tokens", float(lengths.sum()), lambda: _ours(recipe, batch, device, dtype), theirs)


def wav2vec2(device: torch.device, dtype: torch.dtype, small: bool) -> Work:
    """wav2vec 2.0: 4 clips of 4 to 16 s; transformers' Wav2Vec2ForPreTraining with its own masks and negatives."""
    import transformers
    from transformers.models.wav2vec2 import modeling_wav2vec2 as theirs_module

    rng = np.random.default_rng(0)
    seconds = (1 + 3 * rng.beta(2, 1.2, 4)) if small else (4 + 12 * rng.beta(2, 1.2, 4))
    lengths = torch.tensor((seconds * 16000).astype(np.int64))
    wave = torch.tensor(rng.standard_normal((4, int(lengths.max()))).astype(np.float32) * 0.1)
    wave = wave * (torch.arange(wave.shape[1]) < lengths[:, None])
    recipe = recipes.find("speech/wav2vec2")
    config = transformers.Wav2Vec2Config()
    if small:
        recipe = _shrink(recipe)
        config = transformers.Wav2Vec2Config(
            hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024
        )
    attention = (torch.arange(wave.shape[1]) < lengths[:, None]).long()
    there = wave.to(device), attention.to(device)

    def theirs() -> Step:
        model = transformers.Wav2Vec2ForPreTraining(config).train()
        nn.Module.to(model, device)

        def loss() -> Tensor:
            frames = int(model._get_feat_extract_output_lengths(wave.shape[1]))
            real = model._get_feature_vector_attention_mask(frames, attention)  # pyright: ignore[reportArgumentType]
            hidden = theirs_module._compute_mask_indices((4, frames), 0.65, 10, attention_mask=real, min_masks=2)
            sampled = theirs_module._sample_negative_indices((4, frames), 100, mask_time_indices=hidden)
            out = model(
                there[0],
                attention_mask=there[1],
                mask_time_indices=torch.tensor(hidden, device=device),
                sampled_negative_indices=torch.tensor(sampled, device=device),
            )
            return out.loss / int(hidden.sum())

        return _step(loss, model, device, dtype)

    batch = Batch(wave, lengths, _keys(4))
    return Work(
        "wav2vec2", "seconds", float(lengths.sum()) / 16000, lambda: _ours(recipe, batch, device, dtype), theirs
    )


def byol(device: torch.device, dtype: torch.dtype, small: bool) -> Work:
    """BYOL on a ViT-B/16: 8 images of 224 pixels; the same heads and losses around transformers' ViTModel.

    transformers has no BYOL, so its side is the plain method in the loss's own terms: student on both views, teacher on
    both, its exponential average after the step; views are made by the same code on both sides.
    """
    import copy

    import transformers

    recipe = recipes.find("vision/byol")
    side, count = (64, 8) if small else (224, 8)
    config = transformers.ViTConfig()
    if small:
        recipe = _shrink(recipe)
        config = transformers.ViTConfig(
            hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024, image_size=64
        )
    images = torch.randint(
        0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    batch = Batch(images, None, _keys(count))
    there = batch.to(device)
    assert isinstance(recipe.objective, ByolConfig)
    make_views = recipe.objective.views.build()

    def theirs() -> Step:
        backbone = transformers.ViTModel(config, add_pooling_layer=False)
        student = nn.ModuleDict(
            {
                "backbone": backbone,
                "projector": _theirs_mlp(config.hidden_size, 4096, 256),
                "predictor": _theirs_mlp(256, 4096, 256),
            }
        ).to(device)
        teacher = copy.deepcopy(student).requires_grad_(False)

        def loss() -> Tensor:
            total = torch.zeros((), device=device)
            views = [make_views(there.inputs, None, there.keys, view)[0] for view in (0, 1)]
            predicted, target = [], []
            for view in views:
                pooled = student["backbone"](view).last_hidden_state[:, 0]
                predicted.append(student["predictor"](student["projector"](pooled)))
                with torch.no_grad():
                    target.append(teacher["projector"](teacher["backbone"](view).last_hidden_state[:, 0]))
            for one, other in ((0, 1), (1, 0)):
                total = total + (2 - 2 * torch.cosine_similarity(predicted[one].float(), target[other].float())).mean()
            return total

        step = _step(loss, student, device, dtype)

        def whole() -> None:
            step()
            with torch.no_grad():
                for mine, its in zip(teacher.parameters(), student.parameters(), strict=True):
                    mine.mul_(0.99).add_(its, alpha=0.01)

        return whole

    return Work("byol", "images", float(count), lambda: _ours(recipe, batch, device, dtype), theirs)


def _theirs_mlp(before: int, hidden: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(before, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, after, bias=False)
    )


def _shrink(recipe: Recipe) -> Recipe:
    """The same recipe, 4 x 256 and, for images, 64 pixels."""
    from ...cli import override

    words = ["--encoder.depth", "4", "--encoder.width", "256", "--encoder.heads", "4", "--encoder.hidden", "1024"]
    words += ["--front-end.width", "256"]
    if "byol" in str(type(recipe.objective)).lower():
        words += ["--front-end.size", "64", "--objective.views.size", "64", "--encoder.positions.length", "17"]
    return override(recipe, words, "small")


WORKS = {"bert": bert, "wav2vec2": wav2vec2, "byol": byol}


def measure(work: Work, steps: int, warmup: int = 1) -> dict[str, Any]:
    """Seconds of a step on both sides, alternating, and their ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    sides = work.ours(), work.theirs()
    for number in range(steps + warmup):
        for side, step in enumerate(sides):
            start = time.perf_counter()
            step()
            if number >= warmup:
                times[side].append(time.perf_counter() - start)
    ours, theirs = (statistics.median(side) for side in times)
    ratios = [b / a for a, b in zip(*times, strict=True)]
    return {
        "work": work.name,
        "unit": work.unit,
        "ours": work.size / ours,
        "theirs": work.size / theirs,
        "ratio": theirs / ours,
        "spread": [min(ratios), max(ratios)],
        "seconds": [ours, theirs],
    }


def peak_memory(words: argparse.Namespace, name: str, side: str) -> float:
    """GiB at the peak of a fresh process that does two steps of one side."""
    command = [sys.executable, "-m", f"{__package__}.steps", name, "--side", side, "--precision", words.precision]
    done = subprocess.run(command + ["--small"] * words.small, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def _memory_of(work: Work, side: str, device: torch.device) -> float:
    step = work.ours() if side == "ours" else work.theirs()
    for _ in range(2):
        step()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status")
    if status.is_file():
        # Not ru_maxrss: a process that has been started by a larger one reports the larger one's.
        return next(int(line.split()[1]) for line in status.read_text().split("\n") if "VmHWM" in line) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measures and prints one table; with --out also writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", default=list(WORKS), metavar="WORK", help=", ".join(WORKS))
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="4 x 256 models and short inputs")
    parser.add_argument("--side", choices=("ours", "theirs"), help="no times: only this side's peak memory, in GiB")
    parser.add_argument("--out", type=Path)
    words = parser.parse_args()
    if unknown := set(words.works) - set(WORKS):
        parser.error(f"no work {', '.join(unknown)}: there are {', '.join(WORKS)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if words.precision == "bf16" else torch.float32
    if words.side:
        for name in words.works:
            print(_memory_of(WORKS[name](device, dtype, words.small), words.side, device))
        return
    peak = matmul_peak(device, dtype)
    print(f"{device.type}, {torch.get_num_threads()} threads, {words.precision}, matmul peak {peak / 1e9:,.0f} GFLOP/s")
    rows = []
    for name in words.works:
        row = measure(WORKS[name](device, dtype, words.small), words.steps)
        row["memory"] = [peak_memory(words, name, side) for side in ("ours", "theirs")]  # GiB
        row["precision"] = words.precision
        rows.append(row)
        print(
            f"{name:<10}{row['ours']:9.2f} {row['unit']}/s, transformers {row['theirs']:9.2f}: "
            f"ratio {row['ratio']:.2f} ({row['spread'][0]:.2f} to {row['spread'][1]:.2f}); "
            f"memory {row['memory'][0]:.1f} and {row['memory'][1]:.1f} GiB",
            flush=True,
        )
    if words.out is not None:
        words.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

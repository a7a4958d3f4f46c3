# SPDX-License-Identifier: Apache-2.0
"""`pluri bench`: FLOPs as torch counts them, a side in its own process, rows with all that was promised."""

import dataclasses
import json
import sys
import time
from pathlib import Path

import pytest
import torch

from pluri import recipes
from pluri.benchmarks.speed import bench, cost, feed, speech, text, vision, works
from pluri.benchmarks.speed.flops import encoder_flops, extractor_flops, step_flops
from pluri.benchmarks.speed.side import Remote, Setting, Side, Work, full_precision, keys, small
from pluri.cli import override
from pluri.speech.frontend import WaveFrontEndConfig
from pluri.ssl import attention, draw
from pluri.ssl.blocks import EncoderConfig, modern
from pluri.ssl.data import Item, collate
from pluri.ssl.encoder import Encoder
from pluri.ssl.monitor import flop_counter
from pluri.ssl.objective import Batch
from pluri.ssl.objectives.bert import BertConfig
from pluri.ssl.objectives.byol import ByolConfig
from pluri.ssl.objectives.vicreg import VicregConfig
from pluri.ssl.positions import ConvolutionalPositionsConfig
from pluri.vision.augment import ImageViewsConfig
from pluri.vision.frontend import PatchFrontEndConfig
from pluri.vision.recipes import byol, vit

BASE = EncoderConfig(depth=3, width=64, heads=4, hidden=256)


def counted(run):
    with flop_counter() as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "config",
    [BASE, modern(2, 128, 4), dataclasses.replace(BASE, positions=ConvolutionalPositionsConfig(kernel=8, groups=4))],
    ids=["bert", "modern", "convolutional"],
)
def test_an_encoders_flops_are_those_that_torch_counts(config, monkeypatch):
    monkeypatch.setattr(attention, "_PADDING", 0)  # groups of one row: nothing is padded
    encoder = Encoder(config).eval()
    x, lengths = torch.randn(3, 40, config.width), torch.tensor([40, 12, 25])
    found = counted(lambda: encoder(x, lengths, layers=False))
    assert encoder_flops(config, lengths.tolist()) == pytest.approx(found, rel=0.03 if config.width == 64 else 1e-9)
    assert encoder_flops(config, [40], [40]) == encoder_flops(config, [40])
    wanted = counted(lambda: encoder.at(x, lengths, torch.tensor([0, 40, 80])))
    # Of the last block pluri computes queries and their products for all positions; the formula counts what is wanted.
    assert 0.9 * wanted < encoder_flops(config, lengths.tolist(), [1, 1, 1]) < wanted < found


def test_the_extractors_flops_are_those_that_torch_counts():
    config = WaveFrontEndConfig(channels=32, width=16, norm="layer")
    front_end = config.build().eval()
    wave = torch.randn(2, 16000)
    found = counted(lambda: front_end.embed(front_end.units(wave).values))
    assert extractor_flops(config, [16000, 16000]) == pytest.approx(found, rel=0.03)


def test_long_rows_are_counted_as_short_ones_are():
    config = dataclasses.replace(BASE, attention_dropout=0.0)
    encoder = Encoder(config).train()
    for length in (64, 500):  # written out, and torch's kernel for a CPU
        x = torch.randn(1, length, config.width, requires_grad=True)
        found = counted(lambda x=x: encoder(x, layers=False).packed.sum().backward())
        # torch counts five products where its kernel computes one again.
        again = 4.0 * config.width * length**2 * config.depth / 2 if length > 256 else 0.0
        assert 3 * encoder_flops(config, [length]) + again == pytest.approx(found, rel=1e-9)


def _rows(sizes, make):
    items = [Item(make(size)) for size in sizes]
    return collate(items, [draw.key(0, row) for row in range(len(items))], ragged=True)


def _objectives():
    """Small recipes without dropout, a batch of each, and its lengths."""
    still = ["--encoder.dropout", "0", "--encoder.attention-dropout", "0", "--encoder.layer-drop", "0"]
    tokens, samples = [128, 70, 40], [32000, 20000, 48000]
    words = _rows(tokens, lambda size: torch.randint(1000, 30000, (size,)))
    sounds = _rows(samples, lambda size: 0.1 * torch.randn(size))
    for name, batch, lengths in (
        ("text/bert", words, tokens),
        ("speech/wav2vec2", sounds, samples),
        ("speech/mockingjay", sounds, samples),
    ):
        recipe = override(small(recipes.find(name)), still, name)
        if name == "text/bert":
            recipe = dataclasses.replace(recipe, objective=BertConfig(next_sentence=False))
        yield recipe, batch, lengths
    front_end = PatchFrontEndConfig(size=32, patch=4, width=64)
    recipe = dataclasses.replace(byol(), front_end=front_end, encoder=vit(front_end, depth=6, heads=2, hidden=256))
    views = ImageViewsConfig(size=32)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    batch = Batch(images, None, torch.tensor([draw.key(0, row) for row in range(8)]))
    for objective in (
        ByolConfig(views=views, pool="first", hidden=256, projected=64),
        VicregConfig(views=views, pool="first", projected=256, layers=2),
    ):
        yield dataclasses.replace(recipe, objective=objective), batch, [1] * 8


def test_a_steps_flops_are_those_that_torch_counts(monkeypatch):
    monkeypatch.setattr(attention, "_PADDING", 0)  # groups of one row: nothing is padded
    for recipe, batch, lengths in _objectives():
        torch.manual_seed(0)
        objective = recipe.build().train()
        found = counted(lambda objective=objective, batch=batch: objective(batch)["loss"].backward())
        # The formula counts what the mathematics needs: less than is done, never more than rounding makes of masks.
        assert 0.99 < found / step_flops(recipe, lengths) < 1.15, recipe.objective


def test_a_bench_keeps_the_rows_of_other_works(monkeypatch, tmp_path):
    def measure(work, setting):
        if work.name == "bad":
            raise RuntimeError("killed")
        row = bench._head(work, setting)
        numbers = {"ours": 2.0, "theirs": 1.0, "ratio": float(setting.steps), "spread": (1.0, 2.0), "mfu": 0.5}
        return {**row, **numbers, "memory": [1.0, 1.0]}

    def never(setting):
        raise AssertionError("no side is built")

    made = [
        Work(name, "text", "", "tokens", (), never, never, large=name == "big") for name in ("a", "b", "big", "bad")
    ]
    monkeypatch.setattr(works, "WORKS", tuple(made))
    monkeypatch.setattr(bench, "measure", measure)

    def rows():
        found = json.loads((tmp_path / "bench.json").read_text())
        return [(row["work"], row["precision"], row["ratio"]) for row in found]

    bench.main(["a", "--steps", "3", "--out", str(tmp_path)])
    bench.main(["b", "--precision", "fp32", "--steps", "4", "--out", str(tmp_path)])
    assert rows() == [("a", "fp32", 3.0), ("a", "bf16", 3.0), ("b", "fp32", 4.0)]
    bench.main(["a", "--precision", "bf16", "--steps", "5", "--out", str(tmp_path)])
    assert rows() == [("a", "fp32", 3.0), ("b", "fp32", 4.0), ("a", "bf16", 5.0)]
    with pytest.raises(SystemExit) as end:
        bench.main(["--precision", "fp32", "--steps", "6", "--out", str(tmp_path)])
    measured = [("a", "bf16", 5.0), ("a", "fp32", 6.0), ("b", "fp32", 6.0)]
    assert end.value.code == 1 and rows() == [*measured, ("bad", "fp32", None)]
    bench.main(["big", "--precision", "fp32", "--out", str(tmp_path)])
    assert rows()[-1] == ("big", "fp32", 4.0)
    bench.main(["a", "--precision", "fp32", "--compile", "--steps", "7", "--out", str(tmp_path)])
    assert ("a", "fp32", 6.0) in rows() and rows()[-1] == ("a", "fp32", 7.0)  # stand beside each other
    with pytest.raises(SystemExit):
        bench.main(["a", "--steps", "0", "--out", str(tmp_path)])


@pytest.mark.slow
def test_costs_are_written_and_drawn(tmp_path, capsys):
    bench.main(["cost", "--quick", "--out", str(tmp_path)])
    assert "GiB for each 1,000 tokens" in capsys.readouterr().out
    found = json.loads((tmp_path / "cost.json").read_text())
    assert [len(found["curves"][axis]) for axis in ("length", "batch", "depth", "width")] == [2, 2, 2, 1]
    for row in (row for rows in found["curves"].values() for row in rows):
        assert row["rate"] > 0 and 0 < row["mfu"] < 1.2 and 0.1 < row["memory"] < 20
    assert (tmp_path / "cost.png").stat().st_size > 10_000


def test_the_cost_of_a_run_is_that_of_its_steps():
    recipe = recipes.find("text/bert")
    # 6 FLOPs for each token and weight of the blocks, and what attention and the words' scores need besides.
    tokens, blocks = recipe.steps * recipe.batch, 12 * 12 * 768**2
    assert 1.0 < cost.run_flops(recipe) / (6.0 * tokens * blocks) < 1.4
    curve = [{"length": 100, "batch": batch, "memory": 2.0 + 0.3 * batch} for batch in (1, 4, 16)]
    assert cost.tokens_that_fit(curve, 8.0) == pytest.approx((3.0, 2000.0))
    assert cost.tokens_that_fit([{**point, "memory": -point["batch"]} for point in curve], 8.0)[1] == float("inf")


def test_a_side_that_cannot_be_built_says_why():
    remote = Remote("bert_128", "theirs", Setting(torch.device("cpu"), "fp32", True, 1))
    remote.process.kill()
    try:
        with pytest.raises(RuntimeError, match="killed"):
            remote.ready()
            remote.seconds(0)
    finally:
        remote.close()


def test_a_peer_that_is_not_installed_is_named(monkeypatch, tmp_path, capsys):
    work = Work("made_up", "text", "nobody", "tokens", ("no_such_module",), print, print)  # pyright: ignore
    monkeypatch.setattr(works, "WORKS", (work,))
    file = tmp_path / "out" / "bench.json"
    bench.main(["--precision", "fp32", "--out", str(file.parent)])
    printed = capsys.readouterr().out
    assert "not measured: no_such_module not installed" in printed and "`pluri bench input`" in printed
    (row,) = json.loads(file.read_text())
    assert (row["work"], row["peer"], row["precision"]) == ("made_up", "nobody", "fp32")
    assert row["not_measured"] == "no_such_module not installed"
    assert {row[name] for name in ("ours", "theirs", "ratio", "mfu", "memory")} == {None}
    # What was measured before, when the peer was there, stays; of failures the last one does.
    before = {**row, "ratio": 2.0}
    del before["not_measured"], before["compile"]  # rows were without it
    file.write_text(json.dumps([before, row]))
    bench.main(["--precision", "fp32", "--out", str(file.parent)])
    assert json.loads(file.read_text()) == [before, row]
    bench.main(["--quick", "--out", str(file.parent)])
    assert "by name only: made_up (nobody, not installed)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.main(["nothing_like_it", "--out", str(tmp_path / "out")])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert_128", "glue_pairs_longest", "states"])
def test_a_quick_bench_writes_rows_with_all_that_was_promised(name, tmp_path, capsys):
    bench.main([name, "--quick", "--precision", "fp32", "--steps", "2", "--out", str(tmp_path)])
    assert name in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "bench.json").read_text())
    assert {"work", "peer", "precision", "ours", "theirs", "ratio", "mfu", "memory"} <= set(row)
    assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"]) and 0.01 < row["mfu"] < 1.2
    assert row["spread"][0] <= row["ratio"] <= row["spread"][1] * (1 + 1e-9)
    assert all(0.1 < side < 20 for side in row["memory"])


def _remotes(ahead, events):
    """Stands in for `Remote`: notes what is asked of it; the peer takes 2 s a step, pluri 1 s."""

    class Noted:
        def __init__(self, work, side, setting):
            self.side, self.sizes, self.flops, self.ahead = side, [6.0] * setting.steps, [3.0] * setting.steps, 0

        def ready(self):
            self.ahead = ahead if self.side == "theirs" else 0

        def seconds(self, number):
            events.append(self.side)
            return 1.0 if self.side == "ours" else 2.0

        def peak(self):
            return 4.0

        def memory(self):
            return 1.0

        def close(self):
            events.append(f"end of {self.side}")

    return Noted


def test_a_peer_whose_loader_works_ahead_has_ended_before_our_first_step(monkeypatch):
    work = Work("made_up", "text", "nobody", "tokens", (), print, print)  # pyright: ignore
    events = []
    monkeypatch.setattr(bench, "Remote", _remotes(2, events))
    for quick, before in ((False, bench.WARMUP), (True, bench.QUICK_WARMUP)):
        setting = Setting(torch.device("cpu"), "fp32", quick, 3)
        events.clear()
        row = bench.measure(work, setting)
        theirs, ours = ["theirs"] * (before + 2 + 3), ["ours"] * (before + 3)
        assert events[: len(theirs) + 1 + len(ours)] == [*theirs, "end of theirs", *ours]
    assert (row["ratio"], row["mfu"], row["memory"], len(row["seconds"][1])) == (2.0, 0.75, [1.0, 1.0], 3)
    events.clear()
    monkeypatch.setattr(bench, "Remote", _remotes(0, events))
    assert bench.measure(work, setting)["ratio"] == 2.0
    assert events[:8] == ["ours", "theirs", "theirs", "ours"] * 2


def test_a_loader_with_workers_is_measured_beyond_its_store():
    taken = []
    side = vision.fed(taken.append, rows=10, workers=8, steps=3)
    side.step(1)
    assert taken == [1] * 8 and side.sizes == [80.0] * 3  # as many batches as come at about the same time
    unmeasured = sum(number < 0 for which, number in bench.turns(side.ahead, 3) if which == 1)
    assert unmeasured * 8 > 8 * vision.PREFETCH
    assert vision.fed(taken.append, rows=10, workers=0, steps=3)[1:] == ([10.0] * 3, [], 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the peer's
def test_lightly_takes_its_steps_from_workers_where_there_are_any(monkeypatch):
    pytest.importorskip("lightly")
    pytest.importorskip("timm")
    monkeypatch.setattr(vision, "WORKERS", {"cpu": 2})
    side = vision.byol_lightly(Setting(torch.device("cpu"), "fp32", True, 2))
    assert side.sizes == [64.0, 64.0] and side.ahead == vision.PREFETCH
    side.step(0)


def test_a_side_ends_with_its_workers(monkeypatch, tmp_path):
    script = tmp_path / "side"
    script.write_text('#!/bin/sh\nsleep 60 &\necho "[[$!], [], 0]"\nwait\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    remote = Remote("", "theirs", Setting(torch.device("cpu"), "fp32", True, 1))
    remote.ready()
    (worker,) = remote.sizes
    remote.close()
    remote.close()
    status = Path(f"/proc/{worker}/status")
    deadline = time.monotonic() + 3  # seconds
    while status.is_file() and "zombie" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_keys_of_a_batch_are_those_of_its_rows():
    assert keys(3, 4).tolist() == [draw.key(0, 3, row) for row in range(4)]


def test_fp32_is_no_tf32():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        full_precision()
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("compiles", [False, True])
def test_blocks_are_compiled_where_that_is_asked_for(compiles, monkeypatch):
    called = []
    monkeypatch.setattr(Encoder, "compile_blocks", lambda encoder: called.append(encoder))
    setting = Setting(torch.device("cpu"), "fp32", True, 1, compiles)
    sides: list[Side] = [speech.states_ours(setting), vision.byol_ours(setting)]
    sides.append(text.ours(setting, longest=16, rows=2, large=False))
    assert len(called) == len(sides) * compiles
    remote = Remote("no_such_work", "ours", setting)
    remote.close()
    assert ("--compile" in remote.process.args) == compiles  # pyright: ignore


def test_costs_on_a_gpu_grow_until_memory_ends_and_have_one_peak(monkeypatch, tmp_path):
    asked = []

    def measure(name, setting):
        length, batch, *_ = (int(part) for part in name.split("-")[1:])
        asked.append(batch)
        if length * batch > 2000 * 128:
            raise RuntimeError("out of memory")
        return {"speed": 2.0, "peak": 4.0 if batch == 8 else 3.0, "rate": 1.0, "memory": 1.0}

    monkeypatch.setattr(cost, "measure", measure)
    setting = Setting(torch.device("cuda"), "bf16", False, 3)
    found = cost._curves(setting, {}, tmp_path / "cost.json")
    assert [point["batch"] for point in found["batch"]] == [8, 32, 128, 512, 1024] and asked.count(2048) == 1
    assert {point["batch"] for point in found["width"]} == {128}
    content = json.loads((tmp_path / "cost.json").read_text())
    assert content["peak"] == 4.0 and {point["mfu"] for axis in content["curves"].values() for point in axis} == {0.5}
    found = cost._curves(dataclasses.replace(setting, device=torch.device("cpu")), {}, tmp_path / "cost.json")
    assert [point["batch"] for point in found["batch"]] == [1, 4, 16, 64]


def test_the_loader_is_measured_beside_the_step(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(feed, "SECONDS", 0.1)
    monkeypatch.setattr(cost, "RUNS", {"vision/byol": "byol"})
    monkeypatch.setattr(cost, "measure", lambda name, setting: {"speed": 1e12})
    bench.main(["input", "--device", "cpu", "--out", str(tmp_path)])
    (row,) = json.loads((tmp_path / "input.json").read_text())["rows"]
    recipe = recipes.find("vision/byol")
    assert row["unit"] == "images" and row["workers"] == recipe.loop.workers and row["loader"] > 1
    assert row["step"] * cost.run_flops(recipe) == pytest.approx(1e12 * recipe.steps * recipe.batch)
    assert f"{row['step']:,.1f}" in capsys.readouterr().out


@pytest.mark.slow
def test_every_base_recipes_loader_is_measured(tmp_path):
    bench.main(["input", "--quick", "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "input.json").read_text())["rows"]
    assert [row["recipe"] for row in rows] == list(cost.RUNS)
    assert all(row["loader"] > 1 and row["step"] is None for row in rows)

# SPDX-License-Identifier: Apache-2.0
"""`pluri bench`: FLOPs as torch counts them, a side in its own process, rows with all that was promised."""

import dataclasses
import json

import pytest
import torch

from pluri import recipes
from pluri.benchmarks.speed import bench, cost, works
from pluri.benchmarks.speed.flops import encoder_flops, extractor_flops, step_flops
from pluri.benchmarks.speed.side import Remote, Setting, Work, small
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
        row = {"work": work.name, "peer": "", "precision": setting.precision, "device": "cpu", "quick": setting.small}
        numbers = {"ours": 2.0, "theirs": 1.0, "ratio": float(setting.steps), "spread": (1.0, 2.0), "mfu": 0.5}
        return {**row, **numbers, "unit": "tokens", "memory": [1.0, 1.0]}

    def never(setting):
        raise AssertionError("no side is built")

    made = [
        Work(name, "text", "", "tokens", (), never, never, large=name == "big") for name in ("a", "b", "big", "bad")
    ]
    monkeypatch.setattr(works, "WORKS", tuple(made))
    monkeypatch.setattr(bench, "measure", measure)

    def rows():
        return [
            (row["work"], row["precision"], row["ratio"]) for row in json.loads((tmp_path / "bench.json").read_text())
        ]

    bench.main(["a", "--steps", "3", "--out", str(tmp_path)])
    bench.main(["b", "--precision", "fp32", "--steps", "4", "--out", str(tmp_path)])
    assert rows() == [("a", "fp32", 3.0), ("a", "bf16", 3.0), ("b", "fp32", 4.0)]
    bench.main(["a", "--precision", "bf16", "--steps", "5", "--out", str(tmp_path)])
    assert rows() == [("a", "fp32", 3.0), ("b", "fp32", 4.0), ("a", "bf16", 5.0)]
    with pytest.raises(SystemExit) as end:
        bench.main(["--precision", "fp32", "--steps", "6", "--out", str(tmp_path)])
    assert end.value.code == 1 and rows() == [("a", "bf16", 5.0), ("a", "fp32", 6.0), ("b", "fp32", 6.0)]
    bench.main(["big", "--precision", "fp32", "--out", str(tmp_path)])
    assert rows()[-1] == ("big", "fp32", 4.0)
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
    bench.main(["--out", str(tmp_path / "out")])
    assert "not measured: no_such_module not installed" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == []
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

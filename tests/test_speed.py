# SPDX-License-Identifier: Apache-2.0
"""`pluri bench`: FLOPs as torch counts them, a side in its own process, rows with all that was promised."""

import dataclasses
import json

import pytest
import torch

from pluri.benchmarks.speed import bench, works
from pluri.benchmarks.speed.flops import encoder_flops, extractor_flops
from pluri.benchmarks.speed.side import Remote, Setting, Work
from pluri.speech.frontend import WaveFrontEndConfig
from pluri.ssl import attention
from pluri.ssl.blocks import EncoderConfig, modern
from pluri.ssl.encoder import Encoder
from pluri.ssl.monitor import flop_counter
from pluri.ssl.positions import ConvolutionalPositionsConfig

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


def test_a_side_that_cannot_be_built_says_why():
    remote = Remote("bert_128", "theirs", Setting(torch.device("cpu"), "fp32", True, 1))
    remote.process.kill()
    try:
        with pytest.raises(RuntimeError, match="ended with"):
            remote.ready()
            remote.seconds(0)
    finally:
        remote.close()


def test_a_peer_that_is_not_installed_is_named(monkeypatch, tmp_path, capsys):
    work = Work("made_up", "text", "nobody", "tokens", ("no_such_module",), print, print)  # pyright: ignore
    monkeypatch.setattr(works, "WORKS", (work,))
    bench.main(["--out", str(tmp_path / "out")])
    assert "not measured: no_such_module not installed" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.main(["nothing_like_it", "--out", str(tmp_path / "out")])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert_128", "states"])
def test_a_quick_bench_writes_rows_with_all_that_was_promised(name, tmp_path, capsys):
    bench.main([name, "--quick", "--precision", "fp32", "--steps", "1", "--out", str(tmp_path)])
    assert name in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "bench.json").read_text())
    assert {"work", "peer", "precision", "ours", "theirs", "ratio", "mfu", "memory"} <= set(row)
    assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"]) and 0.01 < row["mfu"] < 1.2
    assert all(0.1 < side < 20 for side in row["memory"])

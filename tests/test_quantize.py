# SPDX-License-Identifier: Apache-2.0
"""The Gumbel quantiser against transformers', and its beginning, its draws and its temperature as published."""

import pytest
import torch

from pluri.ssl import draw
from pluri.ssl.quantize import QuantizerConfig

SMALL = QuantizerConfig(groups=2, codes=6, width=16)


def test_the_quantiser_in_training_equals_that_of_transformers(monkeypatch):
    modeling = pytest.importorskip("transformers.models.wav2vec2.modeling_wav2vec2")
    torch.manual_seed(0)
    theirs = modeling.Wav2Vec2GumbelVectorQuantizer(
        modeling.Wav2Vec2Config(
            conv_dim=(16,) * 7, num_codevector_groups=2, num_codevectors_per_group=6, codevector_dim=16
        )
    ).train()
    theirs.temperature = 1.3
    torch.nn.init.normal_(theirs.weight_proj.weight)
    torch.nn.init.normal_(theirs.codevectors)
    ours = SMALL.build(16).train()
    ours.temperature.fill_(1.3)
    pairs = [(ours.score.weight, theirs.weight_proj.weight), (ours.score.bias, theirs.weight_proj.bias)]
    pairs += [(ours.codebook, theirs.codevectors)]
    x, again = (torch.randn(30, 16, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    with torch.no_grad():
        for mine, its in pairs:
            mine.copy_(its.view_as(mine))
    keys, real = torch.arange(30) * 7 + 1, torch.arange(30) % 4 > 0
    # torch's gumbel_softmax is the logarithm of exponential numbers: it is given ours.
    noise = -draw.uniform(keys, 12).log()
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self: self.copy_(noise.view_as(self)))
    vectors, perplexity = theirs(x[None], mask_time_indices=real[None])
    out = ours(again, keys, real)
    assert (out.vectors - vectors[0]).abs().max() < 1e-5
    assert out.perplexity.item() == pytest.approx(perplexity.item(), rel=1e-5)
    pull = torch.randn(30, 16)
    ((vectors[0] * pull).sum() + perplexity).backward()
    ((out.vectors * pull).sum() + out.perplexity).backward()
    for mine, its in [*pairs, (again, x)]:
        assert mine.grad is not None and its.grad is not None
        assert (mine.grad - its.grad.view_as(mine)).norm() <= 1e-4 * its.grad.norm() > 0


def test_codes_are_looked_up_in_float32_under_autocast():
    ours = SMALL.build(16).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = ours(torch.randn(30, 16), torch.arange(30), torch.ones(30, dtype=torch.bool))
    wanted = torch.cat([ours.codebook[0][out.codes % 6], ours.codebook[1][out.codes // 6]], dim=1)
    assert torch.equal(out.vectors, wanted)


def test_the_quantiser_begins_as_published():
    ours = QuantizerConfig().build(512)
    assert ours.score.weight.std().item() == pytest.approx(1.0, rel=0.02) and not ours.score.bias.any()
    assert ours.codebook.min() >= 0 and ours.codebook.max() < 1
    assert ours.codebook.mean().item() == pytest.approx(0.5, abs=0.01)


def test_the_quantiser_draws_by_gumbel_and_anneals():
    config = QuantizerConfig(groups=2, codes=8, width=4)
    quantizer = config.build(3).train()
    torch.manual_seed(0)
    x = torch.randn(1, 3).expand(20000, 3)
    keys = torch.arange(20000) * 7 + 1
    real = torch.ones(20000, dtype=torch.bool)
    with torch.no_grad():
        quantizer.score.weight.mul_(0.5)
        out = quantizer(x, keys, real)
        wanted = quantizer.score(x[0]).view(2, 8).softmax(-1)
    first = torch.bincount(out.codes % 8, minlength=8) / 20000
    second = torch.bincount(out.codes // 8, minlength=8) / 20000
    assert (first - wanted[0]).abs().max() < 0.02 and (second - wanted[1]).abs().max() < 0.02
    for progress, temperature in ((0.0, 2.0), (0.345, 1.0), (0.69, 0.5), (1.0, 0.5)):
        quantizer.anneal(progress)
        assert quantizer.temperature.item() == pytest.approx(temperature, rel=1e-4)
    # The published decay of 0.999995 a step, over 400k steps.
    quantizer.anneal(100_000 / 400_000)
    assert quantizer.temperature.item() == pytest.approx(2.0 * 0.999995**100_000, rel=0.01)
    assert quantizer.eval()(x, keys, real).hard_perplexity.item() == pytest.approx(2.0, rel=1e-3)

# SPDX-License-Identifier: Apache-2.0
"""The extractor of latents from waveforms: that of fairseq, written as plain convolutions on one row at a time."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pluri.speech.frontend import KERNELS, STRIDES, WaveFrontEndConfig

KINDS = {
    "base": {"norm": "group", "bias": False, "normalize": False},
    "large": {"norm": "layer", "bias": True, "normalize": True},
    "group_with_bias": {"norm": "group", "bias": True, "normalize": True},
}
UNEVEN = torch.tensor([16000, 400, 9001, 719, 720, 721, 15999, 401, 399, 160, 8000])


def extractor(kind, **settings):
    torch.manual_seed(0)
    config = WaveFrontEndConfig(
        channels=16, width=24, dropout=0.0, **{"gradient_scale": 1.0, **KINDS[kind], **settings}
    )
    front_end = config.build()
    with torch.no_grad():
        for parameter in front_end.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return front_end


class Plain(nn.Module):
    """The published extractor on one row (1, S), as fairseq writes it: Conv1d, GroupNorm or LayerNorm, GELU."""

    def __init__(self, front_end):
        super().__init__()
        config, channels = front_end.config, front_end.config.channels
        self.normalize = config.normalize
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for i, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
            self.convolutions.append(nn.Conv1d(channels if i else 1, channels, kernel, stride, bias=config.bias))
            norm = nn.LayerNorm(channels) if config.norm == "layer" else nn.Identity()
            self.norms.append(nn.GroupNorm(channels, channels) if config.norm == "group" and i == 0 else norm)
        self.last, self.project = nn.LayerNorm(channels), nn.Linear(channels, config.width)
        with torch.no_grad():
            for mine, its in self.pairs(front_end):
                mine.copy_(its)

    def pairs(self, front_end):
        """Our parameters beside those of the front end; every one of them must be there."""
        out = []
        for mine, its in ((self.last, front_end.norm), (self.project, front_end.project)):
            out += [(mine.weight, its.weight), (mine.bias, its.bias)]
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            its = front_end.convolutions[i]
            out += [(mine, its.get_parameter(name)) for name, mine in convolution.named_parameters()]
            if isinstance(norm, nn.GroupNorm):
                out += [(norm.weight, front_end.group_weight), (norm.bias, front_end.group_bias)]
            else:
                out += [(mine, its.norm.get_parameter(name)) for name, mine in norm.named_parameters()]
        assert len(out) == len(list(front_end.parameters())) == len(list(self.parameters()))
        return out

    def forward(self, wave):
        if self.normalize:
            wave = F.layer_norm(wave, wave.shape[1:], eps=1e-7)
        x = F.pad(wave, (0, max(0, 400 - wave.shape[1])))[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(x)
            x = F.gelu(norm(x.transpose(1, 2)).transpose(1, 2) if isinstance(norm, nn.LayerNorm) else norm(x))
        x = self.last(x.transpose(1, 2))
        return x, self.project(x)


def gradient(x):
    assert x.grad is not None
    return x.grad.clone()


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_of_an_uneven_batch_equals_plain_convolutions_on_it_alone(kind, waves):
    front_end = extractor(kind).eval()
    plain = Plain(front_end)
    x = waves(UNEVEN)
    with torch.inference_mode():
        units = front_end.units(x, UNEVEN)
        vectors = front_end.embed(units.values)
        assert units.lengths is not None and torch.equal(units.lengths, front_end.unit_lengths(x, UNEVEN))
        assert units.values.shape == (len(UNEVEN), 49, 16)
        for i, length in enumerate(UNEVEN.tolist()):
            latents, projected = plain(x[i : i + 1, :length])
            count = latents.shape[1]
            assert int(units.lengths[i]) == count and not units.values[i, count:].any()
            assert (units.values[i, :count] - latents[0]).abs().max() <= 2e-5
            assert (vectors[i, :count] - projected[0]).abs().max() <= 2e-5
            alone = front_end.units(x[i : i + 1, :length])
            assert (alone.values[0] - units.values[i, :count]).abs().max() <= 1e-5


def test_a_row_of_one_sample_gives_one_latent():
    for kind in KINDS:
        units = extractor(kind).eval().units(torch.tensor([[0.5]]))
        assert units.values.shape == (1, 1, 16) and torch.isfinite(units.values).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [9001, 400, 250])
def test_gradients_equal_those_of_plain_convolutions_with_the_same_weights(kind, length, waves):
    front_end = extractor(kind)
    plain = Plain(front_end)
    wave = waves(UNEVEN)[:1, :length].requires_grad_()
    again = wave.detach().clone().requires_grad_()
    wanted = plain(wave)[1]
    pull = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    (wanted * pull).sum().backward()
    (front_end.embed(front_end.units(again).values) * pull).sum().backward()
    pairs = [(gradient(mine), gradient(its)) for mine, its in plain.pairs(front_end)]
    if not KINDS[kind]["normalize"]:
        pairs.append((gradient(wave), gradient(again)))
    largest = max(float(mine.norm()) for mine, _ in pairs)
    for mine, its in pairs:
        if mine.norm() < 1e-6 * largest:  # a bias before group norm moves nothing; its gradient is rounding
            assert its.norm() < 1e-6 * largest
        else:
            assert (mine - its).norm() <= 1e-4 * mine.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_an_uneven_batch_are_the_sum_of_those_of_its_rows(kind, waves):
    front_end = extractor(kind)
    x = waves(UNEVEN)
    pull = torch.randn(len(UNEVEN), 49, 24, generator=torch.Generator().manual_seed(1))
    units = front_end.units(x, UNEVEN)
    assert units.lengths is not None
    real = torch.arange(49) < units.lengths[:, None]
    (front_end.embed(units.values) * pull * real[..., None]).sum().backward()
    batch = [gradient(parameter) for parameter in front_end.parameters()]
    front_end.zero_grad()
    for i, length in enumerate(UNEVEN.tolist()):
        vectors = front_end.embed(front_end.units(x[i : i + 1, :length]).values)
        (vectors * pull[i, : vectors.shape[1]]).sum().backward()
    largest = max(float(its.norm()) for its in batch)
    for parameter, its in zip(front_end.parameters(), batch, strict=True):
        assert (gradient(parameter) - its).norm() <= 1e-4 * max(float(its.norm()), 1e-3 * largest)


def test_the_extractor_gets_the_share_of_its_gradient_that_is_set_and_only_in_training(waves):
    def gradients(scale, training):
        front_end = extractor("base", gradient_scale=scale).train(training)
        front_end.embed(front_end.units(waves(UNEVEN), UNEVEN).values).square().sum().backward()
        return {name: gradient(parameter) for name, parameter in front_end.named_parameters()}

    for training in (True, False):
        scaled = gradients(0.1, training)
        for name, whole in gradients(1.0, training).items():
            share = 0.1 if training and name.startswith(("convolutions", "group")) else 1.0
            assert torch.allclose(scaled[name], share * whole, rtol=1e-4, atol=1e-6 * whole.abs().max().item()), name


def test_the_energy_is_the_mean_square_of_the_latents_before_their_norm(waves):
    front_end = extractor("base")
    plain = Plain(front_end)
    raw = []
    plain.last.register_forward_pre_hook(lambda _, inputs: raw.append(inputs[0].flatten()))
    x = waves(UNEVEN)
    for i, length in enumerate(UNEVEN.tolist()):
        plain(x[i : i + 1, :length])
    energy = front_end.units(x, UNEVEN).energy
    assert energy is not None and energy.item() == pytest.approx(torch.cat(raw).square().mean().item(), rel=1e-5)
    assert front_end.eval().units(x, UNEVEN).energy is None

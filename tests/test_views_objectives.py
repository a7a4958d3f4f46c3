# SPDX-License-Identifier: Apache-2.0
"""BYOL and VICReg against slow loops written from the papers."""

import copy
import math

import pytest
import torch

from pluri.speech.recipes import vicreg_tiny as speech_vicreg_tiny
from pluri.ssl import draw
from pluri.ssl.objective import Batch, BatchNorm, Views, cosine_decay, two_views
from pluri.ssl.objectives.byol import ByolConfig, spread
from pluri.ssl.objectives.vicreg import Vicreg, VicregConfig, vicreg_terms
from pluri.vision.augment import small_views
from pluri.vision.recipes import byol_tiny


def batch(n=6):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Batch(images, None, torch.tensor([draw.key(0, i) for i in range(n)]))


def slow_vicreg(z, other, variance_factor):
    """Bardes et al. 2022, equations 1 to 6, number by number in float64."""
    n, d = z.shape
    z, other = z.double(), other.double()
    invariance = sum(((z[i] - other[i]) ** 2).sum() for i in range(n)) / n
    variance = covariance = 0.0
    for x in (z, other):
        mean = sum(x[i] for i in range(n)) / n
        for j in range(d):
            deviation = math.sqrt(sum((x[i, j] - mean[j]) ** 2 for i in range(n)) / (n - 1) + 1e-4)
            variance += max(0.0, 1.0 - deviation) / d
            for k in range(d):
                if k != j:
                    c = sum((x[i, j] - mean[j]) * (x[i, k] - mean[k]) for i in range(n)) / (n - 1)
                    covariance += float(c) ** 2 / d
    # The official code averages squared differences over both axes; the paper sums over the dimension.
    return 25.0 * invariance / d + 25.0 * variance_factor * variance + covariance


@pytest.mark.parametrize("convention, factor", [("code", 0.5), ("paper", 1.0)])
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_vicreg_equals_the_slow_loop(convention, factor, scale):
    torch.manual_seed(0)
    z, other = scale * torch.randn(2, 7, 5)
    terms = vicreg_terms(z, other)
    weight = {"code": 0.5, "paper": 1.0}[convention]
    loss = 25.0 * terms["invariance"] + 25.0 * weight * terms["variance"] + terms["covariance"]
    assert loss.item() == pytest.approx(float(slow_vicreg(z, other, factor)), rel=1e-5)
    config = VicregConfig(views=small_views(), projected=16, variance=convention)
    ours = config.build(byol_tiny().backbone())
    out = ours(batch())
    parts = 25.0 * out["invariance"] + 25.0 * weight * out["variance"] + out["covariance"]
    assert out["loss"].item() == pytest.approx(parts.item(), rel=1e-6)


def test_vicregs_figures_are_those_of_its_two_views():
    torch.manual_seed(0)
    ours = VicregConfig(views=small_views(), projected=16).build(byol_tiny().backbone())
    data = batch()
    first, second = (
        ours.projector(ours.backbone(ours.views(data.inputs, None, data.keys, view)[0]).x.mean(1)) for view in (0, 1)
    )
    wanted = {**vicreg_terms(first, second), "embedding_std": spread(first)}
    out = ours(data)
    assert set(out) == {*wanted, "loss"} and out["invariance"] > 0
    for name, value in wanted.items():
        assert out[name].item() == pytest.approx(value.item(), rel=1e-5), name
    layers = [layer for layer in ours.projector if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [16] * 3


class Pieces(Views):
    """View 0 is a row's first half, view 1 its first third."""

    def __call__(self, inputs, lengths, keys, view):
        assert lengths is not None
        lengths = lengths // (2 + view)
        return inputs[:, : int(lengths.max())], lengths


def test_views_of_two_lengths_go_through_at_once_as_they_would_alone(monkeypatch):
    torch.manual_seed(0)
    lengths = torch.tensor([16000, 9001, 31000])
    waves = torch.randn(3, 31000) * (torch.arange(31000) < lengths[:, None])
    data = Batch(waves, lengths, torch.arange(3))
    both, real = two_views(Pieces(), data)
    assert both.shape == (6, 15500) and real is not None and real.tolist() == [8000, 4500, 15500, 5333, 3000, 10333]
    ours = speech_vicreg_tiny().build().train()
    assert isinstance(ours, Vicreg)
    monkeypatch.setattr(ours, "views", Pieces())
    pooled = [ours.backbone.pooled(*Pieces()(waves, lengths, data.keys, view), "mean") for view in (0, 1)]
    alone = [ours.projector(one) for one in pooled]
    wanted = vicreg_terms(alone[0], alone[1])
    out = ours(data)
    for name, value in wanted.items():
        assert out[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_vicreg_stays_in_float32_under_autocast():
    torch.manual_seed(0)
    z = 1e-2 * torch.randn(64, 32)
    other = z + 1e-4 * torch.randn(64, 32)
    exact = vicreg_terms(z, other)["invariance"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(vicreg_terms(z, other)["invariance"], exact)


def test_one_item_is_refused_by_name():
    with pytest.raises(ValueError, match="at least two items"):
        vicreg_terms(torch.randn(1, 4), torch.randn(1, 4))


def through(mlp, x):
    """Linear, batch norm in training from its definition, ReLU, linear."""
    first, norm, _, last = mlp
    x = first(x)
    x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() * norm.weight + norm.bias
    return last(x.clamp(min=0))


def slow_byol(ours, data):
    """Grill et al. 2020, section 3.1 and equation 2, item by item."""
    views = [ours.views(data.inputs, None, data.keys, view)[0] for view in (0, 1)]

    def project(backbone, projector, x):
        return through(projector, backbone(x).x.mean(1))

    total = 0.0
    for one, other in ((0, 1), (1, 0)):
        z = project(ours.backbone, ours.projector, views[one])
        q = through(ours.predictor, z)
        backbone, projector = ours.teacher.model.children()
        target = project(backbone, projector, views[other])
        for i in range(len(q)):
            a, b = q[i] / q[i].norm(), target[i] / target[i].norm()
            total += ((a - b) ** 2).sum() / len(q)
    return total


def test_byol_equals_the_slow_loop_and_its_teacher_follows():
    torch.manual_seed(0)
    ours = ByolConfig(views=small_views(), hidden=64, projected=16).build(byol_tiny().backbone())
    with torch.no_grad():  # a teacher that differs
        for parameter in ours.teacher.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    ours.train()
    data = batch()
    loss = ours(data)["loss"]
    with torch.no_grad():
        assert loss.item() == pytest.approx(float(slow_byol(ours, data)), rel=1e-4)
    loss.backward()
    assert all(parameter.grad is None for parameter in ours.teacher.parameters())

    before = [parameter.clone() for parameter in ours.teacher.parameters()]
    ours.after_step(0.25)
    student = [*ours.backbone.parameters(), *ours.projector.parameters()]
    decay = 1 - (1 - 0.996) * (math.cos(math.pi * 0.25) + 1) / 2
    for old, new, its in zip(before, ours.teacher.parameters(), student, strict=True):
        assert torch.allclose(new, decay * old + (1 - decay) * its, atol=1e-7)


def test_the_teachers_decay_runs_from_its_start_to_one():
    assert cosine_decay(0.996, 0.0) == pytest.approx(0.996)
    assert cosine_decay(0.996, 0.5) == pytest.approx(0.998)
    assert cosine_decay(0.996, 1.0) == 1.0


def test_a_new_teacher_equals_its_student_and_is_independent_of_it():
    torch.manual_seed(0)
    ours = ByolConfig(views=small_views(), hidden=32, projected=8).build(byol_tiny().backbone())
    state = copy.deepcopy(ours.teacher.state_dict())
    with torch.no_grad():
        for parameter in ours.backbone.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, ours.teacher.state_dict()[name]) for name, value in state.items())


def test_spread_tells_collapse_from_isotropy():
    torch.manual_seed(0)
    assert spread(torch.randn(4000, 64)).item() == pytest.approx(1.0, abs=0.02)
    assert spread(torch.randn(1, 64) + 1e-3 * torch.randn(4000, 64)).item() < 0.01


def test_our_batch_norm_is_torchs():
    torch.manual_seed(0)
    ours, theirs = BatchNorm(5), torch.nn.BatchNorm1d(5)
    x = torch.randn(9, 5)
    assert torch.allclose(ours(x), theirs(x))
    assert theirs.running_var is not None and torch.allclose(ours.running_var, theirs.running_var)
    assert torch.allclose(ours.eval()(x), theirs.eval()(x))

# SPDX-License-Identifier: Apache-2.0
"""The encoder: padding never matters, a causal one sees no future, layers are the layers."""

import dataclasses

import pytest
import torch

from pluri import recipes
from pluri.ssl import positions
from pluri.ssl.blocks import EncoderConfig, modern
from pluri.ssl.encoder import Encoder

LENGTHS = torch.tensor([17, 1, 9, 17, 4])
SMALL = EncoderConfig(depth=3, width=48, heads=4, hidden=96, norm_eps=1e-6, dropout=0.0, attention_dropout=0.0)
KINDS = {
    "none": positions.NoPositionsConfig(),
    "learned": positions.LearnedPositionsConfig(length=32),
    "sinusoidal": positions.SinusoidalPositionsConfig(length=32),
    "convolutional": positions.ConvolutionalPositionsConfig(kernel=6, groups=4),
    "convolutional_odd": positions.ConvolutionalPositionsConfig(kernel=5, groups=4),
    "rotary": positions.RotaryPositionsConfig(),
}


def build(config, seed=0):
    torch.manual_seed(seed)
    encoder = Encoder(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder


def rows(width=48):
    return torch.randn(5, 20, width, generator=torch.Generator().manual_seed(1))


VARIANTS = {
    "post_norm": {},
    "pre_norm": {"block": "pre_norm"},
    "rms": {"block": "pre_norm", "norm": "rms"},
    "gated": {"mlp": "geglu"},
    "tanh": {"mlp": "gelu_tanh"},
    "no_bias": {"bias": False},
    "causal": {"causal": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_item_alone_equals_the_item_in_a_padded_batch(kind, variant):
    config = dataclasses.replace(SMALL, positions=KINDS[kind], **VARIANTS[variant])
    if config.causal and kind.startswith("convolutional"):
        with pytest.raises(ValueError, match="look ahead"):
            build(config)
        return
    encoder = build(config)
    x = rows()
    with torch.inference_mode():
        batch = encoder(x, LENGTHS)
        spoiled = x.clone()
        for i, length in enumerate(LENGTHS.tolist()):
            spoiled[i, length:] = float("nan")
        again = encoder(spoiled, LENGTHS)
        for i, length in enumerate(LENGTHS.tolist()):
            alone = encoder(x[i : i + 1, :length])
            for mine, its, other in zip(alone.layers, batch.layers, again.layers, strict=True):
                assert (mine[0] - its[i, :length]).abs().max() <= 1e-5
                assert (its - other).abs().max() <= 1e-5
            assert not batch.x[i, length:].any()
            assert torch.allclose(batch.pooled()[i], alone.x[0].mean(0), atol=1e-5)
            assert torch.allclose(batch.pooled("first")[i], alone.x[0, 0], atol=1e-5)


@pytest.mark.parametrize("kind", ["none", "learned", "sinusoidal", "rotary"])
def test_a_causal_encoder_sees_no_future_and_another_does(kind):
    for causal in (True, False):
        encoder = build(dataclasses.replace(SMALL, positions=KINDS[kind], causal=causal))
        x = rows()
        changed = x.clone()
        changed[:, 8:] = rows().flip(0)[:, 8:]
        with torch.inference_mode():
            before, after = encoder(x).x[:, :8], encoder(changed).x[:, :8]
        assert torch.allclose(before, after, atol=1e-6) == causal


def test_positions_tell_a_row_from_its_reverse_and_none_does_not():
    x = rows()
    for kind, config in KINDS.items():
        encoder = build(dataclasses.replace(SMALL, positions=config))
        with torch.inference_mode():
            same = torch.allclose(encoder(x).x, encoder(x.flip(1)).x.flip(1), atol=1e-4)
        assert same == (kind == "none"), kind


def test_sinusoidal_positions_are_the_papers():
    built = positions.SinusoidalPositionsConfig(length=50).build(16, 4)
    assert isinstance(built, positions.SinusoidalPositions)
    table = built.table
    for place in (0, 1, 49):
        for i in range(8):
            angle = place / 10_000 ** (2 * i / 16)
            assert table[place, 2 * i].item() == pytest.approx(torch.tensor(angle).sin().item(), abs=1e-6)
            assert table[place, 2 * i + 1].item() == pytest.approx(torch.tensor(angle).cos().item(), abs=1e-6)


def test_rotary_positions_equal_those_of_transformers():
    modeling = pytest.importorskip("transformers.models.llama.modeling_llama")
    seen = {}

    def attend(query, key, value):
        seen["query"], seen["key"] = query, key
        return value

    query, key = torch.randn(2, 21, 3, 8, generator=torch.Generator().manual_seed(0))
    place = torch.arange(21)
    rotary = positions.RotaryPositionsConfig().build(24, 3)
    rotary.turn(attend, place)(query, key, query)
    angle = place[:, None] * (10_000.0 ** -(torch.arange(0, 8, 2) / 8))
    both = torch.cat([angle, angle], dim=-1)[None]
    q, k = (x.transpose(0, 1)[None] for x in (query, key))
    wanted = modeling.apply_rotary_pos_emb(q, k, both.cos(), both.sin())
    for name, theirs in zip(("query", "key"), wanted, strict=True):
        assert torch.allclose(seen[name], theirs[0].transpose(0, 1), atol=1e-6)


def test_given_places_count_and_not_the_row_order():
    encoder = build(SMALL)
    x = rows()[:, :6]
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    with torch.inference_mode():
        plain = encoder(x).x
        shuffled = encoder(x[:, order], positions=order.expand(5, 6)).x
    assert torch.allclose(plain[:, order], shuffled, atol=1e-5)


def test_layers_are_kept_on_request_only():
    encoder = build(SMALL)
    x = rows()
    with torch.inference_mode():
        encoded = encoder(x, LENGTHS)
        assert len(encoded.layers) == SMALL.depth + 1
        assert torch.equal(encoded.layers[-1], encoded.x)  # post-norm: the last block's output is normalised
        bare = encoder(x, LENGTHS, layers=False)
        assert torch.equal(bare.x, encoded.x) and bare.packed_layers == []
    with pytest.raises(ValueError, match="layers=True"):
        _ = bare.layers


def test_attention_weights_give_the_fused_output_and_sum_to_one():
    encoder = build(SMALL)
    x = rows()
    with torch.inference_mode():
        weights = encoder.attentions(x, LENGTHS)
    assert len(weights) == SMALL.depth and weights[0].shape == (5, 4, 20, 20)
    for i, length in enumerate(LENGTHS.tolist()):
        assert torch.allclose(weights[1][i, :, :length].sum(-1), torch.ones(4, length), atol=1e-5)


# Into the flattened padded batch (5 x 20): starts, middles and ends of rows, one of them twice.
INDEX = torch.tensor([0, 16, 20, 40, 41, 40, 60, 80])


@pytest.mark.parametrize("kind", ["learned", "convolutional", "rotary"])
@pytest.mark.parametrize("variant", ["post_norm", "pre_norm", "causal"])
@pytest.mark.parametrize("lengths", [LENGTHS, None])
def test_outputs_at_chosen_positions_are_those_of_whole_rows_with_their_gradients(kind, variant, lengths):
    config = dataclasses.replace(SMALL, positions=KINDS[kind], **VARIANTS[variant])
    if config.causal and kind == "convolutional":
        return
    found = []
    for alone in (True, False):
        encoder = build(config)
        x = rows().requires_grad_()
        at = encoder.at(x, lengths, INDEX) if alone else encoder(x, lengths, layers=False).x.flatten(0, 1)[INDEX]
        at.square().sum().backward()
        found.append((at, x.grad, [parameter.grad for parameter in encoder.parameters()]))
    (mine, to_mine, own), (whole, to_whole, its) = found
    assert mine.shape == (len(INDEX), config.width)
    assert (mine - whole).abs().max() <= 1e-6 and (to_mine - to_whole).abs().max() <= 1e-5
    for one, other in zip(own, its, strict=True):
        assert (one - other).abs().max() <= 1e-4 * max(1.0, other.abs().max())


def test_outputs_at_chosen_positions_go_through_layer_drop_drop_path_and_no_blocks_at_all():
    config = dataclasses.replace(SMALL, block="pre_norm", depth=1)
    encoder = build(dataclasses.replace(config, layer_drop=1.0)).train()
    assert torch.equal(encoder.at(rows(), LENGTHS, INDEX), encoder(rows(), LENGTHS).x.flatten(0, 1)[INDEX])
    encoder = build(dataclasses.replace(config, depth=2, drop_path=0.5)).train()
    encoder.blocks[0].train(False)
    # The block keeps or leaves out whole rows; with the same generator the same ones.
    torch.manual_seed(5)
    kept = encoder(rows(), LENGTHS).x.flatten(0, 1)[INDEX]
    torch.manual_seed(5)
    assert torch.allclose(encoder.at(rows(), LENGTHS, INDEX), kept, atol=1e-6)
    encoder = build(dataclasses.replace(config, depth=0))
    assert torch.equal(encoder.at(rows(), LENGTHS, INDEX), encoder(rows(), LENGTHS).x.flatten(0, 1)[INDEX])


def test_select_picks_positions_of_the_padded_batch():
    encoder = build(SMALL)
    with torch.inference_mode():
        encoded = encoder(rows(), LENGTHS)
    index = torch.tensor([0, 16, 20, 40, 48, 76, 83])
    assert torch.equal(encoded.select(index), encoded.x.flatten(0, 1)[index])


def test_wrong_rows_are_refused_with_a_line_that_helps():
    encoder = build(dataclasses.replace(SMALL, positions=positions.LearnedPositionsConfig(length=16)))
    with pytest.raises(ValueError, match="holds 16.*encoder.positions.length"):
        encoder(rows(), LENGTHS)
    encoder(rows(), LENGTHS.clamp(max=16))  # padding beyond the table is nobody's concern
    for wrong in ([3, 0, 1, 1, 1], [21, 1, 1, 1, 1]):
        with pytest.raises(ValueError, match=rf"from 1 to the 20 positions of the padded batch, not \[{wrong[0]}, "):
            encoder(rows(), torch.tensor(wrong))
    with pytest.raises(ValueError, match="multiple"):
        EncoderConfig(width=10, heads=3)
    with pytest.raises(ValueError, match="even head width"):
        Encoder(EncoderConfig(width=9, heads=3, positions=positions.RotaryPositionsConfig()))


@pytest.mark.parametrize("name", ["text/bert_tiny", "speech/wav2vec2_tiny", "speech/mockingjay_tiny"])
def test_front_ends_refuse_what_is_no_padded_batch(name):
    backbone = recipes.find(name).backbone().eval()
    x = torch.ones(2, 800) if name.startswith("speech") else torch.ones(2, 30, dtype=torch.int64)
    assert len(backbone(x, torch.tensor([x.shape[1], 9])).x) == 2
    for inputs, lengths, why in (
        (x[0], None, "not a tensor of shape .* one input is x"),
        (x.tolist(), None, "not a list"),
        (x, [9, 9], "int64 of shape .2,., one number a row, not list"),
        (x, torch.tensor([9.0, 9.0]), "not torch.float32"),
        (x, torch.tensor([9]), r"not torch.int64 of \(1,\)"),
        (x, torch.tensor([9, 0]), r"not \[9, 0\]"),
        (x, torch.tensor([9, x.shape[1] + 1]), f"from 1 to the {x.shape[1]} positions"),
    ):
        with pytest.raises(ValueError, match=why):
            backbone(inputs, lengths)
    if name.startswith("speech"):
        for wrong in (x.to(torch.int16), x[:, None]):
            with pytest.raises(ValueError, match="waveforms are floats"):
                backbone(wrong)


def test_layer_drop_and_drop_path_leave_out_what_they_say():
    x = rows()
    dropped = build(dataclasses.replace(SMALL, layer_drop=0.5, block="pre_norm"))
    whole = dropped(x, LENGTHS).layers[1:]
    dropped.train()
    torch.manual_seed(0)
    kept = 0
    for _ in range(60):
        layers = dropped(x, LENGTHS).layers
        kept += sum(not torch.equal(a, b) for a, b in zip(layers, layers[1:], strict=False))
    assert 0.35 < kept / 180 < 0.65 and len(whole) == 3
    path = build(dataclasses.replace(SMALL, drop_path=0.5, block="pre_norm")).train()
    torch.manual_seed(0)
    left_out = torch.zeros(5)
    for _ in range(60):
        layers = path(x, LENGTHS).layers
        # A row whose two sublayers are both left out passes the last block unchanged.
        left_out += torch.stack([torch.equal(layers[2][i], layers[3][i]) * torch.ones(()) for i in range(5)])
    assert ((left_out / 60 - 0.25).abs() < 0.2).all()
    path.eval()
    assert torch.equal(path(x, LENGTHS).x, path(x, LENGTHS).x)


def test_the_modern_preset_has_no_biases_and_learns():
    encoder = build(modern(2, 64, 4)).train()
    assert not [name for name, _ in encoder.named_parameters() if "bias" in name]
    encoder(rows(64), LENGTHS).x.square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_bf16_autocast_stays_near_fp32():
    encoder = build(dataclasses.replace(SMALL, positions=KINDS["rotary"], block="pre_norm"))
    with torch.inference_mode():
        exact = encoder(rows(), LENGTHS).x
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = encoder(rows(), LENGTHS).x.float()
    assert (exact - rough).abs().mean() < 0.03


@pytest.mark.parametrize("variant", ["post_norm", "pre_norm", "gated"])
@pytest.mark.parametrize("wanted", [False, True])
def test_blocks_computed_again_give_the_same_gradients_and_keep_less(variant, wanted):
    config = dataclasses.replace(SMALL, dropout=0.1, attention_dropout=0.1, layer_drop=0.2, drop_path=0.1)
    encoder = build(dataclasses.replace(config, **VARIANTS[variant])).train()
    x, index = rows(), torch.tensor([0, 16, 40, 60])

    def step(recompute):
        encoder.recompute = recompute
        torch.manual_seed(3)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            out = encoder.at(x, LENGTHS, index) if wanted else encoder(x, LENGTHS, layers=False).packed
        gradients = torch.autograd.grad(out.square().sum(), list(encoder.parameters()))
        return out.detach(), gradients, sum(kept)

    (out, gradients, kept), (again, others, few) = step(False), step(True)
    assert torch.equal(out, again) and few < kept / 3
    for one, other in zip(gradients, others, strict=True):
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore")  # what torch's compiler does while it traces
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_compiled_blocks_are_compiled_for_one_batch_and_serve_all(dropout):
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    config = EncoderConfig(depth=2, width=16, heads=2, hidden=32, dropout=dropout, attention_dropout=dropout)
    encoder = Encoder(config).train()
    plain = Encoder(config).train()
    plain.load_state_dict(encoder.state_dict())
    encoder.compile_blocks(backend)
    torch._dynamo.reset()
    once = 0
    for number in range(12):  # more than torch compiles anew before it gives up
        lengths = torch.randint(3, 60, (8,), generator=torch.Generator().manual_seed(number))
        x = torch.randn(8, int(lengths.max()), 16)
        outs = []
        for net in (encoder, plain):
            torch.manual_seed(number)
            outs.append(net(x, lengths).x)
        assert torch.equal(*outs)
        outs[0].sum().backward()
        once = once or len(compiled)
    assert len(compiled) == once > 0

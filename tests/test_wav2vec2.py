# SPDX-License-Identifier: Apache-2.0
"""wav2vec 2.0's loss and gradients are those of transformers and fairseq2; its masks have the published proportions."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from pluri.speech import published
from pluri.ssl import draw, masking
from pluri.ssl.contrast import draw_negatives, place_in_row
from pluri.ssl.objective import Batch
from pluri.ssl.objectives.wav2vec2 import Wav2Vec2Config
from pluri.ssl.quantize import QuantizerConfig

SETTINGS = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    conv_dim=[16] * 7,
    num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=4,
    num_codevectors_per_group=6,
    codevector_dim=16,
    proj_codevector_dim=12,
    num_negatives=20,
)
LARGE = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
OURS = Wav2Vec2Config(
    final_width=12, negatives=20, quantizer=QuantizerConfig(codes=6, width=16), target_dropout=0.0, penalty_weight=0.0
)
HEADS = {
    "hidden_unit": "wav2vec2.masked_spec_embed",
    "quantizer.score.weight": "quantizer.weight_proj.weight",
    "quantizer.score.bias": "quantizer.weight_proj.bias",
    "quantizer.codebook": "quantizer.codevectors",
    "project_target.weight": "project_q.weight",
    "project_target.bias": "project_q.bias",
    "project.weight": "project_hid.weight",
    "project.bias": "project_hid.bias",
}


def converted(model, folder, values):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(values[name])
    model.save_pretrained(folder)
    named = dict(model.named_parameters())
    out = {f"backbone.{name}": value for name, value in published.from_hf(folder).state_dict().items()}
    for mine, its in HEADS.items():
        out[mine] = named[its].detach().clone()
    out["quantizer.codebook"] = out["quantizer.codebook"].view(2, 6, 8)
    return out


def masks(lengths, T):
    keys = torch.tensor([draw.key(1, i) for i in range(len(lengths))])
    masked = masking.spans(keys, torch.tensor(lengths), T, torch.tensor([2, 3, 2])[: len(lengths)], 3)
    chosen = masking.where(masked, int(masked.sum()))
    place, count = place_in_row(chosen, len(lengths))
    negatives = draw_negatives(draw.fold(keys[chosen.row], chosen.column), place, count[chosen.row], 20)
    return masked, chosen, negatives


@pytest.mark.parametrize("variant", [{}, LARGE], ids=["base", "large"])
def test_loss_and_all_gradients_equal_those_of_transformers(tmp_path, variant):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**SETTINGS, **variant)
    theirs = transformers.Wav2Vec2ForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    weights = {name: parameter.detach().clone() for name, parameter in theirs.named_parameters()}
    state = converted(theirs, tmp_path, weights)
    ours = OURS.build(published.from_hf(tmp_path))
    state["quantizer.temperature"] = ours.quantizer.temperature
    ours.load_state_dict(state)
    ours.eval()

    wave = torch.randn(3, 8000)
    wave = (wave - wave.mean(1, keepdim=True)) / wave.std(1, keepdim=True, correction=0)
    units = ours.backbone.front_end.units(wave)
    B, T = units.values.shape[:2]
    masked, chosen, negatives = masks([T, T, T], T)
    counts = {"masked": torch.tensor(float(masked.sum())), "units": torch.tensor(float(B * T))}
    mine = ours.compare(units, masked, chosen, negatives, torch.zeros(len(chosen.flat), dtype=torch.int64), counts)
    mine["loss"].backward()

    sampled = torch.zeros(B, T, 20, dtype=torch.int64)
    columns = [masked[b].nonzero()[:, 0] for b in range(B)]
    for i, (row, column) in enumerate(zip(chosen.row.tolist(), chosen.column.tolist(), strict=True)):
        sampled[row, column] = columns[row][negatives[i]] + row * T
    its = theirs(wave, mask_time_indices=masked, sampled_negative_indices=sampled)
    (its.loss / masked.sum()).backward()
    assert mine["loss"].item() == pytest.approx(its.loss.item() / masked.sum().item(), rel=1e-5)
    right = 0
    for i, place in enumerate(zip(chosen.row.tolist(), chosen.column.tolist(), strict=True)):
        query, target = its.projected_states[place], its.projected_quantized_states[place]
        others = its.projected_quantized_states[place[0], columns[place[0]][negatives[i]]]
        others = others[(others != target).any(1)]
        right += bool((torch.cosine_similarity(query, target, 0) > torch.cosine_similarity(query, others)).all())
    assert 0 < right < len(chosen.flat) and mine["accuracy"].item() == pytest.approx(right / len(chosen.flat))

    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in theirs.named_parameters()
    }
    wanted = converted(theirs, tmp_path, gradients)
    for name, parameter in ours.named_parameters():
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        scale = wanted[name].norm()
        if name.startswith("quantizer.score"):  # no gradient reaches the scores of a hard choice
            assert not grad.any() and scale == 0
            continue
        # Biases in front of a norm have no effect but for rounding.
        assert (grad - wanted[name]).norm() <= 1e-4 * scale + 1e-6, name


FAIRSEQ2_NAMES = (
    ("encoder_frontend.feature_extractor.layers.", "feature_extractor.conv_layers."),
    ("group_norm", "layer_norm"),
    ("encoder_frontend.post_extract_layer_norm", "feature_projection.layer_norm"),
    ("encoder_frontend.model_dim_proj", "feature_projection.projection"),
    ("encoder_frontend.pos_encoder", "encoder.pos_conv_embed"),
    ("encoder_frontend.layer_norm", "encoder.layer_norm"),
    ("self_attn_layer_norm", "layer_norm"),
    ("ffn_layer_norm", "final_layer_norm"),
    ("self_attn.output_proj", "attention.out_proj"),
    ("self_attn", "attention"),
    ("ffn.inner_proj", "feed_forward.intermediate_dense"),
    ("ffn.output_proj", "feed_forward.output_dense"),
)
FAIRSEQ2_HEADS = {
    "hidden_unit": "masker.temporal_mask_embed",
    "quantizer.score.weight": "quantizer.entry_proj.weight",
    "quantizer.score.bias": "quantizer.entry_proj.bias",
    "quantizer.codebook": "quantizer.entries",
    "project_target.weight": "final_target_proj.weight",
    "project_target.bias": "final_target_proj.bias",
    "project.weight": "final_proj.weight",
    "project.bias": "final_proj.bias",
}


def fairseq2_model():
    fairseq2 = pytest.importorskip("fairseq2")
    fairseq2.init_fairseq2()
    from fairseq2.models.wav2vec2 import get_wav2vec2_model_hub

    hub = get_wav2vec2_model_hub()
    config = hub.get_arch_config("base")
    encoder = config.encoder_config
    encoder.model_dim, encoder.num_encoder_layers, encoder.num_encoder_attn_heads, encoder.ffn_inner_dim = 32, 2, 4, 64
    encoder.feature_dim = 16
    encoder.feature_extractor_layer_descs = [(16, k, s) for _, k, s in encoder.feature_extractor_layer_descs]
    encoder.pos_conv_kernel_size, encoder.num_pos_conv_groups = 8, 4
    encoder.dropout_p = encoder.attn_dropout_p = encoder.layer_drop_p = 0.0
    config.quantized_dim, config.final_dim, config.num_codebook_entries, config.num_distractors = 16, 12, 6, 20
    return hub.create_new_model(config)


def from_fairseq2(model, folder):
    weights, state = {}, model.state_dict()
    for name, tensor in state.items():
        if name.startswith(("encoder.", "encoder_frontend.")):
            for theirs, hf in FAIRSEQ2_NAMES:
                name = name.replace(theirs, hf)
            weights[name] = tensor.clone().contiguous()
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    settings = {"model_type": "wav2vec2", "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2]}
    (folder / "config.json").write_text(json.dumps({**SETTINGS, **settings, "layer_norm_eps": 1e-5}))
    ours = Wav2Vec2Config(
        final_width=12, negatives=20, quantizer=QuantizerConfig(codes=6, width=16), target_dropout=0.0
    ).build(published.from_hf(folder))
    own = ours.state_dict()
    for mine, its in FAIRSEQ2_HEADS.items():
        own[mine] = state[its].view(own[mine].shape)
    ours.load_state_dict(own)
    return ours


@pytest.mark.filterwarnings("ignore")  # fairseq2 warns about its own dependencies
def test_the_loss_equals_that_of_fairseq2(tmp_path, monkeypatch):
    # Its quantiser compiles a sum, by a decorator with settings.
    monkeypatch.setattr(torch, "compile", lambda **settings: lambda function: function)
    torch.manual_seed(0)
    theirs = fairseq2_model().eval()
    from fairseq2.nn import BatchLayout

    ours = from_fairseq2(theirs, tmp_path / "a").eval()
    wave = torch.randn(2, 8000)
    units = ours.backbone.front_end.units(wave)
    B, T = units.values.shape[:2]
    masked = torch.zeros(B, T, dtype=torch.bool)
    masked[0, 3:9] = masked[1, 14:20] = True  # fairseq2 wants the same number in each row
    chosen = masking.where(masked, 12)
    place, count = place_in_row(chosen, B)
    keys = torch.arange(12) * 1001
    negatives = draw_negatives(keys, place, count[chosen.row], 20)

    monkeypatch.setattr(theirs.masker, "mask_factory", lambda **_: masked)
    monkeypatch.setattr(
        type(theirs),
        "_sample_distractors",
        lambda self, targets: torch.stack([targets[b][negatives.view(B, 6, 20)[b]] for b in range(B)]),
    )
    its, output = theirs(wave, BatchLayout.of(wave))
    counts = {"masked": torch.tensor(12.0), "units": torch.tensor(float(B * T))}
    mine = ours.compare(units, masked, chosen, negatives, keys, counts)
    assert mine["contrastive_loss"].item() == pytest.approx(its.contrastive.item() / 12, rel=1e-5)
    assert mine["code_perplexity"].item() == pytest.approx(output.quantizer_output.code_perplexity.item(), rel=1e-5)

    # Diversity and penalty as they are in training: from soft choices, and from what the extractor gives.
    ours.train()
    targets = units.values.flatten(0, 1)[chosen.flat]
    soft = ours.quantizer(targets, keys, chosen.real).perplexity
    assert (12 - soft.item()) / 12 == pytest.approx(its.diversity.item() / 12, rel=1e-5)
    energy = ours.backbone.front_end.units(wave).energy
    assert energy is not None
    assert energy.item() == pytest.approx(its.features_penalty.item() / 12, rel=1e-5)
    trained = ours.compare(ours.backbone.front_end.units(wave), masked, chosen, negatives, keys, counts)
    parts = trained["contrastive_loss"] + 0.1 * trained["diversity_loss"] + 10.0 * trained["feature_penalty"]
    assert trained["loss"].item() == pytest.approx(parts.item(), rel=1e-6)
    assert trained["feature_penalty"].item() == pytest.approx(energy.item(), rel=1e-6)
    parameters = [ours.backbone.front_end.get_parameter("convolutions.0.weight"), ours.quantizer.score.weight]
    wanted = torch.autograd.grad(
        trained["contrastive_loss"] + 0.1 * trained["diversity_loss"] + 10.0 * energy, parameters, retain_graph=True
    )
    for found, its_own in zip(torch.autograd.grad(trained["loss"], parameters), wanted, strict=True):
        assert (found - its_own).norm() <= 1e-4 * its_own.norm() > 0


def test_settings_are_by_default_those_of_fairseq2():
    wav2vec2 = pytest.importorskip("fairseq2.models.wav2vec2")
    theirs, ours = wav2vec2.Wav2Vec2Config(), Wav2Vec2Config()
    assert ours.span == theirs.temporal_mask_span_len and ours.negatives == theirs.num_distractors
    assert ours.temperature == theirs.logit_temp and ours.final_width == theirs.final_dim
    quantizer = ours.quantizer
    assert (quantizer.groups, quantizer.codes) == (theirs.num_codebooks, theirs.num_codebook_entries)
    assert quantizer.width == theirs.quantized_dim
    first, last, _ = theirs.codebook_sampling_temperature
    assert (quantizer.start_temperature, quantizer.end_temperature) == (first, last)
    assert ours.target_dropout == 0.1  # fairseq's dropout_features of the base model, which fairseq2 leaves out


def tiny(**settings):
    from pluri.speech.recipes import wav2vec2_tiny

    torch.manual_seed(0)
    recipe = wav2vec2_tiny()
    front_end = dataclasses.replace(recipe.front_end, channels=16, width=recipe.encoder.width)
    return dataclasses.replace(OURS, **settings).build(dataclasses.replace(recipe, front_end=front_end).backbone())


def sounds(lengths):
    keys = torch.tensor([draw.key(2, i) for i in range(len(lengths))])
    wave = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(0))
    return Batch(wave, torch.tensor(lengths), keys)


@pytest.mark.parametrize("training", [False, True])
def test_a_part_of_a_step_gets_its_share_of_every_figure(training):
    ours = tiny(penalty_weight=10.0, target_dropout=0.1).train(training)
    figures = []
    for share in (1.0, 0.25):
        batch = sounds([16000, 9000, 12000])
        units = ours.counts(batch)
        batch.counts = {"masked": units["masked"] / share, "units": units["units"] / (share / 2)}
        torch.manual_seed(1)
        figures.append({name: value.item() for name, value in ours(batch).items()})
    whole, part = figures
    assert ("feature_penalty" in whole) == training
    for name in set(whole) - {"loss"}:
        assert part[name] == pytest.approx(0.25 * whole[name], rel=1e-5), name


def test_targets_are_dropped_out_as_set_and_only_in_training():
    ours = tiny(target_dropout=1.0, diversity_weight=1.0)
    for training in (True, False):
        perplexity = ours.train(training)(sounds([16000, 9000]))["code_perplexity"].item()
        if training:  # nothing is left but noise, and codes are drawn alike
            ours(sounds([16000, 9000]))["loss"].backward()
            assert ours.quantizer.score.weight.grad is not None and not ours.quantizer.score.weight.grad.any()
        else:
            assert perplexity > 2.5


def test_every_hidden_unit_has_negatives_and_noise_of_its_own(monkeypatch):
    ours, batch = tiny(), sounds([32000, 16000])
    seen = []
    monkeypatch.setattr(ours, "compare", lambda *arguments: seen.append(arguments) or {})
    ours(batch)
    _, _, chosen, negatives, keys, _ = seen[0]
    place, count = place_in_row(chosen, 2)
    assert len(set(keys.tolist())) == len(keys) > 40
    assert not torch.equal(draw_negatives(keys, place, count[chosen.row], 20), negatives)
    row = negatives[chosen.row == 0].double()
    shared = torch.corrcoef(row) - torch.eye(len(row))
    assert shared.abs().mean() < 0.3


def test_the_host_knows_how_many_units_are_hidden_at_most(monkeypatch):
    ours = tiny()
    real, seen = masking.where, []

    def look(masked, at_most):
        seen.append((int(masked.sum()), at_most, masked.numel()))
        return real(masked, at_most)

    monkeypatch.setattr(masking, "where", look)
    for key in range(40):
        for length in (400, 4400, 16000):  # 1, 13 and 49 units: 0.1, 0.8 and 3.2 spans
            batch = sounds([length] * 2)
            batch.keys = draw.fold(batch.keys, key)
            ours(batch)
    assert all(hidden <= at_most <= units for hidden, at_most, units in seen)


def test_spans_begin_everywhere_alike_whether_their_number_was_rounded_up_or_down():
    ours = tiny(mask_share=0.5 / 3, span=1)
    lengths = torch.full((6000,), 3)
    keys = torch.tensor([draw.key(0, i) for i in range(6000)])
    masked = ours.masked(Batch(torch.zeros(6000, 1), None, keys), lengths, 3)
    assert (masked.float().mean(0) - 0.5 / 3).abs().max() < 0.02


def test_the_temperature_falls_with_the_steps():
    ours = tiny()
    for progress, temperature in ((0.0, 2.0), (0.345, 1.0), (1.0, 0.5)):
        ours.after_step(progress)
        assert ours.quantizer.temperature.item() == pytest.approx(temperature, rel=1e-4)


def test_the_vector_for_hidden_units_begins_uniform():
    # As in fairseq: mask_emb is uniform on [0, 1).
    ours = tiny()
    assert ours.hidden_unit.min() >= 0 and ours.hidden_unit.max() < 1
    assert ours.hidden_unit.mean().item() == pytest.approx(0.5, abs=0.15)


def test_half_of_the_units_are_hidden_in_spans_as_published():
    from pluri.speech.recipes import wav2vec2_tiny

    ours = OURS.build(wav2vec2_tiny().backbone())
    keys = torch.tensor([draw.key(0, i) for i in range(300)])
    lengths = torch.full((300,), 750)  # 15 seconds
    masked = ours.masked(Batch(torch.zeros(300, 1), None, keys), lengths, 750)
    # "approximately 49% of all time steps to be masked with a mean span length of 14.7" (section 4.1).
    assert masked.float().mean().item() == pytest.approx(0.49, abs=0.01)
    edges = (masked[:, 1:] & ~masked[:, :-1]).sum() + masked[:, 0].sum()
    assert (masked.sum() / edges).item() == pytest.approx(14.7, abs=0.5)

# SPDX-License-Identifier: Apache-2.0
"""BERT's loss and gradients are those of transformers' BertForPreTraining; its masks have the published proportions."""

import pytest
import torch

from pluri.ssl import draw
from pluri.ssl.blocks import EncoderConfig
from pluri.ssl.encoder import Backbone, Encoder
from pluri.ssl.objective import Batch
from pluri.ssl.objectives.bert import BertConfig
from pluri.ssl.positions import LearnedPositionsConfig
from pluri.text import published
from pluri.text.frontend import TextFrontEndConfig

SIZES = dict(vocab_size=97, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96)


def keys(n):
    return torch.tensor([draw.key(0, "item", i) for i in range(n)])


def batch(rows=6, longest=40, vocabulary=97):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([40, 7, 23, 40, 12, 31])[:rows]
    ids = torch.randint(5, vocabulary, (rows, longest), generator=generator)
    segments = (torch.arange(longest) >= lengths[:, None] // 2).long()
    ids[:, 0] = 2
    for i, length in enumerate(lengths.tolist()):
        ids[i, length - 1] = 3
        ids[i, length:] = 0
        segments[i, length:] = 0
    is_random = torch.tensor([0, 1, 1, 0, 1, 0])[:rows]
    return Batch(torch.stack([ids, segments], -1), lengths, keys(rows), {"is_random": is_random})


def converted(model, folder, values):
    """Our names for what `values` says of each parameter of a transformers model: its weights, or its gradients."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(values[name])
    model.save_pretrained(folder)
    heads = published.heads_from_hf(model.state_dict())
    backbone = published.from_hf(folder).state_dict()
    return {**{f"backbone.{name}": value for name, value in backbone.items()}, **heads}


def test_loss_and_all_gradients_equal_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    theirs = transformers.BertForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    data = batch()
    assert data.lengths is not None
    weights = {name: parameter.detach().clone() for name, parameter in theirs.named_parameters()}
    state = converted(theirs, tmp_path, weights)
    ours = BertConfig().build(published.from_hf(tmp_path))
    ours.load_state_dict(state)
    ours.eval()

    mine = ours(data)
    mine["loss"].backward()
    ids, segments = data.inputs.unbind(-1)
    masked = ours.masked(data, ids, data.lengths)
    its = theirs(
        input_ids=ours.corrupt(data, ids, masked),
        token_type_ids=segments,
        attention_mask=(torch.arange(40) < data.lengths[:, None]).long(),
        labels=torch.where(masked, ids, -100),
        next_sentence_label=data.extras["is_random"],
    )
    its.loss.backward()
    assert mine["loss"].item() == pytest.approx(its.loss.item(), rel=1e-5)

    gradients = {name: parameter.grad.clone() for name, parameter in theirs.named_parameters()}
    wanted = converted(theirs, tmp_path, gradients)
    for name, parameter in ours.named_parameters():
        difference = (parameter.grad - wanted[name]).norm() / wanted[name].norm().clamp(min=1e-7)
        assert difference <= 1e-4, name


def objective(**settings):
    torch.manual_seed(0)
    front_end = TextFrontEndConfig(vocab_size=97, width=32).build()
    encoder = EncoderConfig(depth=1, width=32, heads=2, hidden=64, positions=LearnedPositionsConfig(length=512))
    return BertConfig(**settings).build(Backbone(front_end, Encoder(encoder)))


def test_fifteen_percent_are_chosen_and_eighty_ten_ten_of_them_changed():
    ours = objective(next_sentence=False)
    ids = torch.randint(5, 97, (400, 200), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, 90], ids[:, -1] = 2, 3, 3
    data = Batch(ids, None, keys(400))
    masked = ours.masked(data, ids, torch.full((400,), 200))
    assert (masked.sum(1) == 30).all() and not masked[:, [0, 90, 199]].any()
    after = ours.corrupt(data, ids, masked)
    assert torch.equal(after[~masked], ids[~masked])
    total = masked.sum().item()
    as_mask = (after[masked] == 4).sum().item() / total
    same = (after[masked] == ids[masked]).sum().item() / total
    # A random id is the old one in 1 of 97 draws, and [MASK] in another.
    assert as_mask == pytest.approx(0.8 + 0.1 / 97, abs=0.01) and same == pytest.approx(0.1 + 0.1 / 97, abs=0.01)
    changed = after[masked & (after != ids) & (after != 4)]
    assert changed.min() == 0 and changed.max() == 96  # the whole vocabulary, as published
    never = objective(next_sentence=False, random_ids="non_special").corrupt(data, ids, masked)
    assert never[masked & (never != 4)].min() >= 5


def test_as_many_are_hidden_as_in_googles_code_and_only_real_ones():
    ours = objective(next_sentence=False, most_masked=8)
    lengths = torch.arange(1, 81)
    ids = torch.full((80, 80), 7)
    masked = ours.masked(Batch(ids, lengths, keys(80)), ids, lengths)
    for row, length in zip(masked, lengths.tolist(), strict=True):
        # create_pretraining_data.py: min(max_predictions_per_seq, max(1, int(round(len(tokens) * masked_lm_prob))))
        assert row.sum() == min(8, max(1, round(length * 0.15))) and not row[length:].any()


def test_accuracies_are_the_shares_that_are_right():
    ours = objective()
    data = batch(5)
    assert data.lengths is not None
    with torch.no_grad():  # whatever it sees, it says 7, and that the second segment is a random one
        ours.bias[7] += 1e4
        assert ours.next_sentence is not None
        ours.next_sentence.bias[1] += 1e4
    ids = torch.where(torch.arange(40) % 3 == 1, 7, data.inputs[..., 0])
    data.inputs[..., 0] = torch.where(data.inputs[..., 0] >= 5, ids, data.inputs[..., 0])
    ids = data.inputs[..., 0]
    out = ours(data)
    share = (ids[ours.masked(data, ids, data.lengths)] == 7).float().mean().item()
    assert 0.1 < share < 0.9 and out["mlm_accuracy"].item() == pytest.approx(share)
    assert out["nsp_accuracy"].item() == pytest.approx(0.6)


def test_the_heads_begin_with_the_published_deviation():
    ours = objective()
    for layer in (ours.transform, ours.pooler, ours.next_sentence):
        assert layer is not None and not layer.bias.any()
        # A normal of deviation 0.02, cut off at twice that, has a deviation of 0.0176.
        assert layer.weight.abs().max() <= 0.04 and layer.weight.std().item() == pytest.approx(0.0176, rel=0.15)


@pytest.mark.parametrize("whole_words", [False, True])
def test_masks_are_new_in_each_epoch_and_row_and_the_same_for_the_same_key(whole_words):
    ours = objective(next_sentence=False, whole_words=whole_words)
    ids = torch.randint(5, 97, (3, 64), generator=torch.Generator().manual_seed(1))
    lengths = torch.full((3,), 64)
    first, again, second = (
        ours.masked(Batch(ids, None, one), ids, lengths) for one in (keys(3), keys(3), draw.fold(keys(3), 1))
    )
    assert torch.equal(first, again)
    assert len({tuple(row) for row in [*first.tolist(), *second.tolist()]}) == 6


def test_whole_words_and_the_cap_hold():
    ours = objective(next_sentence=False, whole_words=True, most_masked=5)
    ours.continues[50:] = True
    ids = torch.randint(5, 97, (200, 100), generator=torch.Generator().manual_seed(1))
    masked = ours.masked(Batch(ids, None, keys(200)), ids, torch.full((200,), 100))
    assert (masked.sum(1) <= 5).all() and masked.any(1).float().mean() > 0.9
    continues = ids >= 50
    continues[:, 0] = False
    torn = masked[:, 1:] != masked[:, :-1]
    assert not (torn & continues[:, 1:]).any()


def test_a_front_end_of_vectors_is_refused():
    from pluri.vision.recipes import byol_tiny

    with pytest.raises(ValueError, match="hides ids"):
        BertConfig().build(byol_tiny().backbone())

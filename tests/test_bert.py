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


def test_masks_are_new_in_each_epoch_and_the_same_for_the_same_key():
    ours = objective(next_sentence=False)
    ids = torch.randint(5, 97, (3, 64), generator=torch.Generator().manual_seed(1))
    first, second = keys(3), draw.fold(keys(3), 1)
    lengths = torch.full((3,), 64)
    assert torch.equal(
        ours.masked(Batch(ids, None, first), ids, lengths), ours.masked(Batch(ids, None, first), ids, lengths)
    )
    assert not torch.equal(
        ours.masked(Batch(ids, None, first), ids, lengths), ours.masked(Batch(ids, None, second), ids, lengths)
    )


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

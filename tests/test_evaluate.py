# SPDX-License-Identifier: Apache-2.0
"""Probes against scikit-learn, labelled data in all its forms, and encoders by their names."""

import csv
import shutil

import numpy as np
import pytest
import soundfile
import torch
from sklearn.neighbors import KNeighborsClassifier

import pluri
from pluri.benchmarks import classify, encoders, evaluate, scores, tasks
from pluri.benchmarks.evaluate import understood
from pluri.benchmarks.features import Vectors, vectors
from pluri.benchmarks.labelled import LabelledConfig, read
from pluri.benchmarks.task import Supervised
from pluri.ssl.data import Loader
from pluri.text import tokenizer as wordpiece
from pluri.text.frontend import TextFrontEndConfig


def blobs(n=300, width=6, classes=3):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    centres = rng.normal(size=(classes, width)) * 1.5
    return (centres[labels] + rng.normal(size=(n, width))).astype(np.float32), labels


def test_nearest_neighbours_equal_scikit_learns():
    x, labels = blobs()
    train, test = Vectors(x[:200], labels[:200], []), x[200:]
    distance, index = KNeighborsClassifier(9, metric="cosine").fit(train.x, train.labels).kneighbors(test)
    votes = np.exp((1 - distance) / 0.07)
    wanted = np.stack([(votes * (train.labels[index] == k)).sum(1) for k in range(3)], 1).argmax(1)
    assert (classify.nearest(train, test, 3, 9, 0.07) == wanted).mean() > 0.99


def test_the_linear_probe_reaches_the_best_that_can_be():
    x, labels = blobs(900)
    predicted, decay = classify.linear(Vectors(x[:600], labels[:600], []), x[600:])
    ideal = np.stack([x[:600][labels[:600] == k].mean(0) for k in range(3)])
    best = ((x[600:, None] - ideal) ** 2).sum(-1).argmin(1)
    assert (predicted == labels[600:]).mean() > (best == labels[600:]).mean() - 0.03 and decay in classify.DECAYS


def test_a_folder_of_classes_is_split_by_name_and_has_every_item_once(samples):
    backbone = pluri.load("random:vision/vicreg_tiny")
    parts = read(LabelledConfig(path=str(samples["images"])), backbone)
    assert parts.classes == ["across", "down"] and len(parts.train.labels) + len(parts.test.labels) == 48
    again = read(LabelledConfig(path=str(samples["images"])), backbone)
    assert [parts.test.name(r) for r in parts.test.records] == [again.test.name(r) for r in again.test.records]
    for record in parts.train.records:
        label = int(parts.train.load(record, 0).extras["label"])
        assert f"/{parts.classes[label]}/" in parts.train.name(record)


def test_subfolders_train_and_test_are_taken_as_they_are(samples, tmp_path):
    for part, count in (("train", 9), ("test", 5)):
        for label in ("across", "down"):
            (tmp_path / part / label).mkdir(parents=True)
            for path in sorted((samples["images"] / label).iterdir())[:count]:
                shutil.copy(path, tmp_path / part / label)
    parts = read(LabelledConfig(path=str(tmp_path)), pluri.load("pixels"))
    assert (len(parts.train.labels), len(parts.test.labels)) == (18, 10)


@pytest.mark.parametrize("kind", ["folder", "tsv", "csv"])
def test_labelled_speech_in_its_forms(kind, samples, tmp_path):
    backbone = pluri.load("fbank")
    path = samples["speech"]
    if kind != "folder":
        path = tmp_path / f"table.{kind}"
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
            writer.writerow(("path", "label", "split"))
            for i, clip in enumerate(sorted(samples["speech"].rglob("*.*"))):
                writer.writerow((str(clip), clip.parent.name, "test" if i % 3 == 0 else "train"))
    parts = read(LabelledConfig(path=str(path)), backbone)
    assert parts.classes == ["0", "1", "2", "3"] and len(parts.train.labels) + len(parts.test.labels) == 36
    found = vectors(backbone, parts.train)
    assert found.x.shape == (len(parts.train.labels), 160) and found.labels.tolist() == list(
        parts.train.labels.values()
    )
    for row, record in zip(found.x, parts.train.records, strict=True):
        alone = backbone(parts.train.load(record, 0).inputs[None]).pooled()[0]
        assert np.allclose(row, alone.detach().numpy(), atol=1e-4)


def test_labelled_text_keeps_quotes_and_finds_its_splits(samples, tmp_path):
    lines = samples["text"].read_text().splitlines()
    (tmp_path / "run").mkdir()
    wordpiece.train_wordpiece(lambda: lines, 300).save(str(tmp_path / "run" / wordpiece.FILE))
    front_end = TextFrontEndConfig(vocab_size=300, width=192)
    from pluri.ssl.encoder import Backbone, Encoder

    backbone = Backbone(front_end.build(tmp_path / "run"), Encoder(encoders.recipes.find("text/bert_tiny").encoder))
    rows = [(f'{"good" if i % 2 else "bad"} "quoted {i}', str(i % 2)) for i in range(40)]
    for name, part in (("train.tsv", rows[:30]), ("dev.tsv", rows[30:])):
        (tmp_path / name).write_text("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in part))
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\twithout a label\n")  # as GLUE has it
    parts = read(LabelledConfig(path=str(tmp_path)), backbone)
    assert (len(parts.train.labels), len(parts.test.labels)) == (30, 10)
    name, bag = encoders.raw_features(backbone)
    counts = bag(parts.train.load(parts.train.records[0], 0).inputs[None]).x[0].sum(0)
    assert name == "bag of tokens" and counts.sum() == len(parts.train.load(parts.train.records[0], 0).inputs)
    (tmp_path / "bad.tsv").write_text("sentence\tlabel\nwell\t1\nno label\n")
    with pytest.raises(ValueError, match="line 3: 1 values for 2 columns"):
        read(LabelledConfig(path=str(tmp_path / "bad.tsv")), backbone)


def test_dev_is_neither_trained_on_nor_scored_where_there_is_test(tmp_path):
    rows = ["path\tlabel\tsplit"]
    for i in range(12):
        soundfile.write(tmp_path / f"{i}.wav", np.full(1600, 0.01 * i), 16000)
        rows.append(f"{i}.wav\t{'ab'[i % 2]}\t{('train', 'dev', 'test')[i // 4]}")
    path = tmp_path / "m.tsv"

    def parts():
        path.write_text("\n".join(rows) + "\n")
        return read(LabelledConfig(path=str(path)), pluri.load("fbank"))

    def names(part):
        return [part.name(record).rsplit("/", 1)[1] for record in part.records]

    split = parts()
    assert names(split.train) == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert names(split.test) == ["8.wav", "9.wav", "10.wav", "11.wav"]
    rows[9:] = []
    assert names(parts().test) == ["4.wav", "5.wav", "6.wav", "7.wav"]
    rows.append("8.wav\ta\tTest")
    with pytest.raises(ValueError, match="m.tsv: split is train, test or .*, not 'Test'"):
        parts()
    rows[-1] = "1.wav\ta\ttest"
    with pytest.raises(ValueError, match="m.tsv: 1.wav from 0 s stands there twice: remove one row"):
        parts()
    rows[-1] = "8.wav\t\ttest"
    with pytest.raises(ValueError, match="m.tsv, line 10 has no label"):
        parts()


def test_fine_tuning_learns_and_a_frozen_backbone_stays_as_it_is(samples):
    backbone = pluri.load("random:vision/vicreg_tiny")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    data = LabelledConfig(path=str(samples["images"]))
    score, _ = classify.FineTuneConfig(data=data, epochs=20.0, batch=16.0, frozen=True).evaluate(backbone, 0)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    whole, chosen = classify.FineTuneConfig(data=data, epochs=20.0, batch=16.0).evaluate(backbone, 0)
    assert whole.figures["accuracy"] >= 0.8 and chosen["steps"] > 10 and 0 <= score.figures["accuracy"] <= 1
    assert any(not torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_a_supervised_loss_is_the_mean_over_the_whole_step(samples):
    backbone = pluri.load("random:vision/vicreg_tiny")
    task = classify.Classes(LabelledConfig(path=str(samples["images"])), "mean", backbone)
    model = Supervised(task, backbone).eval()
    batch = next(Loader(dataset=task.parts.train, batch=8, seed=0).once()).batch
    assert batch is not None
    logits = model.outputs(batch)
    wanted = torch.nn.functional.cross_entropy(logits, batch.extras["label"])
    assert model(batch)["loss"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_twin_has_the_same_shape_and_other_weights(samples):
    backbone = pluri.load("random:speech/wav2vec2_tiny")
    first, second = encoders.random_twin(backbone, 0), encoders.random_twin(backbone, 1)
    same = encoders.random_twin(backbone, 0).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in first.state_dict().items())
    assert any(not torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize(
    "name, inputs, width", [("fbank", (2, 8000), 160), ("mfcc", (2, 8000), 39), ("pixels", (2, 3, 32, 32), 3072)]
)
def test_raw_features_are_backbones_without_layers(name, inputs, width):
    backbone = pluri.load(name)
    encoded = backbone(torch.rand(*inputs))
    assert encoded.x.shape[-1] == width and torch.equal(encoded.layers[0], encoded.x)


def test_a_bad_clip_is_counted_and_left_out(samples, tmp_path):
    folder = tmp_path / "speech"
    shutil.copytree(samples["speech"], folder)
    wave = np.full(8000, np.nan, dtype=np.float32)
    soundfile.write(folder / "0" / "nan.wav", wave, 16000, subtype="FLOAT")
    parts = read(LabelledConfig(path=str(folder)), pluri.load("fbank"))
    bad = [*vectors(pluri.load("fbank"), parts.train).bad, *vectors(pluri.load("fbank"), parts.test).bad]
    assert len(bad) == 1 and "not finite" in bad[0][1]


def test_a_suite_s_settings_go_to_the_tasks_that_have_them():
    found = tasks.find("tagging")
    words = ["--data.path", "x", "--layer", "2", "--lr", "1e-4", "3e-4", "--nonsense", "1"]
    given = {name: understood(task, words, list(found.values())) for name, task in found.items()}
    assert given["tagging/linear"] == ["--data.path", "x", "--layer", "2", "--nonsense", "1"]
    assert given["tagging/pos"] == ["--data.path", "x", "--lr", "1e-4", "3e-4", "--nonsense", "1"]
    assert understood(found["tagging/pos"], ["--layer", "2"], [found["tagging/pos"]]) == ["--layer", "2"]


def test_a_row_on_other_data_is_not_replaced(samples, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(samples["images"], "mine")
    words = ["classify/knn", "pixels", "--out", "out", "--data.path"]
    evaluate.main([*words, "mine"])
    kept = scores.read(tmp_path / "out")
    with pytest.raises(
        ValueError, match="scores.jsonl has a row of classify/knn on other data, --data.path .*mine: choose another"
    ):
        evaluate.main([*words, str(samples["images"])])
    assert scores.read(tmp_path / "out") == kept
    evaluate.main([*words, str(tmp_path / "mine")])

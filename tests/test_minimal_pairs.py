# SPDX-License-Identifier: Apache-2.0
"""Minimal pairs: BLiMP as it is published; scores equal those of transformers, one masked copy at a time."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pluri import recipes
from pluri.benchmarks import evaluate
from pluri.benchmarks.scores import read
from pluri.benchmarks.text.blimp import BlimpConfig, PairsConfig
from pluri.benchmarks.text.minimal_pairs import (
    Pair,
    accuracies,
    load_masked_model,
    pseudo_log_likelihoods,
    read_blimp,
    read_pairs,
    score_pairs,
)
from pluri.ssl import checkpoint
from pluri.text import tokenizer as wordpiece
from pluri.text.frontend import TextFrontEnd

SIZES = dict(
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=80,
    max_position_embeddings=150,
    initializer_range=0.2,
)
ROW = {
    "sentence_good": "Who should Derek hug?",
    "sentence_bad": "Who should hug Derek hug?",
    "field": "syntax",
    "linguistics_term": "island_effects",
    "UID": "adjunct_island",
    "pairID": "0",
}


@pytest.fixture
def folder(tmp_path, vocabulary):
    """Makes a Hugging Face folder of a small BERT of a kind with random weights; gives it and the model."""
    transformers = pytest.importorskip("transformers")

    def make(kind, **settings):
        torch.manual_seed(0)
        size = wordpiece.describe(vocabulary[1]).size
        model = kind_of(transformers, kind)(transformers.BertConfig(vocab_size=size, **SIZES, **settings)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path / kind)
        vocabulary[1].save(str(tmp_path / kind / wordpiece.FILE))
        return tmp_path / kind, model

    return make


def kind_of(transformers, kind):
    return {
        "BertForMaskedLM": transformers.BertForMaskedLM,
        "BertForPreTraining": transformers.BertForPreTraining,
        "BertModel": transformers.BertModel,
    }[kind]


@pytest.fixture
def sentences(prose):
    """Of uneven length, with unknown words, several scripts, and two that differ in case only."""
    every = [text for text in prose() if text]
    return [*every[:12], *every[-6:], "a", "The quick brown fox jumps.", "the QUICK brown fox jumps."]


def slow(model, tokenizer, sentence, hiding):
    """The score by transformers, one masked copy at a time; `tokenizers` says which tokens make up a word."""
    encoded = tokenizer.encode(sentence, add_special_tokens=False)
    start, stop, mask = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", "[MASK]"))
    ids = torch.tensor([[start, *encoded.ids, stop]])
    words = [None, *encoded.word_ids, None]
    total = 0.0
    for place in range(1, ids.shape[1] - 1):
        masked = ids.clone()
        for other in range(place, ids.shape[1] - 1):
            if other == place or (hiding == "word_l2r" and words[other] == words[place]):
                masked[0, other] = mask
        with torch.inference_mode():
            out = model(masked)
            logits = out.logits if "logits" in out else out.prediction_logits
        total += float(logits[0, place].log_softmax(-1)[ids[0, place]])
    return total


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertForPreTraining"])
@pytest.mark.parametrize("hiding", ["token", "word_l2r"])
def test_scores_equal_those_of_transformers_one_masked_copy_at_a_time(kind, hiding, folder, vocabulary, sentences):
    path, theirs = folder(kind)
    model = load_masked_model(str(path))
    assert not model.training and model.config.next_sentence == (kind == "BertForPreTraining")
    short = [sentence for sentence in sentences if len(sentence) < 80]
    found = pseudo_log_likelihoods(model.train(), short, hiding, batch=300)
    wanted = [slow(theirs, vocabulary[1], sentence, hiding) for sentence in short]
    assert found.dtype == np.float64 and len(short) > 10
    assert found == pytest.approx(wanted, abs=1e-4, rel=0)


def test_ways_of_hiding_differ_for_words_of_several_tokens_alone(folder, vocabulary):
    model = load_masked_model(str(folder("BertForMaskedLM")[0]))
    vocabulary_of = vocabulary[1].get_vocab()
    whole = [token for token in vocabulary_of if token.isalpha() and token.isascii()][:6]
    assert [len(vocabulary[1].encode(word).ids) for word in whole] == [1] * 6
    one_each, several = " ".join(whole), "jjjjajjj bcbcbc"
    tokens, words = (pseudo_log_likelihoods(model, [one_each, several], how) for how in ("token", "word_l2r"))
    assert tokens[0] == words[0] and abs(tokens[1] - words[1]) > 1e-2


def test_neither_batches_nor_neighbours_change_a_score_and_equal_tokens_tie(folder, sentences):
    model = load_masked_model(str(folder("BertForMaskedLM")[0]))
    together = pseudo_log_likelihoods(model, sentences)
    assert together == pytest.approx(pseudo_log_likelihoods(model, sentences, batch=1), abs=1e-4)
    assert together == pytest.approx(
        np.concatenate([pseudo_log_likelihoods(model, [sentence]) for sentence in sentences]), abs=1e-4
    )
    assert together[-1] == together[-2]
    assert pseudo_log_likelihoods(model, []).shape == (0,)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("hiding", ["token", "word_l2r"])
def test_scores_on_a_gpu_equal_those_on_the_cpu(hiding, folder, sentences):
    model = load_masked_model(str(folder("BertForMaskedLM")[0]))
    wanted = pseudo_log_likelihoods(model, sentences, hiding)
    assert pseudo_log_likelihoods(model.cuda(), sentences, hiding) == pytest.approx(wanted, abs=1e-2)


def test_a_sentence_of_nothing_and_a_model_without_a_tokenizer_are_refused(folder):
    model = load_masked_model(str(folder("BertForMaskedLM")[0]))
    with pytest.raises(ValueError, match=r"leaves nothing of the sentence '\\x00 '"):
        pseudo_log_likelihoods(model, ["Well.", "\0 "])
    assert isinstance(model.backbone.front_end, TextFrontEnd)
    model.backbone.front_end.tokenizer = None
    with pytest.raises(ValueError, match="without a tokenizer"):
        pseudo_log_likelihoods(model, ["Well."])


def test_a_run_is_loaded_with_the_weights_of_its_newest_checkpoint(tmp_path, vocabulary, sentences):
    recipe = recipes.find("text/bert_tiny")
    size = wordpiece.describe(vocabulary[1]).size
    recipe = dataclasses.replace(
        recipe,
        front_end=dataclasses.replace(recipe.front_end, vocab_size=size, width=48),
        encoder=dataclasses.replace(recipe.encoder, width=48, hidden=80),
    )
    assets = tmp_path / "assets"
    assets.mkdir()
    vocabulary[1].save(str(assets / wordpiece.FILE))
    recipe.save(tmp_path)
    with pytest.raises(ValueError, match="no finished checkpoint"):
        load_masked_model(str(tmp_path))
    for step in (5, 10):
        torch.manual_seed(step)
        model = recipe.build(assets).eval()
        checkpoint.save(tmp_path / checkpoint.name(step), dict(model.state_dict()), {}, {})
    found = load_masked_model(str(tmp_path))
    assert not found.training and found.pooler is not None
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert np.isfinite(pseudo_log_likelihoods(found, sentences)).all()


def test_what_has_no_head_for_masked_words_is_refused_in_one_line(tmp_path, folder):
    recipes.find("speech/wav2vec2_tiny").save(tmp_path)
    for name, words in (
        (str(tmp_path), "was trained by Wav2Vec2, which fills in no masked words"),
        (str(folder("BertModel")[0]), "lacks cls.predictions"),
        (str(folder("BertForMaskedLM", hidden_act="gelu_new")[0]), "uses gelu_new"),
        (str(tmp_path / "nowhere"), "nowhere: name one of a run directory, a Hugging Face folder or hub name"),
        ("random:text/bert_tiny", "no head for masked words: name a run directory, a Hugging Face folder or hub name"),
        ("fbank", "fbank has no head"),
        ("s3prl:tera", "s3prl:tera has no head"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            load_masked_model(name)
        assert "\n" not in str(caught.value)


def test_a_name_is_looked_for_on_the_hub(folder, sentences, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    path, _ = folder("BertForMaskedLM")

    def download(name, allow_patterns):
        if name != "some/bert":
            raise hub.errors.LocalEntryNotFoundError("no such model,\nand no network")
        return str(path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    found, wanted = (pseudo_log_likelihoods(load_masked_model(name), sentences) for name in ("some/bert", str(path)))
    assert np.array_equal(found, wanted)
    with pytest.raises(ValueError, match=r"no encoder other/bert: .*the hub says: no such model, and no network"):
        load_masked_model("other/bert")


def test_other_kinds_and_heads_with_vectors_of_their_own_are_refused(folder):
    from safetensors.torch import load_file, save_file

    path, _ = folder("BertForMaskedLM")
    weights = load_file(path / "model.safetensors")
    own = {**weights, "cls.predictions.decoder.weight": weights["bert.embeddings.word_embeddings.weight"].clone()}
    save_file(own, path / "model.safetensors", metadata={"format": "pt"})
    load_masked_model(str(path))
    own["cls.predictions.decoder.weight"] = own["cls.predictions.decoder.weight"] + 1
    save_file(own, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="vectors of its own"):
        load_masked_model(str(path))
    settings = json.loads((path / "config.json").read_text())
    for kind, words in (("distilbert", "holds a distilbert: .* bert, roberta are known"), ("roberta", "lacks lm_head")):
        (path / "config.json").write_text(json.dumps({**settings, "model_type": kind}))
        with pytest.raises(ValueError, match=words):
            load_masked_model(str(path))


def test_accuracies_are_means_over_paradigms_and_ties_are_wrong():
    pairs = [
        *[Pair("", "", "a", "binding", "syntax")] * 4,
        *[Pair("", "", "b", "binding", "semantics")] * 2,
        Pair("", "", "c", "quantifiers", "semantics"),
    ]
    found = accuracies(pairs, np.array([1.0, 2, 3, 4, 5, 6, 7]), np.array([0.0, 3, 3, 5, 0, 0, 7]))
    assert found == pytest.approx(
        {
            "accuracy": (0.25 + 1.0 + 0.0) / 3,
            "field/semantics": 0.5,
            "field/syntax": 0.25,
            "linguistics_term/binding": 0.625,
            "linguistics_term/quantifiers": 0.0,
            "UID/a": 0.25,
            "UID/b": 1.0,
            "UID/c": 0.0,
        }
    )


def test_a_folder_is_evaluated_as_pair_by_pair(tmp_path, folder, prose):
    model = load_masked_model(str(folder("BertForMaskedLM")[0]))
    texts = [text[:40] for text in prose()][:60]
    (tmp_path / "blimp" / "data").mkdir(parents=True)
    right = {"one": 0, "two": 0}
    for name, good, bad in (("one", texts[:15], texts[15:30]), ("two", texts[30:45], texts[45:60])):
        rows = [{**ROW, "sentence_good": g, "sentence_bad": b, "UID": name} for g, b in zip(good, bad, strict=True)]
        rows.append({**rows[0], "sentence_bad": rows[0]["sentence_good"].upper()})  # the same tokens
        text = "\n".join(json.dumps(row) for row in rows)
        (tmp_path / "blimp" / "data" / f"{name}.jsonl").write_text(text)
        for row in rows:
            one, other = (pseudo_log_likelihoods(model, [row[key]])[0] for key in ("sentence_good", "sentence_bad"))
            right[name] += int(one > other)
    assert right["one"] != right["two"]
    pairs = read_blimp(tmp_path / "blimp")
    found = accuracies(pairs, *score_pairs(model, pairs))
    assert (found["UID/one"], found["UID/two"]) == (right["one"] / 16, right["two"] / 16)
    assert found["accuracy"] == found["field/syntax"] == pytest.approx((right["one"] + right["two"]) / 32)
    assert read_blimp(tmp_path / "blimp" / "data") == pairs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            json.dumps(ROW) + "\n" + json.dumps({**ROW, "sentence_good": " "}),
            "line 2: sentence_good is ' ', not a text",
        ),
        (json.dumps({**ROW, "field": None}), "line 1: field is None"),
        (json.dumps({k: v for k, v in ROW.items() if k != "UID"}), "line 1: no UID, only sentence_good"),
        ("\n" + json.dumps(ROW)[:-1], "line 2: not JSON"),
        ("[1]", "line 1: not a JSON object"),
        ("\n", "holds no pair"),
    ],
)
def test_a_file_of_another_form_is_refused_by_name_and_line(text, words, tmp_path):
    (tmp_path / "broken.jsonl").write_text(text)
    with pytest.raises(ValueError, match=f"^.*broken.jsonl,? {words}.*$"):
        read_blimp(tmp_path)


def test_other_encodings_and_folders_without_pairs_are_refused(tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b"\n" + '{"UID": "é"}'.encode("latin-1"))
    with pytest.raises(ValueError, match="latin.jsonl, line 2: not UTF-8"):
        read_pairs(path)
    with pytest.raises(ValueError, match="has no .*jsonl"):
        read_blimp(tmp_path / "nowhere")


def test_the_published_pairs_are_read_and_scored_as_by_transformers(folder, vocabulary):
    root = os.environ.get("PLURI_TRIAL_DATA")
    blimp = Path(root or "", "text/blimp")
    if not root or not blimp.is_dir():
        pytest.skip("no blimp")
    pairs = read_blimp(blimp)
    files = sorted((blimp / "data").glob("*.jsonl"))
    assert len(pairs) == 100 * len(files) and {pair.paradigm for pair in pairs} == {file.stem for file in files}
    assert len({pair.phenomenon for pair in pairs}) == 12
    assert not any(pair.good == pair.bad for pair in pairs)
    path, theirs = folder("BertForMaskedLM")
    some = [sentence for pair in pairs[::400] for sentence in pair[:2]]
    found = pseudo_log_likelihoods(load_masked_model(str(path)), some, "word_l2r")
    assert found == pytest.approx([slow(theirs, vocabulary[1], x, "word_l2r") for x in some], abs=1e-4, rel=0)


def write_pairs(folder, count, words):
    """Two paradigms of pairs of sentences of equal length, of which neither is better."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name, field in (("one", "syntax"), ("two", "semantics")):
        drawn = rng.choice(words, (count, 2, 5))
        rows = [{**ROW, "sentence_good": " ".join(a), "sentence_bad": " ".join(b)} for a, b in drawn.tolist()]
        rows = [{**row, "UID": name, "field": field, "linguistics_term": f"{name}_of"} for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_the_command_writes_a_row_with_each_paradigm_and_its_random_twin_beside_it(
    tmp_path, folder, vocabulary, capsys
):
    words = [token for token in vocabulary[1].get_vocab() if token.isalpha() and token.isascii()]
    write_pairs(tmp_path / "blimp", 120, words)
    path = str(folder("BertForMaskedLM")[0])
    command = ["blimp", path, "--data.path", str(tmp_path / "blimp"), "--out", str(tmp_path / "out"), "--seeds", "2"]
    evaluate.main([*command, "--hiding", "word_l2r"])
    said = capsys.readouterr().out
    assert "2 of BLiMP's 67 paradigms are there" in said and "UID" not in said and "PLL-word-l2r" in said
    mine, twin = read(tmp_path / "out")
    groups = {"accuracy", "field/syntax", "field/semantics", "UID/one", "UID/two"}
    assert mine.scores.keys() == {*groups, "linguistics_term/one_of", "linguistics_term/two_of"}
    assert (mine.task, mine.encoder, mine.main, twin.encoder) == ("blimp/pairs", path, "accuracy", "random twin")
    pairs = read_blimp(tmp_path / "blimp")
    model = load_masked_model(path)
    assert mine.each == [accuracies(pairs, *score_pairs(model, pairs, "word_l2r"))] and mine.chosen[0]["pairs"] == 240
    assert len(twin.each) == 2 and twin.each[0] != twin.each[1] != mine.each[0]
    assert abs(twin.scores["accuracy"] - 0.5) < 0.1


def test_a_twin_has_other_weights_of_the_same_network_and_its_seed_decides(tmp_path, folder, vocabulary):
    words = [token for token in vocabulary[1].get_vocab() if token.isalpha() and token.isascii()]
    write_pairs(tmp_path / "blimp", 40, words)
    path = str(folder("BertForPreTraining")[0])
    config = BlimpConfig(data=PairsConfig(path=str(tmp_path / "blimp")), device="cpu")
    assert config.evaluate(path, 3)[0] == config.evaluate(path, 3)[0] != config.evaluate(path, 4)[0]


def test_a_folder_that_is_not_there_is_refused_in_one_line(tmp_path):
    for path in ("", str(tmp_path / "nowhere")):
        with pytest.raises(ValueError, match="set --data.path to BLiMP's folder"):
            BlimpConfig(data=PairsConfig(path=path)).evaluate("x", None)

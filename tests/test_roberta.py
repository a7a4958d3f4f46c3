# SPDX-License-Identifier: Apache-2.0
"""RoBERTa from a Hugging Face folder in each text task: ids, states, windows and scores are those of transformers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pluri.benchmarks.encoders import load, random_twin, start, text_tokenizer
from pluri.benchmarks.task import Score
from pluri.benchmarks.text.choices import ChoiceParts, ChoiceTask, Questions
from pluri.benchmarks.text.examples import Choices, Example
from pluri.benchmarks.text.minimal_pairs import load_masked_model, pseudo_log_likelihoods
from pluri.benchmarks.text.sentences import Parts, Sentences, SentenceTask
from pluri.benchmarks.text.similarity import cosines
from pluri.benchmarks.text.squad.answers import DecodeConfig, decode
from pluri.benchmarks.text.squad.files import Answer, Question
from pluri.benchmarks.text.squad.files import Questions as Asked
from pluri.benchmarks.text.squad.spans import WindowConfig, Windows, unspaced
from pluri.benchmarks.text.squad.task import Parts as SpanParts
from pluri.benchmarks.text.squad.task import SpanTask
from pluri.benchmarks.text.tagging.tagger import WordTags, word_accuracy
from pluri.benchmarks.text.tagging.words import NO_WORD, Sentence, Tagged
from pluri.ssl.data import Loader
from pluri.text import tokenizer as wordpiece
from pluri.text.frontend import TextFrontEnd

transformers = pytest.importorskip("transformers")

ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # in the order of the published vocabulary
TEXTS: tuple[str, ...] = (
    "The quick brown fox jumps over the lazy dog.",
    "the  dog's   naïve, isn't it?",
    " a leading space and\ta tab\nand a line",
    "Ärger in 1895-1943 (of Normans), 龘 and 諾曼人 \U0001f600!",
    "she said <mask> and <s>",
    "x",
)
PAIRS = ((TEXTS[0], TEXTS[1]), (TEXTS[3], "Who?"), ("a", TEXTS[2]), (TEXTS[5], TEXTS[5]))
SIZES = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=130,
    type_vocab_size=1,
    pad_token_id=1,
    bos_token_id=0,
    eos_token_id=2,
    layer_norm_eps=1e-5,
    initializer_range=0.2,
)


@pytest.fixture(scope="module")
def folder(prose, tmp_path_factory):
    """A small RobertaForMaskedLM with random weights and, in vocab.json and merges.txt, a byte-level BPE."""
    from tokenizers import ByteLevelBPETokenizer

    path = tmp_path_factory.mktemp("roberta")
    trained = ByteLevelBPETokenizer()
    texts = [*prose(), *TEXTS[:3] * 3]
    trained.train_from_iterator(texts, 420, 2, show_progress=False, special_tokens=list(ROBERTA))
    trained.save_model(str(path))
    torch.manual_seed(0)
    config = transformers.RobertaConfig(vocab_size=trained.get_vocab_size(), **SIZES)
    model = transformers.RobertaForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def theirs(folder):
    return transformers.RobertaTokenizerFast.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder):
    return transformers.RobertaModel.from_pretrained(folder, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def ours(folder):
    return wordpiece.load_tokenizer(folder)


def states(model, ids):
    """(T, D)."""
    with torch.inference_mode():
        return model(torch.tensor([ids])).last_hidden_state[0]


def rows(dataset):
    """Each row of ids and segments of a dataset, as the loader pads them, and a batch with several lengths."""
    for loaded in Loader(dataset=dataset, batch=300.0, seed=0).all():
        batch = loaded.batch
        assert batch is not None
        lengths = torch.full((len(batch.inputs),), batch.inputs.shape[1]) if batch.lengths is None else batch.lengths
        yield batch.inputs, lengths


def asked(context, *answers, question="who?"):
    found = [Answer(one, context.find(one)) for one in answers]
    items = [Question(f"q{i}", question, 0, (answer,), False) for i, answer in enumerate(found)]
    return Asked(Path("x.json"), [context], items, False)


def test_ids_are_those_of_transformers_from_each_kind_of_file(folder, theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "both")
    (tmp_path / "json").mkdir()
    shutil.copy(tmp_path / "both" / "tokenizer.json", tmp_path / "json")
    for path in (folder, folder / "vocab.json", tmp_path / "both", tmp_path / "json"):
        tokenizer = wordpiece.load_tokenizer(path)
        for text in TEXTS:
            assert tokenizer.encode(text, add_special_tokens=False).ids == theirs(text).input_ids[1:-1]
        assert tokenizer.get_vocab() == theirs.get_vocab()
    spaced = transformers.RobertaTokenizerFast.from_pretrained(folder, add_prefix_space=True)
    shutil.copytree(folder, tmp_path / "spaced")
    (tmp_path / "spaced" / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    tokenizer = wordpiece.load_tokenizer(tmp_path / "spaced")
    for text in TEXTS:
        assert tokenizer.encode(text, add_special_tokens=False).ids == spaced(text).input_ids[1:-1]


def test_texts_and_pairs_are_framed_as_each_model_was_trained(ours, theirs, vocabulary):
    bert = transformers.BertTokenizerFast.from_pretrained(vocabulary[0] / "text")
    for tokenizer, other, markers in ((ours, theirs, 4), (vocabulary[1], bert, 3)):
        frame = wordpiece.frame(tokenizer)
        assert frame.markers == markers
        for first, second in PAIRS:
            a, b = (tokenizer.encode(text, add_special_tokens=False).ids for text in (first, second))
            assert frame.one(a) == other(first).input_ids
            wanted = other(first, second, return_token_type_ids=True)
            assert frame.two(a, b) == wanted.input_ids and frame.two_segments(len(a), len(b)) == wanted.token_type_ids
            assert frame.two(a, b)[frame.begin(len(a)) :] == [*b, frame.stop]


def test_an_objective_knows_the_special_ids_and_which_tokens_begin_words(ours, theirs):
    described = wordpiece.describe(ours)
    assert described.size == len(theirs) and described.mask_id == theirs.mask_token_id
    names = (theirs.pad_token, theirs.unk_token, theirs.cls_token, theirs.sep_token, theirs.mask_token)
    assert described.special_ids == tuple(theirs.convert_tokens_to_ids(list(names)))
    assert described.continues is not None and not described.continues[list(described.special_ids)].any()
    for token, number in theirs.get_vocab().items():
        if token not in names:
            begins = theirs.decode([number], clean_up_tokenization_spaces=False).startswith(" ")
            assert bool(described.continues[number]) != begins


@pytest.mark.parametrize("longest", [100, 20])
def test_states_of_texts_and_pairs_are_those_of_transformers_in_a_padded_batch(folder, ours, theirs, model, longest):
    examples = [Example(str(i), first, second) for i, (first, second) in enumerate(PAIRS)]
    examples += [Example(f"one {i}", text) for i, text in enumerate(TEXTS)]
    data = Sentences(examples, ours, (), longest)
    if longest == 100:
        wanted = [theirs(one.first, one.second).input_ids for one in examples]
        assert [data.load(record, 0).inputs[:, 0].tolist() for record in data.records] == wanted
    backbone = load(folder)
    seen = 0
    for inputs, lengths in rows(data):
        assert not inputs[..., 1].any() and int(lengths.max()) <= longest
        encoded = backbone(inputs, lengths, layers=False)
        for row, ids, length in zip(encoded.x, inputs[..., 0], lengths.tolist(), strict=True):
            torch.testing.assert_close(row[:length], states(model, ids[:length].tolist()), atol=1e-5, rtol=0)
            seen += 1
    assert seen == len(examples)


def test_candidates_are_pairs_and_their_states_those_of_transformers(folder, ours, theirs, model):
    examples = [Choices("0", TEXTS[0], (TEXTS[1], TEXTS[5]), 0), Choices("1", TEXTS[3], (TEXTS[2], "Who?"), 1)]
    wanted = [theirs(one.first, text).input_ids for one in examples for text in one.candidates]
    data, backbone = Questions(examples, ours, 128), load(folder)
    assert data.sizes.sum() == sum(map(len, wanted))
    found = []
    for inputs, lengths in rows(data):
        assert not inputs[..., 1].any()
        encoded = backbone(inputs, lengths, layers=False)
        for row, ids, length in zip(encoded.x, inputs[..., 0], lengths.tolist(), strict=True):
            found.append(ids[:length].tolist())
            torch.testing.assert_close(row[:length], states(model, found[-1]), atol=1e-5, rtol=0)
    assert sorted(found) == sorted(wanted)
    assert Questions(examples, ours, 16).load(np.array([0]), 0).rows == (16, 16)


def test_windows_of_questions_are_those_of_transformers_and_their_places_leave_spaces_out(ours, theirs):
    context = " ".join(TEXTS[:4]) * 3
    questions = asked(context, "fox", "naïve", "1895", "諾曼人", question="Who was it?")
    config = WindowConfig(longest=60, stride=20, question=20)
    windows = Windows(questions, ours, config, training=True)
    room = config.longest - len(theirs("Who was it?", add_special_tokens=False).input_ids) - 4
    wanted = theirs(
        "Who was it?",
        context,
        max_length=config.longest,
        truncation="only_second",
        stride=room - config.stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    per_question, found = len(wanted.input_ids), set()
    assert per_question > 5 and len(windows.records) == 4 * per_question and not windows.bad
    for number in range(4 * per_question):
        window, place = windows.window(number), number % per_question
        assert window.ids == wanted.input_ids[place] and not any(window.segments)
        assert windows.sizes[number] == 1 and len(window.ids) <= config.longest
        places = windows.paragraphs[0].places[window.first : window.first + window.length].tolist()
        for (begin, end), (first, last) in zip(places, wanted.offset_mapping[place][window.begin : -1], strict=True):
            assert end == last and begin == (first if first < last or not end else end - 1)
            assert context[begin:end] == context[begin:end].strip() or not context[begin:end].strip()
        if window.start:
            text = questions.items[window.question].answers[0].text
            first, last = (token - window.begin + window.first for token in (window.start, window.end))
            said = context[windows.paragraphs[0].places[first, 0] : windows.paragraphs[0].places[last, 1]]
            assert said == text
            found.add(text)
    assert found == {"fox", "naïve", "1895", "諾曼人"}


def test_sure_starts_and_ends_become_the_answers_to_the_letter(ours):
    context = TEXTS[3] + "  Then " + TEXTS[1]
    answers = ("Ärger", "1895", "Normans", "諾曼人", "\U0001f600", "dog's", "naïve", "Normans), 龘 and")
    windows = Windows(asked(context, *answers), ours, training=True)
    logits = []
    for number in range(len(windows.records)):
        window = windows.window(number)
        both = np.zeros((2, len(window.ids)), dtype=np.float32)
        both[0, window.start] = both[1, window.end] = 9.0
        logits.append(both)
    found = decode(windows, [one[0] for one in logits], [one[1] for one in logits], DecodeConfig())
    assert tuple(found.texts().values()) == answers


def test_a_token_of_nothing_but_space_has_a_place_whether_it_was_trimmed_or_not():
    text = "a  b"
    assert unspaced(text, 1, 2) == unspaced(text, 2, 2) == (1, 2)
    assert unspaced(text, 2, 4) == unspaced(text, 3, 4) == (3, 4)
    assert unspaced(text, 0, 0) == (0, 0) and unspaced(text, 0, 1) == (0, 1)


@pytest.mark.parametrize("spaced", [False, True])
def test_words_are_tagged_at_the_first_token_that_transformers_gives_them(folder, spaced, tmp_path):
    other = transformers.RobertaTokenizerFast.from_pretrained(folder, add_prefix_space=True)
    if spaced:
        other.save_pretrained(tmp_path)
    tokenizer = wordpiece.load_tokenizer(tmp_path if spaced else folder)
    sentences = [Sentence(text.split(), ["A", "B"] * 9) for text in TEXTS[:4]]
    sentences = [Sentence(one.words, one.tags[: len(one.words)]) for one in sentences]
    data = Tagged(sentences, tokenizer, ["A", "B"], 100)
    assert data.unread == 0
    for sentence, (ids, tags) in zip(sentences, data.items, strict=True):
        wanted = other(sentence.words, is_split_into_words=True)
        assert ids == wanted.input_ids
        words = wanted.word_ids()
        first = [word is not None and words.index(word) == i for i, word in enumerate(words)]
        assert [tag != NO_WORD for tag in tags] == first
        assert ["AB"[tag - 1] for tag in tags if tag != NO_WORD] == sentence.tags


@pytest.mark.parametrize("hiding", ["token", "word_l2r"])
def test_pseudo_likelihoods_equal_a_slow_loop_with_transformers(folder, theirs, hiding):
    masked = transformers.RobertaForMaskedLM.from_pretrained(folder).eval()
    texts = [text for text in TEXTS if "<" not in text]
    wanted = []
    for text in texts:
        encoded = theirs(text)
        ids, words = torch.tensor([encoded.input_ids]), encoded.word_ids()
        total = 0.0
        for place in range(1, len(words) - 1):
            hidden = ids.clone()
            for other in range(place, len(words) - 1):
                if other == place or (hiding == "word_l2r" and words[other] == words[place]):
                    hidden[0, other] = theirs.mask_token_id
            with torch.inference_mode():
                total += float(masked(hidden).logits[0, place].log_softmax(-1)[ids[0, place]])
        wanted.append(total)
    found = pseudo_log_likelihoods(load_masked_model(str(folder)), texts, hiding, batch=300)
    assert found == pytest.approx(wanted, abs=1e-4, rel=0)


def test_a_model_without_the_head_for_masked_words_is_refused(folder, model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lacks lm_head.dense, .* save a RobertaForMaskedLM there"):
        load_masked_model(str(tmp_path))


def test_cosines_are_those_of_the_mean_states_of_transformers(folder, theirs, model):
    examples = [Example(str(i), first, second) for i, (first, second) in enumerate(PAIRS)]
    wanted = []
    for pair in PAIRS:
        first, second = (states(model, theirs(text).input_ids).mean(0) for text in pair)
        wanted.append(float(torch.cosine_similarity(first, second, dim=0)))
    assert cosines(load(folder), examples) == pytest.approx(wanted, abs=1e-5)


def test_the_tokenizer_goes_along_to_a_random_twin(folder, ours):
    twin = random_twin(load(folder), 0)
    tokenizer = text_tokenizer(twin)
    assert wordpiece.frame(tokenizer) == wordpiece.frame(ours) and tokenizer.get_vocab() == ours.get_vocab()


def test_each_kind_of_task_has_a_loss_on_it(folder):
    begin = start(str(folder))
    assert begin.pooler is None
    one = Example("0", TEXTS[0], TEXTS[1], "yes")
    no_score = Score("accuracy", {"accuracy": 0.0})
    questions = asked(TEXTS[0], "brown")
    choices = [Choices("0", TEXTS[0], ("a", "dog"), 1)]
    sentences = {part: [Sentence(["The", "dog"], ["A", "B"])] for part in ("train", "dev", "test")}
    tasks = (
        SentenceTask(begin, Parts([one], {"": [one]}), ("no", "yes"), lambda *_: no_score),
        ChoiceTask(begin, ChoiceParts(choices, {"": choices}), lambda *_: no_score),
        SpanTask(begin, SpanParts(questions, questions), WindowConfig(longest=100), DecodeConfig()),
        WordTags(begin, sentences, 64, "A", word_accuracy),
    )
    for task in tasks:
        head = task.head(32)
        data = task.data(begin.backbone).train
        batch = next(iter(Loader(dataset=data, batch=1.0, seed=0).all())).batch
        assert batch is not None
        outputs = head(begin.backbone(batch.inputs, batch.lengths, layers=False))
        loss = task.loss(outputs, batch)
        loss.backward()
        assert loss.isfinite() and loss > 0
        assert isinstance(begin.backbone.front_end, TextFrontEnd)
        word = begin.backbone.front_end.table()
        assert word.grad is not None and word.grad.abs().sum() > 0
        word.grad = None


def test_what_is_not_robertas_kind_of_tokenizer_is_refused_and_its_weights_load_without(folder, tmp_path):
    shutil.copy(folder / "vocab.json", tmp_path)
    with pytest.raises(ValueError, match="vocab.json has no merges.txt beside it"):
        wordpiece.load_tokenizer(tmp_path)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, tmp_path)
    with pytest.raises(ValueError, match="without a tokenizer"):
        text_tokenizer(load(tmp_path))
    pieces = Tokenizer(models.Unigram([(token, 0.0) for token in ROBERTA], unk_id=3))  # XLM-R's kind
    pieces.decoder = decoders.Metaspace()
    pieces.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"has no \[PAD\], .* BERT's special tokens"):
        wordpiece.load_tokenizer(tmp_path)
    bytewise = Tokenizer(models.BPE({token: i for i, token in enumerate(ROBERTA[:4])}, []))
    bytewise.pre_tokenizer, bytewise.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    bytewise.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"has no <mask>: RoBERTa's special tokens"):
        wordpiece.load_tokenizer(tmp_path)

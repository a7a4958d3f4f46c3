# SPDX-License-Identifier: Apache-2.0
"""SUPERB's heads, losses, targets, batches and metrics against s3prl's own modules, with the same weights."""

import importlib.util
import random
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from pluri.benchmarks.superb.asv.verification import equal_error_rate
from pluri.benchmarks.superb.asv.xvector import REACH, XVector
from pluri.benchmarks.superb.clips import Clips
from pluri.benchmarks.superb.ctc.buckets import buckets
from pluri.benchmarks.superb.ctc.errors import character_error_rate, greedy, word_error_rate
from pluri.benchmarks.superb.ctc.heads import LinearHeads, Recurrent
from pluri.benchmarks.superb.ctc.loss import ctc_losses
from pluri.benchmarks.superb.ctc.spec_augment import warped
from pluri.benchmarks.superb.ctc.targets import letter_vocabulary, letters_of, slot_vocabulary, slots_of
from pluri.benchmarks.superb.featurizer import FeaturizerConfig
from pluri.benchmarks.superb.layouts.librimix import kaldi
from pluri.benchmarks.superb.qbe.spoken_terms import SHORTEST, search, standardise
from pluri.benchmarks.superb.sd.chunks import cut
from pluri.benchmarks.superb.sd.head import Diarizer, permuted, right

pytestmark = pytest.mark.skipif(importlib.util.find_spec("s3prl") is None, reason="needs s3prl")
ONE = FeaturizerConfig(kind="layer")
LENGTHS = [23, 40, 17, 31]


def rows(width: int, lengths: list[int] = LENGTHS) -> tuple[Tensor, Tensor]:
    """Frames back to back, (N, 1, D), and padded with what must not be seen, (B, T, D)."""
    torch.manual_seed(7)
    x = torch.randn(sum(lengths), 1, width)
    padded = torch.full((len(lengths), max(lengths), width), 50.0)
    for row, part in zip(padded, x.split(lengths), strict=True):
        row[: len(part)] = part[:, 0]
    return x, padded


def lend(to: nn.Module, weights: dict[str, Tensor]) -> None:
    """Gives a module of s3prl's all of its weights."""
    assert to.state_dict().keys() == weights.keys()
    to.load_state_dict(weights)


def unpadded(x: Tensor, lengths: list[int] = LENGTHS) -> Tensor:
    return torch.cat([row[:length] for row, length in zip(x, lengths, strict=True)])


@torch.no_grad()
def test_the_linear_head_of_pr_and_its_loss(peer):
    theirs, projector = peer("downstream.model").FrameLevel(256, 12), nn.Linear(5, 256)
    ours = LinearHeads((0,), 1, 1, 5, 12, ONE)
    lend(theirs, {"linear.weight": ours.out[0, 0].T, "linear.bias": ours.out_bias[0, 0, 0]})
    lend(projector, {"weight": ours.into[0, 0].T, "bias": ours.into_bias[0, 0, 0]})
    x, padded = rows(5)
    said, _ = theirs(projector(padded))
    found = ours.logits(0, 0, x, LENGTHS)
    assert torch.allclose(found, unpadded(said), atol=1e-5)
    targets = [[3, 3, 4, 1], [5, 6, 7, 8, 9, 1], [*range(3, 12)] * 2, [4, 1]]  # the third asks for 18 frames of 17
    wanted = nn.utils.rnn.pad_sequence([torch.tensor(one) for one in targets], batch_first=True)
    sizes = torch.tensor([len(one) for one in targets])
    objective = nn.CTCLoss(blank=0, zero_infinity=True)  # as downstream/ctc/expert.py has it
    loss = objective(said.log_softmax(-1).transpose(0, 1), wanted, torch.tensor(LENGTHS), sizes)
    assert float(ctc_losses(found[None], LENGTHS, targets, 0)[0]) == pytest.approx(float(loss), rel=1e-5)
    assert float(loss) > 1.0


@pytest.mark.parametrize("rate", [160, 320])
def test_the_recurrent_head_of_asr_and_sf(peer, rate):
    layers = {"dim": [6, 6], "dropout": [0.2, 0.2], "layer_norm": [False] * 2, "proj": [False] * 2}
    shape = {"module": "LSTM", "bidirection": True, "sample_rate": [1, 1], "sample_style": "concat", "total_rate": -1}
    theirs = peer("downstream.asr.model").RNNs(6, 9, upstream_rate=rate, **layers, **shape).eval()
    projector = nn.Linear(5, 6)
    torch.manual_seed(1)
    ours = Recurrent(1, 5, 9, ONE, 6)
    lend(projector, ours.project.state_dict())
    named = {f"rnns.{i}.layer.{name}": value for i in (0, 1) for name, value in ours.lstms[i].state_dict().items()}
    lend(theirs, named | {f"linear.{name}": value for name, value in ours.out.state_dict().items()})
    x, padded = rows(5)
    with torch.no_grad():
        said, lengths = theirs(projector(padded), torch.tensor(LENGTHS))
        assert lengths.tolist() == LENGTHS and torch.allclose(ours(x, LENGTHS), unpadded(said), atol=1e-6)
    paths = [
        one.unique_consecutive().tolist() for one in (row[:n].argmax(-1) for row, n in zip(said, LENGTHS, strict=True))
    ]
    assert greedy(said, LENGTHS, 0, (1,)) == [[token for token in path if token not in (0, 1)] for path in paths]


def test_the_time_warp_of_spec_augment(peer, monkeypatch):
    module = peer("downstream.specaug")
    x = torch.randn(30, 4)
    for centre, to in ((12, 8), (12, 16), (5, 1), (24, 29)):
        drawn = iter((torch.tensor([centre]), torch.tensor([to - 1])))
        monkeypatch.setattr(torch, "randint", lambda *words, drawn=drawn: next(drawn))
        said = module.TimeWarp(window=5).time_warp(x[None].clone())[0]
        assert torch.allclose(warped(x, centre, to), said, atol=1e-6)


def test_the_network_of_asv_and_its_loss(peer):
    module = peer("downstream.sv_voxceleb1.model")
    frames = {"agg_dim": 1500, "dropout_p": 0.0, "batch_norm": False}
    theirs = module.Model(512, 1500, "SP", "XVector", "UtteranceExtractor", frames)
    loss, connector = module.AMSoftmaxLoss(512, 7), nn.Linear(5, 512)
    torch.manual_seed(2)
    ours = XVector(1, 5, 7, ONE)
    weights = {}
    for number, layer in enumerate(ours.contexts):
        kernel = f"framelevel_feature_extractor.module.{number}.kernel"
        # Theirs unfolds frames times features, ours has features first.
        weight, weights[f"{kernel}.bias"] = layer.parameters()
        weights[f"{kernel}.weight"] = weight.transpose(1, 2).flatten(1)
    for name, layer in (("linear1", ours.segment), ("linear2", ours.after)):
        weights |= {f"utterancelevel_feature_extractor.{name}.{one}": value for one, value in layer.named_parameters()}
    lend(theirs, weights)
    lend(connector, ours.into.state_dict())
    lend(loss, {"W": ours.speakers})
    x, labels = torch.randn(3 * 29, 1, 5), torch.tensor([6, 0, 3])
    features = connector(x.view(3, 29, 5))
    heard = torch.zeros(3, 29 - REACH + 1)  # the mask of what is no padding: nothing is, as all are of one length
    with torch.no_grad():
        said = theirs.inference(features, heard)
        assert torch.allclose(ours(x, [29] * 3), nn.functional.normalize(said, dim=-1), atol=1e-5)
        one = loss(theirs(features, heard), labels)
        assert float(ours(x, [29] * 3, labels)) == pytest.approx(float(one), rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_the_equal_error_rate(peer, seed):
    rng = np.random.default_rng(seed)
    same = rng.integers(0, 2, 400)
    scores = np.round(rng.standard_normal(400) + same, (8, 8, 1, 0)[seed])  # the last two have many ties
    rate, _ = peer("downstream.sv_voxceleb1.utils").EER(same, scores)
    assert equal_error_rate(same, scores) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize("speakers", [2, 3])
def test_the_network_of_sd_its_loss_and_its_accuracy(peer, speakers):
    theirs = peer("downstream.diarization.model").Model(5, speakers, 1, 512)
    module = peer("downstream.diarization.utils")
    torch.manual_seed(3)
    ours = Diarizer(1, 5, speakers, ONE)
    named = {f"rnn.{name}": value for name, value in ours.lstm.state_dict().items()}
    lend(theirs, named | {f"linear.{name}": value for name, value in ours.out.state_dict().items()})
    x, padded = rows(5)
    targets = torch.rand(len(LENGTHS), max(LENGTHS), speakers).round()
    for row, length in zip(targets, LENGTHS, strict=True):
        row[length:] = 0
    with torch.no_grad():
        said = theirs(padded)
        assert torch.allclose(unpadded(ours(x, LENGTHS)), unpadded(said), atol=1e-6)
        loss, chosen, orders = module.pit_loss(said, targets, torch.tensor(LENGTHS))
        assert float(ours(x, LENGTHS, targets)) == pytest.approx(float(loss), rel=1e-5)
        _, order = permuted(said, targets, LENGTHS)
        assert order.tolist() == [orders[number].tolist() for number in chosen]
        meant = module.get_label_perm(targets, chosen, orders)
        count = module.calc_diarization_error(said, meant, torch.tensor(LENGTHS))[0]  # divided by the speakers
        assert int(right(said, targets, LENGTHS).sum()) == round(count * speakers)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves files open
def test_chunks_and_labels_of_sd(peer, tmp_path):
    """Turns within a chunk or over one border; s3prl drops those that outlast a chunk on both sides."""
    turns = [("a", 0.0, 0.61), ("b", 0.415, 1.302), ("a", 1.1, 1.6), ("b", 2.0, 2.304)]
    soundfile.write(tmp_path / "r.wav", np.zeros(round(2.5 * 16000), np.float32), 16000)
    files = {
        "wav.scp": [f"r {tmp_path / 'r.wav'}"],
        "reco2dur": ["r 2.5"],
        "utt2spk": [f"{i} {who}" for i, (who, _, _) in enumerate(turns)],
        "spk2utt": ["a 0 2", "b 1 3"],
        "segments": [f"{i} r {start} {end}" for i, (_, start, end) in enumerate(turns)],
    }
    for name, lines in files.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    data = peer("downstream.diarization.dataset").DiarizationDataset(
        "train", str(tmp_path), chunk_size=100, frame_shift=160, num_speakers=2
    )
    (utterance,) = kaldi(tmp_path, "train", [])
    chunks = cut(utterance, Clips(hop=160), 100, 2).chunks
    assert [chunk.frames for chunk in chunks] == [len(data[i][1]) for i in range(len(data))] == [100, 100, 50]
    for i, chunk in enumerate(chunks):
        assert np.array_equal(chunk.labels, data[i][1])


def test_the_buckets_and_targets_of_asr(peer, tmp_path):
    said = {f"1-2-{i:04d}": text for i, text in enumerate(("SO IT IS", "A", "DON'T", "YES NO", "HM", "OH WELL", "I"))}
    folder = tmp_path / "train-clean-100" / "1" / "2"
    folder.mkdir(parents=True)
    (folder / "1-2.trans.txt").write_text("".join(f"{name} {text}\n" for name, text in said.items()))
    samples = [48000, 16000, 33000, 20000, 64000, 30000, 17000]
    table = [f"train-clean-100/1/2/{name}.flac,{length}" for name, length in zip(said, samples, strict=True)]
    (tmp_path / "train-clean-100.csv").write_text("\n".join(["file_path,length", *table]) + "\n")
    words = peer("downstream.asr.dictionary").Dictionary()
    vocabulary = letter_vocabulary()
    for letter in vocabulary.symbols[4:]:
        words.add_symbol(letter)
    assert [words[number] for number in range(len(words))] == list(vocabulary.symbols)
    roots = {"libri_root": str(tmp_path), "bucket_file": str(tmp_path), "train": ["train-clean-100"]}
    theirs = peer("downstream.asr.dataset").SequenceDataset("train", 4, words, **roots)
    batches = [[Path(one).stem for one in batch] for batch in theirs.X]
    names = list(said)
    assert batches == [[names[i] for i in one] for one in buckets([n / 16000 for n in samples], 4, True)]
    for name, text in said.items():
        assert theirs.Y[name].tolist() == vocabulary.encode(letters_of(text))
        assert vocabulary.text(theirs.Y[name].tolist()) == text


def test_the_targets_of_sf(peer):
    slots = ("artist", "playlist", "year")
    named = [f"{mark}-{slot}" for slot in slots for mark in "BE"]
    theirs = peer("downstream.ctc.text").CharacterTextSlotEncoder(list(" ABCDEFGHIJKLMNOPQRSTUVWXYZ'"), named)
    vocabulary = slot_vocabulary(slots)
    rng = random.Random(0)
    for _ in range(300):
        text = [rng.choice(("PLAY", "QUEEN", "&", "NOW", "1999", ",", "DON'T")) for _ in range(rng.randint(1, 9))]
        tags = [rng.choice(("O", "O", *slots)) if word != "," else "O" for word in text]
        text, tags = [*text, "NOW"], [*tags, "O"]  # what differs by intent is punctuation at an end
        wanted = theirs.encode(f"BOS {' '.join(text)} EOS\tO {' '.join(tags)} O")
        assert vocabulary.encode(slots_of(" ".join(text), tags)) == wanted
        assert vocabulary.text(wanted) == theirs.decode(wanted)


def test_error_rates(peer):
    theirs, rng = peer("downstream.ctc.metric"), random.Random(1)
    words = ["A", "BE", "SEA", "A", "DEED"]
    said, meant = ([" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(200)] for _ in range(2))
    assert word_error_rate(said, meant) == pytest.approx(theirs.wer(said, meant))
    assert character_error_rate(said, meant) == pytest.approx(theirs.cer(said, meant))


def test_the_search_of_qbe(peer, tmp_path, monkeypatch):
    pytest.importorskip("dtw")
    module = peer("downstream.quesst14_dtw.expert")
    monkeypatch.setattr(module, "ProcessPoolExecutor", ThreadPoolExecutor)
    dtw = {"dist_method": "cosine_exp", "step_pattern": "asymmetric", "minmax_norm": True, "subsequence": True}
    other = {"max_workers": 1, "feature_normalization": True, "silence_frame": None, "datarc": {}}
    expert = module.DownstreamExpert(6, {**other, "dtwrc": dtw}, str(tmp_path))
    torch.manual_seed(4)
    features = [torch.randn(n, 6).double() for n in (12, 7, SHORTEST - 1, SHORTEST, 30, 9, 21, 5, 40)]
    names = [f"query{i}" for i in range(4)] + [f"document{i}" for i in range(5)]
    features[6][3:15] = features[0] + 0.1 * torch.randn(12, 6)
    expert.test_dataset = SimpleNamespace(n_queries=4)
    expert.log_records("eval", {"features": features, "audio_names": names})
    ready = standardise(features)
    found = search(ready[:4], ready[4:])
    lists = {one.get("termid"): one for one in ET.parse(tmp_path / "benchmark.stdlist.xml").getroot()}
    for name, row in zip(names, found, strict=False):
        said = {term.get("file"): float(term.get("score", "")) for term in lists[name]}
        assert [said[document] for document in names[4:]] == pytest.approx(row.tolist(), abs=6e-5)  # of four decimals
    assert int(found[0].argmax()) == 2 and not found[2].any()

# SPDX-License-Identifier: Apache-2.0
"""What an encoder says reaches the host whole and in order, one batch behind, and nothing is waited for before."""

import threading
import time

import pytest
import soundfile
import torch

from pluri.benchmarks import encoders, extract, features, host
from pluri.benchmarks.labelled import Labelled, LabelledConfig, read
from pluri.ssl.encoder import Backbone


def batches(said, count):
    for number in range(count):
        said.append(f"make {number}")
        yield number, [torch.full((2,), number), torch.full((3,), -number)]


@pytest.mark.parametrize(
    ("count", "order"),
    [
        (0, []),
        (1, ["make 0", "read 0"]),
        (3, ["make 0", "make 1", "read 0", "make 2", "read 1", "read 2"]),
    ],
)
def test_a_batch_is_read_once_the_next_one_has_been_asked_for(count, order):
    said = []
    for number, (x, y) in host.behind(batches(said, count)):
        assert x.tolist() == [number] * 2 and y.tolist() == [-number] * 3
        said.append(f"read {number}")
    assert said == order


def test_what_a_gpu_sends_is_read_after_its_event():
    said = []

    class Event(torch.cuda.Event):
        def synchronize(self):
            said.append("waited")

    sent = host.Sent([torch.ones(2)], Event())
    assert not said and sent.read() == sent.tensors and said == ["waited"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_not_waited_for_and_what_it_sends_is_right():
    x = host.to_device(torch.rand(4000, 4000), torch.device("cuda"))
    wanted = x
    for _ in range(50):
        wanted = (wanted @ x).softmax(-1)
    wanted = wanted.cpu()
    y = x
    begin = time.perf_counter()
    for _ in range(50):
        y = (y @ x).softmax(-1)
    sent = host.send([y, y.half()])
    assert time.perf_counter() - begin < 0.02 and sent.tensors[0].is_pinned()
    assert sent.there is not None and not sent.there.query()
    assert torch.equal(sent.read()[0], wanted) and torch.equal(sent.tensors[1], wanted.half())


@pytest.fixture
def clips(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(6):
            wave = 0.1 * torch.randn(4000 + 900 * i, generator=torch.Generator().manual_seed(i))
            soundfile.write(tmp_path / "data" / label / f"{i}.wav", wave.numpy(), 16000)
    return tmp_path / "data"


@pytest.fixture
def said(monkeypatch):
    """What happens, one word after the other; batches hold two clips or so."""
    words, forward, send, wait = [], Backbone.forward, host.send, host.Sent.read
    monkeypatch.setitem(features.COST, "seconds", 1.0)
    monkeypatch.setattr(Backbone, "forward", lambda *a, **k: words.append("encode") or forward(*a, **k))
    monkeypatch.setattr(host, "send", lambda tensors: words.append("send") or send(tensors))
    monkeypatch.setattr(host.Sent, "read", lambda sent: words.append("read") or wait(sent))
    return words


def in_turn(words):
    """Whether each batch is sent as soon as it is encoded, and read when the next one has been."""
    many = words.count("encode")
    return many > 3 and words == ["encode", "send", *["encode", "send", "read"] * (many - 1), "read"]


def test_extracted_states_are_read_one_batch_behind(clips, tmp_path, said):
    backbone = encoders.load("random:speech/mockingjay_tiny")
    assert extract.extract(backbone, str(clips), tmp_path / "out", workers=0)[0] == 12 and in_turn(said)


def test_vectors_are_read_one_batch_behind(clips, said):
    backbone = encoders.load("fbank")
    data = read(LabelledConfig(path=str(clips)), backbone).train
    assert features.vectors(backbone, data).x.shape == (len(data.labels), 160) and in_turn(said)


def test_the_next_batch_is_loaded_while_one_is_encoded(clips, monkeypatch):
    monkeypatch.setitem(features.COST, "seconds", 1.0)
    monkeypatch.setattr(features, "find_device", lambda wanted: torch.device("cpu"))
    backbone = encoders.load("fbank")
    data = read(LabelledConfig(path=str(clips)), backbone).train
    batch, load, forward = threading.Event(), Labelled.load, Backbone.forward
    encoded, loaded = [], []

    def loading(self, record, key):
        loaded.append(int(record[0]))
        if len(loaded) > sum(encoded):
            batch.set()
        return load(self, record, key)

    def encode(self, inputs, lengths, layers):
        batch.clear()
        encoded.append(len(inputs))
        if sum(encoded) < len(data.labels):
            assert len(loaded) > sum(encoded) or batch.wait(20), "nothing is read meanwhile"
        return forward(self, inputs, lengths, layers)

    monkeypatch.setattr(Labelled, "load", loading)
    monkeypatch.setattr(Backbone, "forward", encode)
    features.vectors(backbone, data)
    assert len(encoded) > 3 and len(set(loaded)) == len(loaded) == sum(encoded)

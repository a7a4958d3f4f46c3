# SPDX-License-Identifier: Apache-2.0
"""The feature store gives what the encoder gives, is filled once, and goes on after a fill that was cut off."""

import contextlib
import fcntl
import json
import re
import shutil
import threading

import numpy as np
import pytest
import soundfile
import torch

from pluri.benchmarks.encoders import load
from pluri.benchmarks.superb import store as module
from pluri.benchmarks.superb.clips import Clips, batches
from pluri.benchmarks.superb.featurizer import FeaturizerConfig, hop
from pluri.benchmarks.superb.states import Online, Reading
from pluri.benchmarks.superb.store import Beside, Store, StoreConfig, estimate, open_states, remove
from pluri.benchmarks.superb.utterances import Utterance
from pluri.speech import audio

LENGTHS = (0.31, 1.2, 0.05, 0.8, 0.5, 1.9, 0.33)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for i, seconds in enumerate(LENGTHS):
        soundfile.write(root / f"{i}.wav", 0.1 * rng.standard_normal(round(16000 * seconds)), 16000)
    return root


@pytest.fixture(scope="module")
def backbone():
    return load("random:speech/wav2vec2_tiny")


def clips_of(folder, gain=0.0):
    clips = Clips(gain)
    for i, seconds in enumerate(LENGTHS):
        clips.add(Utterance(str(i), folder / f"{i}.wav", end=seconds))
    clips.add(Utterance("piece", folder / "5.wav", start=0.5, end=1.25))
    return clips


def reading(backbone, pooled, normalize=False):
    return Reading.of(backbone, FeaturizerConfig(normalize=normalize), pooled, "fp32")


def expected(clips, read):
    """Each clip alone, layer by layer."""
    out = []
    for number in range(len(clips)):
        wave = clips.read(number)
        encoded = read.backbone(wave[None], torch.tensor([len(wave)]))
        x = torch.stack([layer[0] for layer in encoded.layers], 1)[:, list(read.layers)].detach()
        x = torch.nn.functional.layer_norm(x, x.shape[-1:]) if read.normalize else x
        out.append(x.mean(0, keepdim=True) if read.pooled else x)
    return out


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 1e-3), ("bf16", 8e-3), ("fp32", 2e-5)])
@pytest.mark.parametrize("pooled", [True, False])
def test_the_store_gives_what_the_encoder_says_of_each_clip_alone(
    folder, backbone, tmp_path, pooled, dtype, tolerance, normalize
):
    clips, read = clips_of(folder), reading(backbone, pooled, normalize=normalize)
    states = open_states(StoreConfig(dtype=dtype, seconds=3.0), tmp_path, clips, read, lambda line: None)
    assert isinstance(states, Store) and states.missing == 0
    order = [3, 0, 7, 7, 2, 5]
    x, lengths = states.read(order)
    wanted = expected(clips, read)
    assert lengths == [len(wanted[i]) for i in order] and x.dtype == torch.float32
    for got, i in zip(x.split(lengths), order, strict=True):
        torch.testing.assert_close(got, wanted[i], atol=tolerance, rtol=tolerance)


def test_a_chosen_layer_is_kept_alone(folder, backbone, tmp_path):
    clips = clips_of(folder)
    read = Reading.of(backbone, FeaturizerConfig(kind="layer", layer=1), False, "fp32")
    states = open_states(StoreConfig(), tmp_path, clips, read, lambda line: None)
    assert states.read([1]).x.shape[1:] == (1, backbone.encoder.config.width)
    torch.testing.assert_close(states.read([1]).x, expected(clips, read)[1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("gigabytes", [0.0, 50.0])
def test_one_of_the_layers_that_are_kept_is_read_alone(folder, backbone, tmp_path, pooled, gigabytes):
    clips, read = clips_of(folder), reading(backbone, pooled)
    states = open_states(StoreConfig(gigabytes=gigabytes), tmp_path, clips, read, lambda line: None)
    (x, lengths), (one, counts) = states.read([3, 0, 3]), states.read([3, 0, 3], 2)
    assert isinstance(states, Online) == (gigabytes == 0.0) and counts == lengths
    assert torch.equal(one, x[:, 2:3])


@pytest.mark.parametrize("pooled", [True, False])
def test_a_fill_that_was_cut_off_ends_with_the_same_bytes_and_repeats_no_finished_batch(
    folder, backbone, tmp_path, pooled, monkeypatch
):
    clips, read = clips_of(folder), reading(backbone, pooled)
    whole = Store(tmp_path / "whole", clips, read, "fp16")
    whole.fill(2.0, 2, print)
    cut = Store(tmp_path / "cut", clips, read, "fp16")
    calls = []
    through = Reading.__call__

    def counted(self, waves):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(waves))
        return through(self, waves)

    monkeypatch.setattr(Reading, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        cut.fill(2.0, 2, print)
    assert cut.missing == len(clips) - sum(calls)
    with (tmp_path / "cut" / "states.bin").open("ab") as file:
        file.write(b"half a batch that was never listed")
    monkeypatch.setattr(Reading, "__call__", through)
    again = Store(tmp_path / "cut", clips, read, "fp16")
    again.fill(2.0, 2, print)
    numbers = list(range(len(clips)))
    assert torch.equal(again.read(numbers).x, whole.read(numbers).x)
    assert np.array_equal(again.index, whole.index) and len(batches(clips, 2.0)) > 2


def test_a_batch_is_written_while_the_next_is_encoded(folder, backbone, tmp_path, monkeypatch):
    clips, store = clips_of(folder), Store(tmp_path, clips_of(folder), reading(backbone, True), "fp16")
    through, write, begun = Reading.__call__, Store._write, [threading.Event() for _ in range(len(clips) + 1)]
    encoded, written, waiting = [], [], []

    def encode(self, waves):
        begun[len(encoded)].set()
        encoded.append(len(waves))
        waiting.append(len(encoded) - len(written))
        return through(self, waves)

    def late(self, file, sent, numbers, spans):
        if len(written) + 1 < len(batches(clips, 2.0)):  # no batch follows the last
            assert begun[len(written) + 1].wait(20), "the next batch is not encoded before this one is written"
        assert (self.index[numbers, 1] == 0).all()
        write(self, file, sent, numbers, spans)
        written.append(numbers)

    monkeypatch.setattr(Reading, "__call__", encode)
    monkeypatch.setattr(Store, "_write", late)
    store.fill(2.0, 2, print)
    assert written == batches(clips, 2.0) and store.missing == 0
    assert len(written) > 3 and max(waiting) == 2  # one is encoded while one is written


@pytest.mark.parametrize("where", ["within", "after"])
@pytest.mark.parametrize("which", [1, -1])
def test_a_write_that_fails_is_an_error_and_marks_nothing_as_done(
    folder, backbone, tmp_path, monkeypatch, where, which
):
    clips, read = clips_of(folder), reading(backbone, False)
    whole, store = (Store(tmp_path / name, clips, read, "fp16") for name in ("whole", "cut"))
    whole.fill(2.0, 2, print)
    order, write, done = batches(clips, 2.0), Store._write, []

    def broken(self, file, sent, numbers, spans):
        if numbers != order[which]:
            write(self, file, sent, numbers, spans)
            return done.extend(numbers)
        content = sent.read()[0].numpy().tobytes()
        file.write(content[: len(content) // 3] if where == "within" else content)
        file.flush()
        raise OSError("No space left on device")

    monkeypatch.setattr(Store, "_write", broken)
    with pytest.raises(OSError, match="No space left"):
        store.fill(2.0, 2, print)
    assert np.flatnonzero(store.index[:, 1]).tolist() == sorted(done) and store.missing == len(clips) - len(done)
    monkeypatch.setattr(Store, "_write", write)
    again = Store(tmp_path / "cut", clips, read, "fp16")
    assert again.lost == 0
    again.fill(2.0, 2, print)
    files = [(tmp_path / name / "states.bin").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1] and np.array_equal(again.index, whole.index)


@pytest.mark.parametrize("pooled", [True, False])
def test_an_encoder_is_read_and_its_clips_are_cut_without_waiting_for_its_device(monkeypatch, pooled):
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)  # meta has no autocast
    read = reading(load("mel"), pooled)
    waves = [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (16000, 8000, 4900)]
    x, lengths = read(waves)
    alone = [read.backbone(wave[None]).packed_layers for wave in waves]
    used = [round(len(wave) / hop(read.backbone.front_end)) for wave in waves]
    assert [len(layers[0]) - count for count, layers in zip(used, alone, strict=True)] == [1, 1, 0]
    for part, count, layers in zip(x.split(lengths), used, alone, strict=True):
        wanted = torch.stack([layer[:count].detach() for layer in layers], 1)
        torch.testing.assert_close(part, wanted.mean(0, keepdim=True) if pooled else wanted, atol=2e-5, rtol=2e-5)
    read.backbone.to("meta")  # a tensor without data that is asked for a number, or for such a shape, is an error
    there = read(waves)
    assert there.x.is_meta and there.x.shape == x.shape and there.lengths == lengths


def test_a_filled_store_is_found_again_and_other_settings_get_another(folder, backbone, tmp_path):
    lines = []

    def opened(clips, read, config=StoreConfig()):  # noqa: B008  frozen
        states = open_states(config, tmp_path, clips, read, lines.append)
        assert isinstance(states, Store)
        return states.folder

    first = opened(clips_of(folder), reading(backbone, True))
    assert lines[0].startswith("store: 8 clips, 8 frames of 4 x") and lines[0].endswith("8 to be encoded")
    assert opened(clips_of(folder), reading(backbone, True)) == first and lines[-1].endswith("0 to be encoded")
    others = [
        opened(clips_of(folder), reading(backbone, False)),
        opened(clips_of(folder), reading(backbone, True, normalize=True)),
        opened(clips_of(folder), reading(backbone, True), StoreConfig(dtype="bf16")),
        opened(clips_of(folder, gain=-3.0), reading(backbone, True)),
        opened(clips_of(folder), reading(load("fbank_no_cmvn"), True)),
        opened(clips_of(folder), reading(load("fbank_cmvn"), True)),  # of the same width, without weights too
    ]
    assert len({first, *others}) == 7


def test_a_store_that_would_be_too_large_is_not_written_and_the_run_says_so(folder, backbone, tmp_path):
    clips, read = clips_of(folder), reading(backbone, False)
    lines = []
    states = open_states(StoreConfig(gigabytes=1e-6), tmp_path, clips, read, lines.append)
    assert isinstance(states, Online) and "runs online" in lines[0] and not list(tmp_path.rglob("*.bin"))
    wanted = expected(clips, read)
    x, lengths = states.read([4, 1, 4])
    for got, i in zip(x.split(lengths), (4, 1, 4), strict=True):
        torch.testing.assert_close(got, wanted[i], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("how", ["removed", "cut short", "emptied"])
@pytest.mark.parametrize("pooled", [True, False])
def test_a_store_that_lacks_states_says_so_and_encodes_what_is_missing(folder, backbone, tmp_path, how, pooled):
    clips, read = clips_of(folder), reading(backbone, pooled)
    lines, config = [], StoreConfig(seconds=2.0)
    store = open_states(config, tmp_path, clips, read, lines.append)
    assert isinstance(store, Store)
    before, path = store.read(range(8)).x, store.folder / "states.bin"
    if how == "removed":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3] if how == "cut short" else b"")
    again = open_states(config, tmp_path, clips, read, lines.append)
    assert str(path) in lines[1] and lines[1].endswith("clips that its index lists: they are encoded again")
    lost = int(lines[1].split(" lacks ")[1].split()[0])
    assert 0 < lost < 8 if how == "cut short" else lost == 8
    assert lines[2].endswith(f"{lost} to be encoded") and torch.equal(again.read(range(8)).x, before)
    open_states(config, tmp_path, clips, read, lines.append)
    assert lines[3].endswith("; 0 to be encoded") and len(lines) == 4


def test_other_stores_in_the_folder_count_and_a_full_one_is_used_all_the_same(folder, backbone, tmp_path):
    clips, lines = clips_of(folder), []
    first, second = reading(backbone, False), reading(backbone, False, normalize=True)
    size = estimate(clips, first, "fp16").bytes
    config = StoreConfig(gigabytes=1.5 * size / 1e9)
    kept = open_states(config, tmp_path, clips, first, lines.append)
    assert isinstance(open_states(config, tmp_path, clips, second, lines.append), Online)
    assert f"of which other stores in {tmp_path / 'store'} take" in lines[-1]
    both = StoreConfig(gigabytes=2.0 * size / 1e9)
    assert isinstance(open_states(both, tmp_path, clips, second, lines.append), Store)
    assert isinstance(open_states(config, tmp_path, clips, second, lines.append), Store)  # it is written already
    assert isinstance(kept, Store)
    remove(kept)
    assert kept.read([1]).x.isfinite().all() and not kept.folder.exists()


def test_a_disk_that_holds_no_store_or_no_state_of_the_sweep_is_said_before_anything_is_encoded(
    folder, backbone, tmp_path, monkeypatch
):
    clips, read, lines = clips_of(folder), reading(backbone, False), []
    size, free = estimate(clips, read, "fp16").bytes, shutil.disk_usage(tmp_path)
    beside = Beside(tmp_path / "superb-ks" / "one", 7 * 10**9)

    def opened(room, config=StoreConfig()):  # noqa: B008  frozen
        monkeypatch.setattr(module.shutil, "disk_usage", lambda place: free._replace(free=room))
        return open_states(config, tmp_path, clips, read, lines.append, beside)

    with pytest.raises(ValueError, match=r"needs .* GB for the store and 14 GB for the sweep's state.*gigabytes 0$"):
        opened(14 * 10**9 + size - 1)
    online = StoreConfig(gigabytes=0.0)
    with pytest.raises(ValueError, match=r"needs 14 GB for the sweep's state, while it is written: make room, or name"):
        opened(14 * 10**9 - 1, online)
    assert not lines and not list(tmp_path.rglob("*.bin"))
    opened(14 * 10**9, online)
    opened(14 * 10**9 + size)
    assert all(line.endswith("the sweep's own state takes 7 GB, twice that while written") for line in lines)
    opened(14 * 10**9)  # the store is there
    (beside.folder / "fold").mkdir(parents=True)
    (beside.folder / "fold" / "state.pt").write_bytes(bytes(1000))
    opened(14 * 10**9 - 1000)


def test_the_size_that_is_said_is_the_size_that_is_written(folder, backbone, tmp_path):
    clips, read = clips_of(folder), reading(backbone, False)
    said = estimate(clips, read, "fp16").bytes
    store = Store(tmp_path, clips, read, "fp16")
    store.fill(60.0, 1, print)
    assert 0.9 * said < (tmp_path / "states.bin").stat().st_size <= said


def test_a_corrupt_clip_is_named_and_left_out_once(folder, backbone, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio at all")
    clips = clips_of(folder)
    number = clips.add(Utterance("broken", broken, end=1.2))
    store = Store(tmp_path / "store", clips, reading(backbone, True), "fp16")
    store.fill(60.0, 2, print)
    assert list(store.bad) == [number] and store.missing == 0
    again = Store(tmp_path / "store", clips, reading(backbone, True), "fp16")
    again.fill(60.0, 2, print)
    rows = (tmp_path / "store" / "bad_items.jsonl").read_text().splitlines()
    assert again.bad == store.bad and len(rows) == 1 and json.loads(rows[0])["item"] == str(broken)


def test_states_that_the_type_cannot_hold_are_an_error(folder, tmp_path, monkeypatch):
    read = reading(load("fbank"), True)
    through = Reading.__call__
    monkeypatch.setattr(
        Reading, "__call__", lambda self, waves: through(self, waves)._replace(x=torch.full((8, 1, 160), 1e5))
    )
    store = Store(tmp_path, clips_of(folder), read, "fp16")
    with pytest.raises(ValueError, match="set --store.dtype bf16"):
        store.fill(60.0, 1, print)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_states_that_are_no_numbers_name_their_clip(folder, tmp_path, monkeypatch, value):
    read, through = reading(load("fbank"), True), Reading.__call__

    def broken(self, waves):
        found = through(self, waves)
        x = found.x.clone()
        x[2] = value
        return found._replace(x=x)

    monkeypatch.setattr(Reading, "__call__", broken)
    clips = clips_of(folder)
    third = clips.name(batches(clips, 60.0)[0][2])
    words = f"{re.escape(third)}: the encoder's states hold NaN or infinity: look at its weights"
    with pytest.raises(ValueError, match=words):
        Store(tmp_path, clips, read, "fp16").fill(60.0, 1, print)
    with pytest.raises(ValueError, match=words):
        Online(clips, read, 60.0).read(range(len(clips)))


def test_two_processes_do_not_fill_one_store(folder, backbone, tmp_path):
    store = Store(tmp_path, clips_of(folder), reading(backbone, True), "fp16")
    with (tmp_path / "states.bin").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process fills"):
            store.fill(60.0, 1, print)


def test_the_gain_and_the_resampling_reach_the_encoder(tmp_path):
    rng = np.random.default_rng(1)
    wave = 0.1 * rng.standard_normal((8000, 2))
    soundfile.write(tmp_path / "stereo.wav", wave, 8000, subtype="FLOAT")
    clips = Clips(-3.0)
    clips.add(Utterance("stereo", tmp_path / "stereo.wav", end=1.0))
    heard = clips.read(0)
    mono = audio.resample(torch.from_numpy(wave.mean(1).astype(np.float32)), 8000)
    torch.testing.assert_close(heard, mono * 10 ** (-3 / 20), atol=1e-6, rtol=1e-5)
    assert heard.shape == (16000,)


def test_batches_are_longest_first_and_bounded_by_their_padded_length(folder):
    clips = clips_of(folder)
    found = batches(clips, 2.0)
    assert sorted(number for batch in found for number in batch) == list(range(len(clips)))
    longest = [clips.seconds(batch[0]) for batch in found]
    assert longest == sorted(longest, reverse=True)
    assert all(len(batch) == 1 or len(batch) * clips.seconds(batch[0]) <= 2.0 for batch in found)


def test_an_encoder_of_another_modality_is_refused():
    with pytest.raises(ValueError, match="an encoder of speech; this one takes vision"):
        Reading.of(load("pixels"), FeaturizerConfig(), True, "fp32")

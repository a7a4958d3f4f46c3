# SPDX-License-Identifier: Apache-2.0
"""Speech: features as Kaldi and librosa have them, the extractor as plain convolutions, reading, lists, views."""

import json
import math
import shutil

import numpy as np
import pytest
import soundfile
import torch
from torch import nn
from torch.nn import functional as F

from pluri.speech import audio
from pluri.speech.corpus import AudioDataConfig
from pluri.speech.features import FeaturesConfig
from pluri.speech.frontend import KERNELS, STRIDES, WaveFrontEndConfig
from pluri.speech.spectrum import SpectrumFrontEndConfig
from pluri.speech.views import SpeechViewsConfig
from pluri.ssl import draw
from pluri.ssl.data import BadItem

LENGTHS = torch.tensor([16000, 9001, 400, 1040, 15999])


def waves(lengths=LENGTHS, spoilt=True):
    """Harmonics with noise, of uneven lengths; padding holds NaN, which nobody may look at."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(int(lengths.max())) / 16000
    pitch = 90 + 200 * torch.rand(len(lengths), 1, generator=generator)
    x = torch.stack([torch.sin(2 * math.pi * k * pitch * time) / k for k in range(1, 20)]).sum(0) * 0.1
    x = x + 0.02 * torch.randn(x.shape, generator=generator)
    for row, length in zip(x, lengths.tolist(), strict=True):
        row[length:] = float("nan") if spoilt else 0.0
    return x


# Features


def kaldi(kind, wave, bins):
    compliance = pytest.importorskip("torchaudio.compliance.kaldi")
    if kind == "fbank":
        return compliance.fbank(wave[None], num_mel_bins=bins, dither=0.0)
    return compliance.mfcc(wave[None], num_mel_bins=bins, num_ceps=13, dither=0.0)


def by_librosa(kind, wave, bins):
    librosa = pytest.importorskip("librosa")
    settings = {"n_fft": 400, "hop_length": 160, "center": True, "pad_mode": "constant"}
    if kind == "log_mel":
        power = librosa.feature.melspectrogram(y=wave.numpy(), sr=16000, n_mels=bins, power=2.0, **settings)
    else:
        power = np.abs(librosa.stft(wave.numpy(), **settings)) ** 2
    return torch.from_numpy(np.log(np.maximum(power, 1e-10)).T)


@pytest.mark.parametrize(
    ("kind", "bins"),
    [("fbank", 80), ("fbank", 40), ("mfcc", 23), ("mfcc", 40), ("log_mel", 80), ("log_mel", 40), ("log_spectrum", 80)],
)
def test_features_of_a_padded_batch_equal_those_of_kaldi_and_librosa_row_by_row(kind, bins):
    features = FeaturesConfig(kind=kind, bins=bins, deltas=0, normalize=False).build()
    x, counts = features(waves(), LENGTHS)
    oracle = kaldi if kind in ("fbank", "mfcc") else by_librosa
    for row, wave, length, count in zip(x, waves(), LENGTHS.tolist(), counts.tolist(), strict=True):
        wanted = oracle(kind, wave[:length], bins)
        assert wanted.shape == (count, features.config.width) and features.count(length) == count
        # Bins far below the strongest of their frame are what is left when large numbers cancel: float32's noise.
        heard = torch.ones_like(wanted, dtype=torch.bool)
        if kind == "log_spectrum":
            heard = wanted > wanted.amax(1, keepdim=True) - 16
            assert heard.float().mean() > 0.99
        error = (row[:count] - wanted)[heard].abs()
        assert error.max() < 1e-3 and (error < 1e-4).float().mean() > 0.99
        assert not row[count:].any()


@pytest.mark.parametrize("kind", ["fbank", "mfcc", "log_mel", "log_spectrum"])
def test_silence_stands_on_the_floor_of_kaldi_and_librosa(kind):
    silent = torch.zeros(1, 4000)
    oracle = kaldi if kind in ("fbank", "mfcc") else by_librosa
    x, _ = FeaturesConfig(kind=kind, bins=23, deltas=0, normalize=False).build()(silent)
    assert (x[0] - oracle(kind, silent[0], 23)).abs().max() < 1e-3


def test_deltas_equal_those_of_torchaudio_row_by_row():
    functional = pytest.importorskip("torchaudio.functional")
    plain, counts = FeaturesConfig(kind="mfcc", bins=23, deltas=0, normalize=False).build()(waves(), LENGTHS)
    for orders in (1, 2):
        config = FeaturesConfig(kind="mfcc", bins=23, deltas=orders, normalize=False)
        x, _ = config.build()(waves(), LENGTHS)
        assert x.shape[2] == config.width == 13 * (1 + orders)
        for row, mine, count in zip(plain, x, counts.tolist(), strict=True):
            wanted = [row[:count]]
            for _ in range(orders):
                wanted.append(functional.compute_deltas(wanted[-1].T[None], win_length=5)[0].T)
            assert (mine[:count] - torch.cat(wanted, dim=1)).abs().max() < 1e-4


def test_deltas_of_long_rows_equal_those_of_librosa_away_from_the_edges():
    librosa = pytest.importorskip("librosa")
    x, _ = FeaturesConfig(deltas=1, normalize=False).build()(waves()[:1])
    wanted = librosa.feature.delta(x[0, :, :80].numpy(), width=5, axis=0)
    assert np.abs(x[0, :, 80:].numpy() - wanted)[2:-2].max() < 1e-4


@pytest.mark.parametrize("kind", ["fbank", "log_mel"])
def test_normalised_features_have_each_rows_own_mean_and_deviation(kind):
    x, counts = FeaturesConfig(kind=kind).build()(waves(), LENGTHS)
    raw, _ = FeaturesConfig(kind=kind, normalize=False).build()(waves(), LENGTHS)
    for row, before, count in zip(x, raw, counts.tolist(), strict=True):
        assert torch.isfinite(row).all() and not row[count:].any()
        if count == 1:
            assert not row.any()
            continue
        mine, before = row[:count].double(), before[:count].double()
        assert mine.mean(0).abs().max() < 1e-4 and (mine.std(0) - 1).abs().max() < 1e-4
        assert (mine - (before - before.mean(0)) / before.std(0)).abs().max() < 2e-3


@pytest.mark.parametrize("kind", ["fbank", "mfcc", "log_mel", "log_spectrum"])
def test_features_of_a_row_alone_equal_those_in_a_padded_batch(kind):
    features = FeaturesConfig(kind=kind).build()
    lengths = torch.cat([LENGTHS, torch.tensor([1, 399])])
    x, counts = features(waves(lengths), lengths)
    assert x.shape[1] == counts.max() and (counts > 0).all()
    for row, wave, length, count in zip(x, waves(lengths), lengths.tolist(), counts.tolist(), strict=True):
        alone, one = features(wave[None, :length])
        assert one.tolist() == [count]
        # Divided by deviations, some of which are 0.01, so 1e-4 here is 1e-6 of a feature.
        assert (alone[0] - row[:count]).abs().max() < 1e-4


def test_normalised_silence_is_zero():
    lengths = torch.tensor([16000, 9000])
    x = torch.zeros(2, 16000)
    x[0] = waves()[0]
    row = FeaturesConfig().build()(x, lengths)[0][1]
    assert row.abs().max() < 1e-3


def test_more_than_two_orders_of_deltas_are_refused():
    with pytest.raises(ValueError, match="features.deltas"):
        FeaturesConfig(deltas=3).build()


# Stacked frames as units


@pytest.mark.parametrize("stack", [1, 3, 4])
def test_stacks_hold_their_frames_in_order_and_the_last_is_filled_with_zeros(stack):
    features = FeaturesConfig(bins=20, deltas=1)
    front_end = SpectrumFrontEndConfig(features=features, stack=stack, width=24).build()
    x, counts = features.build()(waves(), LENGTHS)
    units = front_end.units(waves(), LENGTHS)
    assert units.lengths is not None and units.lengths.device.type == "cpu"
    assert torch.equal(units.lengths, front_end.unit_lengths(waves(), LENGTHS))
    assert units.lengths.tolist() == [math.ceil(count / stack) for count in counts.tolist()]
    assert units.values.shape == (5, int(units.lengths.max()), 40 * stack) and front_end.unit_width == 40 * stack
    for row, unit, count in zip(x, units.values, counts.tolist(), strict=True):
        for number in range(unit.shape[0]):
            wanted = torch.zeros(stack, 40)
            piece = row[number * stack : min(count, (number + 1) * stack)]
            wanted[: len(piece)] = piece
            assert torch.equal(unit[number], wanted.flatten())
    assert front_end.embed(units.values).shape == (*units.values.shape[:2], 24)
    whole = front_end.units(waves(spoilt=False))
    assert whole.lengths is not None
    assert torch.equal(whole.lengths, front_end.unit_lengths(waves(), None)) and len(set(whole.lengths.tolist())) == 1


# The waveform extractor

KINDS = {
    "base": {"norm": "group", "bias": False, "normalize": False},
    "large": {"norm": "layer", "bias": True, "normalize": True},
    "group_with_bias": {"norm": "group", "bias": True, "normalize": True},
}


def extractor(kind, **settings):
    torch.manual_seed(0)
    config = WaveFrontEndConfig(
        channels=16, width=24, dropout=0.0, **{"gradient_scale": 1.0, **KINDS[kind], **settings}
    )
    front_end = config.build()
    with torch.no_grad():
        for parameter in front_end.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return front_end


class Plain(nn.Module):
    """The published extractor on one row (1, S), as fairseq writes it: Conv1d, GroupNorm or LayerNorm, GELU."""

    def __init__(self, front_end):
        super().__init__()
        config, channels = front_end.config, front_end.config.channels
        self.normalize = config.normalize
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for i, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
            self.convolutions.append(nn.Conv1d(channels if i else 1, channels, kernel, stride, bias=config.bias))
            norm = nn.LayerNorm(channels) if config.norm == "layer" else nn.Identity()
            self.norms.append(nn.GroupNorm(channels, channels) if config.norm == "group" and i == 0 else norm)
        self.last, self.project = nn.LayerNorm(channels), nn.Linear(channels, config.width)
        with torch.no_grad():
            for mine, its in self.pairs(front_end):
                mine.copy_(its)

    def pairs(self, front_end):
        """Our parameters beside those of the front end; every one of them must be there."""
        out = []
        for mine, its in ((self.last, front_end.norm), (self.project, front_end.project)):
            out += [(mine.weight, its.weight), (mine.bias, its.bias)]
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            its = front_end.convolutions[i]
            out += [(mine, its.get_parameter(name)) for name, mine in convolution.named_parameters()]
            if isinstance(norm, nn.GroupNorm):
                out += [(norm.weight, front_end.group_weight), (norm.bias, front_end.group_bias)]
            else:
                out += [(mine, its.norm.get_parameter(name)) for name, mine in norm.named_parameters()]
        assert len(out) == len(list(front_end.parameters())) == len(list(self.parameters()))
        return out

    def forward(self, wave):
        if self.normalize:
            wave = F.layer_norm(wave, wave.shape[1:], eps=1e-7)
        x = F.pad(wave, (0, max(0, 400 - wave.shape[1])))[:, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(x)
            x = F.gelu(norm(x.transpose(1, 2)).transpose(1, 2) if isinstance(norm, nn.LayerNorm) else norm(x))
        x = self.last(x.transpose(1, 2))
        return x, self.project(x)


def gradient(x):
    assert x.grad is not None
    return x.grad.clone()


UNEVEN = torch.tensor([16000, 400, 9001, 719, 720, 721, 15999, 401, 399, 160, 8000])


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_of_an_uneven_batch_equals_plain_convolutions_on_it_alone(kind):
    front_end = extractor(kind).eval()
    plain = Plain(front_end)
    x = waves(UNEVEN)
    with torch.inference_mode():
        units = front_end.units(x, UNEVEN)
        vectors = front_end.embed(units.values)
        assert units.lengths is not None and torch.equal(units.lengths, front_end.unit_lengths(x, UNEVEN))
        assert units.values.shape == (len(UNEVEN), 49, 16)
        for i, length in enumerate(UNEVEN.tolist()):
            latents, projected = plain(x[i : i + 1, :length])
            count = latents.shape[1]
            assert int(units.lengths[i]) == count and not units.values[i, count:].any()
            assert (units.values[i, :count] - latents[0]).abs().max() <= 2e-5
            assert (vectors[i, :count] - projected[0]).abs().max() <= 2e-5
            alone = front_end.units(x[i : i + 1, :length])
            assert (alone.values[0] - units.values[i, :count]).abs().max() <= 1e-5


def test_a_row_of_one_sample_gives_one_latent():
    for kind in KINDS:
        units = extractor(kind).eval().units(torch.tensor([[0.5]]))
        assert units.values.shape == (1, 1, 16) and torch.isfinite(units.values).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [9001, 400, 250])
def test_gradients_equal_those_of_plain_convolutions_with_the_same_weights(kind, length):
    front_end = extractor(kind)
    plain = Plain(front_end)
    wave = waves(UNEVEN)[:1, :length].requires_grad_()
    again = wave.detach().clone().requires_grad_()
    wanted = plain(wave)[1]
    pull = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    (wanted * pull).sum().backward()
    (front_end.embed(front_end.units(again).values) * pull).sum().backward()
    pairs = [(gradient(mine), gradient(its)) for mine, its in plain.pairs(front_end)]
    if not KINDS[kind]["normalize"]:
        pairs.append((gradient(wave), gradient(again)))
    largest = max(float(mine.norm()) for mine, _ in pairs)
    for mine, its in pairs:
        if mine.norm() < 1e-6 * largest:  # a bias before group norm moves nothing; its gradient is rounding
            assert its.norm() < 1e-6 * largest
        else:
            assert (mine - its).norm() <= 1e-4 * mine.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_an_uneven_batch_are_the_sum_of_those_of_its_rows(kind):
    front_end = extractor(kind)
    x = waves(UNEVEN)
    pull = torch.randn(len(UNEVEN), 49, 24, generator=torch.Generator().manual_seed(1))
    units = front_end.units(x, UNEVEN)
    assert units.lengths is not None
    real = torch.arange(49) < units.lengths[:, None]
    (front_end.embed(units.values) * pull * real[..., None]).sum().backward()
    batch = [gradient(parameter) for parameter in front_end.parameters()]
    front_end.zero_grad()
    for i, length in enumerate(UNEVEN.tolist()):
        vectors = front_end.embed(front_end.units(x[i : i + 1, :length]).values)
        (vectors * pull[i, : vectors.shape[1]]).sum().backward()
    largest = max(float(its.norm()) for its in batch)
    for parameter, its in zip(front_end.parameters(), batch, strict=True):
        assert (gradient(parameter) - its).norm() <= 1e-4 * max(float(its.norm()), 1e-3 * largest)


def test_the_extractor_gets_the_share_of_its_gradient_that_is_set_and_only_in_training():
    figures = {}
    for scale in (1.0, 0.1):
        front_end = extractor("base", gradient_scale=scale)
        front_end.embed(front_end.units(waves(UNEVEN), UNEVEN).values).square().sum().backward()
        figures[scale] = {name: gradient(parameter) for name, parameter in front_end.named_parameters()}
    for name, whole in figures[1.0].items():
        share = 0.1 if name.startswith(("convolutions", "group")) else 1.0
        assert torch.allclose(figures[0.1][name], share * whole, rtol=1e-4, atol=1e-6 * whole.abs().max().item())


def test_the_energy_is_the_mean_square_of_the_latents_before_their_norm():
    front_end = extractor("base")
    plain = Plain(front_end)
    raw = []
    plain.last.register_forward_pre_hook(lambda _, inputs: raw.append(inputs[0].flatten()))
    x = waves(UNEVEN)
    for i, length in enumerate(UNEVEN.tolist()):
        plain(x[i : i + 1, :length])
    energy = front_end.units(x, UNEVEN).energy
    assert energy is not None and energy.item() == pytest.approx(torch.cat(raw).square().mean().item(), rel=1e-5)
    assert front_end.eval().units(x, UNEVEN).energy is None


# Reading


def chord(rate, seconds=0.7, channels=2):
    """What 16 kHz can hold, and its value at any time."""
    time = np.arange(round(rate * seconds)) / rate
    left = 0.3 * np.sin(2 * math.pi * 440 * time) + 0.2 * np.sin(2 * math.pi * 1200 * time + 1)
    return np.stack([left, 0.5 * left], axis=1)[:, :channels]


@pytest.mark.parametrize("suffix", ["flac", "wav"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_pieces_of_files_of_any_rate_equal_torchaudio_resampling(rate, suffix, tmp_path):
    functional = pytest.importorskip("torchaudio.functional")
    path = tmp_path / f"chord.{suffix}"
    soundfile.write(path, chord(rate), rate)
    stored = torch.from_numpy(soundfile.read(path, dtype="float32")[0]).mean(1)
    assert audio.probe(path) == (len(stored), rate)
    for start, seconds in ((0.0, None), (0.1, 0.25), (0.5, 5.0)):
        first, count = round(start * rate), len(stored) if seconds is None else round(seconds * rate)
        wanted = functional.resample(stored[first : first + count], rate, 16000)
        found = audio.read(path, start, seconds)
        assert found.dtype == torch.float32 and found.shape == wanted.shape
        assert (found - wanted).abs().max() <= 1e-6
        assert abs(len(found) - 16000 * min(seconds or 9, 0.7 - start)) <= 1
    # And it is the sound that was written, wherever the filter does not reach beyond the ends.
    at_16k = chord(16000).mean(1)
    whole = audio.read(path).numpy()
    count = min(len(whole), len(at_16k))
    assert np.abs(whole[:count] - at_16k[:count])[100:-100].max() < 3e-3


def test_samples_are_read_as_they_are_stored(tmp_path):
    wave = np.array([[0.5, -0.25], [1.0, 1.0], [-1.0, 0.5]] * 100, dtype=np.float32)
    soundfile.write(tmp_path / "float.wav", 2 * wave, 16000, subtype="FLOAT")
    assert torch.equal(audio.read(tmp_path / "float.wav"), torch.from_numpy(2 * wave).mean(1))
    soundfile.write(tmp_path / "deep.flac", wave * 0.999, 16000, subtype="PCM_24")
    assert np.abs(audio.read(tmp_path / "deep.flac").numpy() - (wave * 0.999).mean(1)).max() < 1e-6


def test_what_is_too_short_or_past_the_end_is_a_bad_item(tmp_path):
    soundfile.write(tmp_path / "a.wav", chord(8000), 8000)
    for start, shortest in ((0.7, 0.0), (5.0, 0.0), (0.5, 0.3)):
        with pytest.raises(BadItem, match="too short"):
            audio.read(tmp_path / "a.wav", start, shortest=shortest)
    with pytest.raises(BadItem):
        audio.read(tmp_path / "nowhere.wav")


# Lists of clips


def speech(path, cache, split="train", **settings):
    return AudioDataConfig(path=str(path), **{"held_out": 0.0, "shortest": 0.1, **settings}).build(split, cache)


def numbered(path, seconds, rate=16000):
    """A clip whose samples say where they stand: sample i is i / 2^15."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.arange(round(seconds * rate), dtype=np.int16), rate)


def place(item):
    """The first sample's number and how many there are, if they follow one another."""
    numbers = (item.inputs * 2**15).round().long()
    assert torch.equal(numbers - numbers[0], torch.arange(len(numbers)))
    return int(numbers[0]), len(numbers)


def test_a_folder_of_any_depth_and_a_single_file_are_listed(samples, tmp_path):
    data = speech(samples["speech"], tmp_path)
    paths = sorted(path for path in samples["speech"].rglob("*") if path.suffix in (".wav", ".flac"))
    assert sorted(data.root / clip.path for clip in data.clips) == paths and len(paths) == 36
    for record, size in zip(data.epoch(0).records, data.epoch(0).sizes, strict=True):
        info = soundfile.info(data.name(record))
        assert size == pytest.approx(info.frames / info.samplerate)
        assert abs(len(data.load(record, 0).inputs) - 16000 * size) <= 1
    one = speech(paths[5], tmp_path)
    assert [one.root / clip.path for clip in one.clips] == [paths[5]]
    again = speech(samples["speech"], tmp_path)
    assert again.clips == data.clips and len(list(tmp_path.glob("audio-*.json"))) == 2


def test_a_second_build_reads_no_headers(samples, tmp_path, monkeypatch):
    folder = tmp_path / "speech"
    shutil.copytree(samples["speech"], folder)
    first = speech(folder, tmp_path / "cache")

    def refuse(_):
        raise BadItem("a header was read again")

    monkeypatch.setattr(audio, "probe", refuse)
    assert speech(folder, tmp_path / "cache").clips == first.clips
    numbered(folder / "new.wav", 1.0)
    with pytest.raises(ValueError, match="37 cannot be read"):
        speech(folder, tmp_path / "cache")


MANIFEST = [("deep/b.wav", 0.5, 1.25), ("a.wav", None, None), ("a.wav", 0.25, None), ("deep/b.wav", None, 0.5)]
WANTED = [("deep/b.wav", 8000, 12000), ("a.wav", 0, 16000), ("a.wav", 4000, 12000), ("deep/b.wav", 0, 8000)]


def write_manifest(path):
    rows = [{"path": name, "start": start, "end": end, "text": "什么, “x”"} for name, start, end in MANIFEST]
    if path.suffix == ".jsonl":
        rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return
    import csv

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
def test_manifests_name_files_and_pieces_of_files(suffix, tmp_path):
    numbered(tmp_path / "a.wav", 1.0)
    numbered(tmp_path / "deep" / "b.wav", 2.0)
    write_manifest(tmp_path / f"list.{suffix}")
    data = speech(tmp_path / f"list.{suffix}", tmp_path / "cache")
    epoch = data.epoch(0)
    found = [(data.clips[int(r[0])].path, *place(data.load(r, 0))) for r in epoch.records]
    assert found == WANTED and epoch.sizes.tolist() == [count / 16000 for _, _, count in WANTED]
    assert data.name(epoch.records[0]).endswith("b.wav from 0.5 s")


def test_the_manifests_of_fairseq_are_read(tmp_path):
    numbered(tmp_path / "audio" / "a.wav", 1.0)
    numbered(tmp_path / "audio" / "deep" / "b.wav", 2.0)
    (tmp_path / "train.tsv").write_text(f"{tmp_path / 'audio'}\ndeep/b.wav\t32000\na.wav\t16000\n")
    data = speech(tmp_path / "train.tsv", tmp_path / "cache")
    found = [(data.clips[int(r[0])].path, *place(data.load(r, 0))) for r in data.epoch(0).records]
    assert found == [("deep/b.wav", 0, 32000), ("a.wav", 0, 16000)]


def test_manifests_that_cannot_be_used_are_refused_with_their_row(tmp_path):
    numbered(tmp_path / "a.wav", 1.0)
    for name, content, message in (
        ("a.csv", "file,start\na.wav,0\n", "row 1: no column path"),
        ("b.csv", "path,start\na.wav,0\na.wav,soon\n", "row 2: start and end must be seconds"),
        ("c.tsv", "path\tstart\n", "lists no clips"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            speech(tmp_path / name, tmp_path / "cache")


def test_rows_of_a_manifest_that_lead_nowhere_are_named(tmp_path):
    numbered(tmp_path / "a.wav", 1.0)
    (tmp_path / "list.csv").write_text("path,start,end\nb.wav,,\na.wav,3,4\na.wav,0.5,9\n")
    data = speech(tmp_path / "list.csv", tmp_path / "cache")
    assert data.clips == [("a.wav", 0.5, 0.5)]
    assert [name.rsplit("/", 1)[1] for name, _ in data.bad] == ["b.wav", "a.wav"]
    assert "ends before 3 seconds" in data.bad[1][1]


def refused_or_named(path, tmp_path):
    """Whether a manifest's first row was refused, or named among the bad ones."""
    try:
        return len(speech(path, tmp_path / "cache").bad) == 1
    except ValueError as error:
        return path.name in str(error)


def test_a_piece_that_ends_before_it_begins_is_refused_or_named(tmp_path):
    numbered(tmp_path / "a.wav", 2.0)
    (tmp_path / "list.csv").write_text("path,start,end\na.wav,1.5,0.5\na.wav,0,1\n")
    assert refused_or_named(tmp_path / "list.csv", tmp_path)


def test_a_piece_that_begins_before_its_file_is_refused_or_named(tmp_path):
    numbered(tmp_path / "a.wav", 2.0)
    (tmp_path / "list.csv").write_text("path,start,end\na.wav,-1,0.5\na.wav,0,1\n")
    assert refused_or_named(tmp_path / "list.csv", tmp_path)


def test_a_broken_line_of_a_manifest_is_refused_by_name(tmp_path):
    numbered(tmp_path / "a.wav", 2.0)
    (tmp_path / "list.jsonl").write_text('{"path": "a.wav"\n{"path": "a.wav"}\n')
    assert refused_or_named(tmp_path / "list.jsonl", tmp_path)


@pytest.mark.parametrize("suffix", ["TSV", "JSONL"])
def test_manifests_with_suffixes_in_capitals_are_read(suffix, tmp_path):
    numbered(tmp_path / "a.wav", 1.0)
    numbered(tmp_path / "deep" / "b.wav", 2.0)
    write_manifest(tmp_path / f"list.{suffix.lower()}")
    (tmp_path / f"list.{suffix.lower()}").rename(tmp_path / f"LIST.{suffix}")
    assert len(speech(tmp_path / f"LIST.{suffix}", tmp_path / "cache").clips) == 4


def test_manifests_with_a_byte_order_mark_are_read(tmp_path):
    numbered(tmp_path / "a.wav", 1.0)
    (tmp_path / "list.csv").write_text("path,start\na.wav,0.5\n", encoding="utf-8-sig")
    assert speech(tmp_path / "list.csv", tmp_path / "cache").clips == [("a.wav", 0.5, 0.5)]


def test_quotes_in_the_transcripts_of_a_tsv_swallow_no_rows(tmp_path):
    # Common Voice's files are like that: path and sentence, tabs between, quotes as they are.
    numbered(tmp_path / "a.wav", 1.0)
    (tmp_path / "list.tsv").write_text('path\tsentence\na.wav\t"Hello, he said.\na.wav\tFine.\na.wav\tSo be it."\n')
    assert len(speech(tmp_path / "list.tsv", tmp_path / "cache").clips) == 3


def test_long_clips_are_cropped_elsewhere_for_each_key_and_within_the_clip(tmp_path):
    numbered(tmp_path / "a.wav", 2.0)
    (tmp_path / "list.csv").write_text("path,start,end\na.wav,0.5,1.5\na.wav,,\na.wav,0,0.2\n")
    data = speech(tmp_path / "list.csv", tmp_path / "cache", longest=0.25)
    assert data.epoch(0).sizes.tolist() == [0.25, 0.25, pytest.approx(0.2)]
    for record, first, last in zip(data.epoch(0).records[:2], (8000, 0), (24000, 32000), strict=True):
        places = [place(data.load(record, draw.key(0, key))) for key in range(200)]
        starts = np.array([start for start, _ in places])
        assert {count for _, count in places} == {4000}
        assert first <= starts.min() and starts.max() <= last - 4000 and len(set(places)) > 150
        room = last - first - 4000
        assert starts.min() < first + 0.05 * room and starts.max() > last - 4000 - 0.05 * room
        assert abs(starts.mean() - (first + room / 2)) < 0.1 * room
        assert place(data.load(record, draw.key(0, 3))) == places[3]
    assert {place(data.load(data.epoch(0).records[2], key)) for key in range(5)} == {(0, 3200)}


def test_short_clips_are_left_out_and_a_folder_of_nothing_else_refused(tmp_path):
    for i, seconds in enumerate((0.05, 0.3, 0.5)):
        numbered(tmp_path / "speech" / f"{i}.wav", seconds)
    data = speech(tmp_path / "speech", tmp_path, shortest=0.2)
    assert len(data.records) == 2 and data.left_out == 1
    with pytest.raises(ValueError, match="none of the 3 clips"):
        speech(tmp_path / "speech", tmp_path, shortest=1.0)


def test_the_held_out_split_goes_by_path_and_loses_nothing(samples, tmp_path):
    parts = {split: speech(samples["speech"], tmp_path, split, held_out=0.3) for split in ("train", "held_out")}
    listed = {split: {data.clips[i].path for i in data.records[:, 0]} for split, data in parts.items()}
    assert len(listed["train"] | listed["held_out"]) == 36 and not listed["train"] & listed["held_out"]
    assert 3 <= len(listed["held_out"]) <= 20
    shutil.copytree(samples["speech"], tmp_path / "moved")
    numbered(tmp_path / "moved" / "new.wav", 1.0)
    moved = speech(tmp_path / "moved", tmp_path, "held_out", held_out=0.3)
    assert {moved.clips[i].path for i in moved.records[:, 0]} - {"new.wav"} == listed["held_out"]


# Views


def views(inputs, lengths, keys, view=0, **settings):
    out, kept = SpeechViewsConfig(**settings).build()(inputs, lengths, keys, view)
    assert kept is not None
    return out, kept


def view_keys(n):
    return torch.tensor([draw.key(0, "item", i) for i in range(n)])


def test_the_lengths_of_views_follow_from_those_of_rows_and_stay_on_the_host():
    lengths = torch.tensor([20000, 16000, 9000, 8000, 500, 1])
    x = torch.randn(6, 20000, generator=torch.Generator().manual_seed(0))
    for key in range(3):
        out, kept = views(x, lengths, view_keys(6) + key)
        assert kept.device.type == "cpu"
        assert kept.tolist() == [12000, 9600, 8000, 8000, 500, 1] and out.shape == (6, 12000)
        for row, count in zip(out, kept.tolist(), strict=True):
            assert not row[count:].any() and torch.isfinite(row).all() and row[:count].any()
    out, kept = views(x, None, view_keys(6))
    assert kept.tolist() == [12000] * 6


def test_a_view_is_a_piece_of_its_row_with_its_own_gain_and_sign():
    lengths = torch.tensor([20000, 12000, 9000] * 100)
    x = torch.arange(1, 20001, dtype=torch.float32).expand(300, -1).clone()
    x[torch.arange(20000) >= lengths[:, None]] = 1e9
    out, kept = views(x, lengths, view_keys(300), noise=(200.0, 200.0))
    gains, starts = [], []
    for row, length, count in zip(out, lengths.tolist(), kept.tolist(), strict=True):
        slope = (row[count - 1] - row[0]) / (count - 1)
        first = (row[0] / slope).item()
        assert 0.9 < first and first + count - 1 < length + 1.1
        assert torch.allclose(row[:count], slope * (torch.arange(count) + round(first)), rtol=1e-3, atol=0.1)
        gains.append(float(slope))
        starts.append((first - 1) / (length - count))
    decibels = 20 * np.log10(np.abs(gains))
    assert -6.01 < decibels.min() < -5 and 5 < decibels.max() < 6.01 and abs(decibels.mean()) < 0.8
    assert abs(np.mean(np.array(gains) > 0) - 0.5) < 0.1
    assert min(starts) < 0.05 and max(starts) > 0.95 and abs(np.mean(starts) - 0.5) < 0.07


def test_the_noise_of_a_view_is_white_and_as_loud_as_asked_for():
    x = torch.sin(torch.arange(16000) * 0.3).expand(40, -1)
    clean, _ = views(x, None, view_keys(40), noise=(200.0, 200.0))
    noisy, _ = views(x, None, view_keys(40), noise=(10.0, 30.0))
    noise = (noisy - clean).double()
    ratio = 10 * torch.log10(clean.double().square().mean(1) / noise.square().mean(1))
    assert ratio.min() > 9.7 and ratio.max() < 30.3 and abs(float(ratio.mean()) - 20) < 3
    for lag in (1, 2, 7):
        shared = (noise[:, lag:] * noise[:, :-lag]).mean(1) / noise.square().mean(1)
        assert shared.abs().max() < 0.06


def test_the_two_views_of_a_row_differ_and_each_is_the_same_again():
    x = waves(spoilt=False)
    first, second, again = (views(x, LENGTHS, view_keys(5), view)[0] for view in (0, 1, 0))
    assert torch.equal(first, again) and not torch.allclose(first[:, :100], second[:, :100])


@pytest.mark.parametrize("noise", [(200.0, 200.0), (10.0, 40.0)], ids=["crop_and_gain", "noise"])
def test_the_view_of_a_row_depends_on_nothing_but_the_row_and_its_key(noise):
    lengths = torch.tensor([20000, 16000, 9000, 500])
    x = waves(lengths, spoilt=False)
    out, kept = views(x, lengths, view_keys(4), noise=noise)
    for i, (length, count) in enumerate(zip(lengths.tolist(), kept.tolist(), strict=True)):
        alone, one = views(x[i : i + 1, :length], lengths[i : i + 1], view_keys(4)[i : i + 1], noise=noise)
        assert one.tolist() == [count]
        assert (alone[0] - out[i, :count]).abs().max() < 1e-5

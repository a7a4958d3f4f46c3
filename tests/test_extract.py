# SPDX-License-Identifier: Apache-2.0
"""Extraction: every item's states are those of the item alone, in a file of its own name, and cut-off runs go on."""

import json

import numpy as np
import pytest
import soundfile
import torch

from pluri.benchmarks import encoders, extract
from pluri.ssl.encoder import Backbone


@pytest.fixture
def clips(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "clips"
    (folder / "a").mkdir(parents=True)
    for name, seconds in (("a/one.wav", 1.3), ("a/two.flac", 0.7), ("three.wav", 2.0), ("one.wav", 0.4)):
        soundfile.write(folder / name, rng.normal(0, 0.1, int(seconds * 16000)), 16000)
    (folder / "broken.wav").write_bytes(b"RIFF nothing")
    return folder


@pytest.mark.parametrize("recipe", ["speech/wav2vec2_tiny", "speech/mockingjay_tiny"])
def test_each_clips_states_are_those_of_the_clip_alone(recipe, clips, tmp_path):
    backbone = encoders.load(f"random:{recipe}")
    written, bad = extract.extract(backbone, str(clips), tmp_path / "out", workers=0)
    assert written == 4 and [name.endswith("broken.wav") for name, _ in bad] == [True]
    for name in ("a/one.wav", "a/two.flac", "three.wav", "one.wav"):
        wave, _ = soundfile.read(clips / name, dtype="float32")
        with torch.inference_mode():
            alone = torch.stack([layer[0] for layer in backbone(torch.from_numpy(wave)[None]).layers]).numpy()
        found = np.load(tmp_path / "out" / f"{name}.npy")
        assert found.dtype == np.float32 and found.shape == alone.shape
        assert np.abs(found - alone).max() < 1e-4 * np.abs(alone).max()


def test_layers_half_precision_and_bf16(clips, tmp_path):
    backbone = encoders.load("random:speech/mockingjay_tiny")
    extract.extract(backbone, str(clips), tmp_path / "all", workers=0)
    for layer, place in ((0, 0), (3, 3)):
        extract.extract(backbone, str(clips), tmp_path / str(layer), layer=layer, half=True, workers=0)
        one, whole = (np.load(tmp_path / d / "three.wav.npy") for d in (str(layer), "all"))
        assert one.dtype == np.float16 and np.allclose(one, whole[place], atol=2e-3 * np.abs(whole[place]).max())
    extract.extract(backbone, str(clips), tmp_path / "half", layer=-1, precision="bf16", workers=0)
    extract.extract(backbone, str(clips), tmp_path / "last", layer=-1, workers=0)
    one, other = (np.load(tmp_path / d / "three.wav.npy") for d in ("half", "last"))
    assert one.dtype == np.float32 and 0 < np.abs(one - other).max() < 0.1 * np.abs(other).max()
    with pytest.raises(ValueError, match="layer 4 is not one of"):
        extract.extract(backbone, str(clips), tmp_path / "none", layer=4, workers=0)


def test_what_has_a_file_is_not_computed_again(clips, tmp_path, monkeypatch):
    backbone = encoders.load("random:speech/mockingjay_tiny")
    extract.extract(backbone, str(clips), tmp_path / "out", workers=0)
    (tmp_path / "out/a/one.wav.npy").unlink()
    calls = []
    forward = Backbone.forward
    monkeypatch.setattr(Backbone, "forward", lambda *a, **k: calls.append(len(a[1])) or forward(*a, **k))
    assert extract.extract(backbone, str(clips), tmp_path / "out", workers=0)[0] == 1 and calls == [1]
    assert extract.extract(backbone, str(clips), tmp_path / "out", workers=0)[0] == 0 and calls == [1]
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_a_manifests_pieces_have_files_of_their_own_inside_the_folder(clips, tmp_path):
    manifest = clips / "a" / "list.tsv"
    manifest.write_text("path\tstart\tend\n../three.wav\t\t\n../three.wav\t0.5\t1.5\n")
    backbone = encoders.load("fbank")
    extract.extract(backbone, str(manifest), tmp_path / "out", workers=0)
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.npy"))
    assert files == ["three.wav.npy", "three.wav@0.5.npy"]
    assert np.load(tmp_path / "out/three.wav@0.5.npy").shape[1] == 98


def test_two_items_are_never_written_to_one_file(clips, tmp_path):
    manifest = clips / "a" / "list.tsv"
    manifest.write_text("path\tstart\tend\n../one.wav\t\t\none.wav\t\t\n")
    with pytest.raises(ValueError, match="both be written to one.wav.npy"):
        extract.extract(encoders.load("fbank"), str(manifest), tmp_path / "out", workers=0)


def test_a_folder_is_not_filled_up_with_what_other_settings_give(clips, tmp_path):
    words = ["fbank", str(clips), "--out", str(tmp_path / "out"), "--workers", "0"]
    extract.main(words)
    extract.main(words)
    with pytest.raises(ValueError, match="choose another --out"):
        extract.main([*words, "--half"])
    with pytest.raises(ValueError, match="choose another --out"):
        extract.main(["fbank", str(clips / "a"), *words[2:]])


def test_weights_that_have_changed_under_the_same_name_are_other_settings(clips, tmp_path, monkeypatch):
    words = ["some/run", str(clips), "--out", str(tmp_path / "out"), "--workers", "0"]
    backbone = encoders.load("random:speech/mockingjay_tiny")
    monkeypatch.setattr(extract, "load", lambda name: backbone)
    extract.main(words)
    with torch.no_grad():
        next(backbone.parameters()).add_(1.0)
    with pytest.raises(ValueError, match="choose another --out"):
        extract.main(words)


def test_what_finds_no_data_does_not_keep_its_folder_from_other_settings(clips, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no audio in"):
        extract.main(["mfcc", str(tmp_path / "empty"), "--out", str(tmp_path / "out")])
    extract.main(["fbank", str(clips), "--out", str(tmp_path / "out"), "--workers", "0"])
    assert len(list((tmp_path / "out").rglob("*.npy"))) == 4


def test_images_by_their_names(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for name in ("x.png", "y.png"):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "pictures" / name)
    backbone = encoders.load("random:vision/byol_tiny")
    assert extract.extract(backbone, str(tmp_path / "pictures"), tmp_path / "out", workers=0)[0] == 2
    assert np.load(tmp_path / "out/x.png.npy").shape == (5, 17, 192)


def test_lines_of_text_have_the_numbers_that_they_have_in_their_file(small_bert, tmp_path):
    (tmp_path / "lines.txt").write_text("one sentence\n\nanother one\n  \n")
    done = extract.extract(encoders.load(str(small_bert)), str(tmp_path / "lines.txt"), tmp_path / "out", workers=0)
    assert done[0] == 2
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npy")) == ["00000001.npy", "00000003.npy"]
    (tmp_path / "lines.txt").write_bytes("one\ngrün\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"lines.txt, line 2: not UTF-8"):
        extract.extract(encoders.load(str(small_bert)), str(tmp_path / "lines.txt"), tmp_path / "out", workers=0)


def test_the_command_names_what_it_left_out(clips, tmp_path, capsys):
    words = ["random:speech/mockingjay_tiny", str(clips), "--out", str(tmp_path / "out"), "--workers", "0"]
    extract.main(words)
    said = capsys.readouterr().out
    assert "broken.wav" in said and "4 files written" in said
    rows = [json.loads(line) for line in (tmp_path / "out/bad_items.jsonl").read_text().splitlines()]
    assert rows[0]["item"].endswith("broken.wav") and rows[0]["reason"]
    with pytest.raises(SystemExit):
        extract.main([*words, "--layer", "top"])
    with pytest.raises(ValueError, match="does not exist"):
        extract.main(["fbank", str(tmp_path / "nothing"), "--out", str(tmp_path / "out2")])

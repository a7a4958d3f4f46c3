# SPDX-License-Identifier: Apache-2.0
"""An encoder by its name: a run, a published model, raw features, or a recipe's network with random weights."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from .. import recipes
from ..speech.features import FeaturesConfig
from ..speech.frontend import WaveFrontEnd
from ..speech.spectrum import SpectrumFrontEnd
from ..speech.waveforms import sample_counts
from ..ssl import checkpoint, published
from ..ssl.blocks import EncoderConfig
from ..ssl.config import Config, to_dict
from ..ssl.encoder import Backbone, Encoder, FrontEnd, Units
from ..ssl.packing import row_lengths
from ..ssl.positions import NoPositionsConfig
from ..ssl.pretrain import load_backbone
from ..ssl.recipe import FILE
from ..text.frontend import TextFrontEnd
from ..vision.frontend import PatchFrontEnd
from .s3prl.encoder import PREFIX, UpstreamFrontEnd, load_upstream
from .superb import baselines

RAW = ("fbank", "mfcc", *baselines.NAMES, "pixels")


class Start(NamedTuple):
    """What fine-tuning starts from."""

    name: str
    backbone: Backbone
    pooler: dict[str, Tensor] | None = None  # BERT's layer on the first vector: "weight" (D, D) and "bias" (D,)


def start(name: str) -> Start:
    """The backbone of this name and, where it was pre-trained with one, BERT's pooler. Raises ValueError as `load`."""
    backbone = load(name)
    folder = Path(name)
    pooler = None
    if (folder / FILE).is_file():
        newest = checkpoint.latest(folder)
        weights = checkpoint.load_weights(newest) if newest is not None else {}
        pooler = _below(weights, "pooler.")
    elif modality(backbone) == "text" and not name.startswith("random:"):
        _, weights = published.read(folder if (folder / published.CONFIG).is_file() else from_hub(name))
        pooler = _below(weights, "pooler.dense.") or _below(weights, "bert.pooler.dense.")
    return Start(name, backbone, pooler or None)


def _below(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def fingerprint(begin: Start) -> str:
    """A hash of a backbone's settings and weights, which its name says nothing of."""
    digest = hashlib.blake2b(digest_size=16)
    tensors = {**begin.backbone.state_dict(), **(begin.pooler or {})}
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(json.dumps(to_dict(begin.backbone.encoder.config)).encode())
    return digest.hexdigest()


def load(name: str | Path) -> Backbone:
    """The backbone of this name, in eval mode, float32, on the CPU.

    Args:
        name: a run directory, a local Hugging Face folder, a hub name, `random:RECIPE`, raw features (`RAW`), or an
            upstream of s3prl's (`s3prl:NAME`, with @CHECKPOINT or @SETTINGS or both behind it).
    Raises: ValueError if nothing has this name.
    """
    name = str(name)
    if name in RAW:
        return raw(name).eval()
    if name.startswith("random:"):
        torch.manual_seed(0)
        return recipes.find(name.removeprefix("random:")).backbone().eval()
    if name.startswith(PREFIX):
        return load_upstream(name)
    folder = Path(name)
    if (folder / FILE).is_file():
        return load_backbone(folder)
    if not (folder / published.CONFIG).is_file():
        folder = from_hub(name)
    return _from_hf(folder)


def from_hub(name: str) -> Path:
    """A model's files from the hub, or from its cache. Raises ValueError if there is none of this name."""
    known = f"a run directory, a Hugging Face folder or hub name, random:RECIPE, s3prl:NAME, {', '.join(RAW)}"
    wrong = f"no encoder {name}: name one of {known}"
    if name.count("/") != 1 or Path(name).exists() or Path(name).parent.is_dir():  # a local path, perhaps mistyped
        raise ValueError(wrong)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "vocab.txt", "merges.txt"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(f"{wrong} (the hub says: {' '.join(str(error).split())[:120]})") from error


def _from_hf(folder: Path) -> Backbone:
    from ..speech import published as speech
    from ..text import published as text
    from ..vision import published as vision

    settings, _ = published.read(folder)
    kind = settings.get("model_type")
    for module in (text, speech, vision):
        if kind in module.TYPES:
            return module.from_hf(folder)
    known = ", ".join((*text.TYPES, *speech.TYPES, *vision.TYPES))
    raise ValueError(f"{folder} holds a {kind}, which pluri cannot read: it knows {known}")


def modality(backbone: Backbone) -> Literal["text", "speech", "vision"]:
    """Which inputs a backbone takes."""
    front_end = backbone.front_end
    if isinstance(front_end, (TextFrontEnd, BagOfTokens)):
        return "text"
    if isinstance(front_end, (WaveFrontEnd, SpectrumFrontEnd, RawSpectrum, baselines.Baseline, UpstreamFrontEnd)):
        return "speech"
    assert isinstance(front_end, (PatchFrontEnd, Pixels))
    return "vision"


def settings_of(backbone: Backbone) -> Config:
    """The settings of an encoder of speech's front end, which its weights say nothing of."""
    front_end = backbone.front_end
    if isinstance(front_end, RawSpectrum):
        return front_end.features.config
    assert isinstance(front_end, (WaveFrontEnd, SpectrumFrontEnd, baselines.Baseline, UpstreamFrontEnd))
    return front_end.config


def pixel_shape(backbone: Backbone) -> tuple[int, int]:
    """Side and channels of the images that a backbone takes."""
    front_end = backbone.front_end
    assert isinstance(front_end, (PatchFrontEnd, Pixels))
    if isinstance(front_end, PatchFrontEnd):
        return front_end.config.size, front_end.config.channels
    return front_end.size, front_end.channels


def text_tokenizer(backbone: Backbone) -> Tokenizer:
    """The tokenizer that a backbone's ids are from. Raises ValueError if it brought none."""
    front_end = backbone.front_end
    assert isinstance(front_end, (TextFrontEnd, BagOfTokens))
    if front_end.tokenizer is None:
        raise ValueError("this text encoder came without a tokenizer: put a vocab.txt or tokenizer.json beside it")
    return front_end.tokenizer


def random_twin(backbone: Backbone, seed: int) -> Backbone:
    """The same network with random weights. Raises ValueError for an upstream of s3prl's."""
    torch.manual_seed(seed)
    trained = backbone.front_end
    if isinstance(trained, UpstreamFrontEnd):
        raise ValueError("pluri cannot draw the weights of s3prl's upstreams anew: set --beside False")
    assert isinstance(trained, (TextFrontEnd, WaveFrontEnd, SpectrumFrontEnd, PatchFrontEnd))
    with tempfile.TemporaryDirectory() as folder:
        trained.save_assets(Path(folder))
        front_end = trained.config.build(Path(folder))
    return Backbone(front_end, Encoder(backbone.encoder.config)).eval()


def raw_features(backbone: Backbone) -> tuple[str, Backbone]:
    """The raw features of a backbone's modality: their name, and a backbone without a layer that gives them."""
    kind = modality(backbone)
    if kind == "speech":
        return "fbank", raw("fbank").eval()
    if kind == "vision":
        return "pixels", _shell(Pixels(*pixel_shape(backbone))).eval()
    return "bag of tokens", _shell(BagOfTokens(text_tokenizer(backbone))).eval()


def raw(name: str) -> Backbone:
    """`fbank` (80 log filters and their deltas), `mfcc` (13 and their deltas, twice), `pixels` (3 x 32 x 32), or one
    of SUPERB's baselines (`superb/baselines.py`)."""
    if name == "pixels":
        return _shell(Pixels(32, 3))
    if name in baselines.KALDI:
        return _shell(RawSpectrum(baselines.KALDI[name]))
    if name == "mel" or name == "linear" or name == "waveform":
        return _shell(baselines.Baseline(baselines.BaselineConfig(kind=name)))
    deltas = 1 if name == "fbank" else 2
    kind = (
        FeaturesConfig(deltas=deltas, normalize=False)
        if name == "fbank"
        else FeaturesConfig(kind="mfcc", bins=23, deltas=deltas, normalize=False)
    )
    return _shell(RawSpectrum(kind))


def _shell(front_end: FrontEnd) -> Backbone:
    """A backbone that passes its front end's vectors on."""
    config = EncoderConfig(
        depth=0, width=front_end.width, heads=1, norm="none", positions=NoPositionsConfig(), dropout=0.0
    )
    return Backbone(front_end, Encoder(config))


class RawSpectrum(FrontEnd):
    """Spectral frames as they are, one each 10 ms."""

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.features = config.build()
        self.width = self.unit_width = config.width

    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        return Units(*self.features(inputs, lengths))

    def embed(self, values: Tensor) -> Tensor:
        return values

    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        samples = sample_counts(inputs, lengths)
        return torch.tensor([self.features.count(length) for length in samples])

    def save_assets(self, folder: Path) -> None:
        pass


class Pixels(FrontEnd):
    """An image as one vector of its pixels, in [0, 1]."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size, self.channels = size, channels
        self.width = self.unit_width = channels * size * size

    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        scale = 255.0 if inputs.dtype == torch.uint8 else 1.0
        return Units(inputs.flatten(1)[:, None].float() / scale, None)

    def embed(self, values: Tensor) -> Tensor:
        return values

    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        return torch.ones(len(inputs), dtype=torch.int64)

    def save_assets(self, folder: Path) -> None:
        pass


class BagOfTokens(FrontEnd):
    """Each id as a vector that is one in its own place: their mean is a bag of tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.width = max(tokenizer.get_vocab().values()) + 1
        self.unit_width = 1

    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        return Units(inputs, lengths)

    def embed(self, values: Tensor) -> Tensor:
        return F.one_hot(values, self.width).float()

    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        return torch.tensor(row_lengths(inputs, lengths))

    def save_assets(self, folder: Path) -> None:
        pass

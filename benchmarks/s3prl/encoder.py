# SPDX-License-Identifier: Apache-2.0
"""An upstream of s3prl's as a frozen encoder of pluri's: `s3prl:NAME`, or `s3prl:NAME@CHECKPOINT` from a local file.

A file of settings (s3prl's `-g`) comes behind the checkpoint, `s3prl:NAME@CHECKPOINT@SETTINGS`, or in its place where
an upstream has none, as baseline_local and stft_mag.
Every clip is encoded alone, in float32, since what s3prl's upstreams say of a clip may depend on those beside it.
Shape letters: B rows, S samples, T frames, L layers, D width.
"""

import dataclasses
import hashlib
import importlib.util
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ...speech.waveforms import sample_counts
from ...ssl.blocks import EncoderConfig
from ...ssl.config import Config
from ...ssl.encoder import Backbone, Encoded, Encoder, FrontEnd, Units
from ...ssl.packing import Rows
from ...ssl.positions import NoPositionsConfig
from . import shims

PREFIX = "s3prl:"
BASELINES = ("baseline", "fbank", "fbank_no_cmvn", "linear", "mel", "mfcc", "spectrogram")  # they have no weights
OWN = "customized_upstream"  # which users write themselves, in s3prl's upstream/example/expert.py
_LOCAL = ("_local", "_custom")  # how its names end that take a checkpoint
_SET = ("baseline_local", "stft_mag")  # they have settings and no checkpoint
_UNFIT = {
    "mos_apc_local": "a download of apc, and gives scores in place of states",
    "mos_tera_local": "a download of tera, and gives scores in place of states",
    "mos_wav2vec2_local": "a download of wav2vec2, and gives scores in place of states",
}
_PLACES = {**dict.fromkeys(BASELINES, "s3prl.upstream.baseline.hubconf"), OWN: "s3prl.upstream.example.hubconf"}
_FAULTS = (AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError)
_SHORTEST = 800  # samples, 50 ms; zeros are put behind a shorter clip, as s3prl's nn/upstream.py does


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpstreamConfig(Config):
    """Which upstream."""

    name: str  # in s3prl's hub
    checkpoint: str = ""  # a local file or, for Hugging Face's models, a folder
    settings: str = ""  # a local file, s3prl's model_config
    version: int = 2  # by which stores and sweeps are known; 1 repeated the last frame up to nn/upstream.py's count
    digest: str = ""  # of what may change under the same name: the checkpoint, and the code of one's own upstream

    @classmethod
    def of(cls, encoder: str) -> "UpstreamConfig":
        """What `s3prl:NAME`, with @CHECKPOINT or @SETTINGS or both, names.

        Raises: ValueError for names that s3prl would download, and files that are not there or have no use.
        """
        name, _, files = encoder.removeprefix(PREFIX).partition("@")
        if name in _UNFIT:
            raise ValueError(f"{encoder}: {name} needs {_UNFIT[name]}: use {PREFIX}{OWN}")
        if name not in (*BASELINES, *_SET, OWN) and not name.endswith(_LOCAL):
            known = f"{', '.join((*BASELINES, OWN))}, or, with @FILE, stft_mag or what ends in _local or _custom"
            raise ValueError(f"{encoder} is no upstream of s3prl's that needs no download: name one of {known}")
        if name in BASELINES and files:
            raise ValueError(f"{encoder}: {name} takes no checkpoint")
        checkpoint, settings = _parts(name, files)
        form = f"as {PREFIX}{name}@FILE" + "@SETTINGS" * (name == "pase_local")
        if (name.endswith(_LOCAL) and name not in _SET or checkpoint) and not Path(checkpoint or "no file").exists():
            raise ValueError(f"{encoder}: name a checkpoint that is there, {form}")
        if (name in (*_SET, "pase_local") or settings) and not Path(settings).is_file():
            raise ValueError(f"{encoder}: name a file of settings that is there, {form}")
        return cls(name=name, checkpoint=checkpoint, settings=settings, digest=_digest(name, checkpoint, settings))

    def build(self) -> nn.Module:
        """s3prl's own module, in eval mode. Raises ValueError if it does not know the name or the checkpoint."""
        import yaml

        given = {"ckpt": self.checkpoint, "model_config": self.settings}
        given = {argument: file for argument, file in given.items() if file}
        with shims.applied():
            entries = vars(shims.quiet(_PLACES.get(self.name, "s3prl.hub")))  # the hub takes seconds
            if self.name not in entries:
                raise ValueError(f"s3prl has no upstream {self.name}")
            try:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)  # of weights that no checkpoint holds
                    module = entries[self.name](**given)
            except (*_FAULTS, ValueError, pickle.UnpicklingError, yaml.YAMLError) as error:
                why = " ".join(f"{type(error).__name__} {error}".split())[:200]
                files = " and ".join(given.values()) or "nothing"
                raise ValueError(f"s3prl's {self.name} cannot be built from {files}: {why}") from error
        assert isinstance(module, nn.Module)
        return module.eval()


def _parts(name: str, files: str) -> tuple[str, str]:
    """The checkpoint and the settings that are named behind an upstream, "" each where it is not."""
    if name in _SET:
        return "", files
    if "@" not in files or Path(files).exists():
        return files, ""
    checkpoint, _, settings = files.rpartition("@")
    return checkpoint, settings


def _digest(name: str, checkpoint: str, settings: str) -> str:
    """Changes with the files behind an upstream; "" if there are none."""
    files = [file for place in (checkpoint, settings) if place for file in _files(Path(place))]
    package = importlib.util.find_spec("s3prl")
    if name == OWN and package is not None and package.origin is not None:
        files += _files(Path(package.origin).parent / "upstream" / "example", "*.py")
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "blake2b").digest())
    return digest.hexdigest() if files else ""


def _files(place: Path, pattern: str = "*") -> list[Path]:
    """A file, or those of a folder and below, in order."""
    return [place] if place.is_file() else sorted(path for path in place.rglob(pattern) if path.is_file())


class UpstreamFrontEnd(FrontEnd):
    """All of an upstream's layers side by side, frame by frame."""

    def __init__(self, config: UpstreamConfig) -> None:
        super().__init__()
        self.config = config
        self.upstream = config.build()
        probe = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            layers = _hidden_states(self.upstream([probe]))
        rates = _rates(self.upstream)
        if len({layer.shape[-1] for layer in layers}) > 1 or len(set(rates)) > 1:
            raise ValueError(f"the layers of s3prl's {config.name} differ in width or rate: pluri needs them alike")
        self.layers, self.width, self.rate = len(layers), layers[0].shape[-1], rates[0]
        self.unit_width = self.layers * self.width

    @torch.no_grad()
    def units(self, inputs: Tensor, lengths: Tensor | None = None) -> Units:
        """Waveforms (B, S) at 16 kHz to (B, T, L D) float32."""
        samples = sample_counts(inputs, lengths)
        with torch.autocast(inputs.device.type, enabled=False):
            rows = [self._row(row[:count].float()) for row, count in zip(inputs, samples, strict=True)]
        counts = torch.tensor([len(row) for row in rows])
        return Units(nn.utils.rnn.pad_sequence(rows, batch_first=True), counts)

    def _row(self, wave: Tensor) -> Tensor:
        """(S,) to (T, L D): the upstream's own frames, without those behind the end of a clip that was filled up."""
        filled = nn.functional.pad(wave, (0, max(0, _SHORTEST - len(wave))))
        x = torch.cat([layer[0] for layer in _hidden_states(self.upstream([filled]))], dim=-1)
        return x if len(filled) == len(wave) else x[: -(-len(wave) // self.rate)]

    def embed(self, values: Tensor) -> Tensor:
        """The last layer, (B, T, D)."""
        return values[..., -self.width :]

    def unit_lengths(self, inputs: Tensor, lengths: Tensor | None) -> Tensor:
        """As s3prl's nn/upstream.py expects, one for each `rate` samples begun; many upstreams make a few less."""
        samples = sample_counts(inputs, lengths)
        return torch.tensor([-(-count // self.rate) for count in samples])

    def save_assets(self, folder: Path) -> None:
        pass


def _hidden_states(said: Mapping[str, Sequence[Tensor]]) -> Sequence[Tensor]:
    """(1, T, D) for each layer."""
    return said["hidden_states"]


def _rates(upstream: nn.Module) -> list[int]:
    """Samples (16 kHz) of a frame, once or for each layer."""
    ask = upstream.get_downsample_rates
    assert callable(ask)
    found = ask("hidden_states")
    return [found] if isinstance(found, int) else list(found)


class UpstreamBackbone(Backbone):
    """A backbone whose encoder has no blocks, as its front end gives the states of every layer."""

    def __init__(self, front_end: UpstreamFrontEnd) -> None:
        depth = front_end.layers - 1
        with torch.device("meta"):  # blocks that are only counted
            encoder = Encoder(
                EncoderConfig(
                    depth=depth, width=front_end.width, heads=1, norm="none", positions=NoPositionsConfig(), dropout=0.0
                )
            )
        encoder.blocks = nn.ModuleList()
        super().__init__(front_end, encoder)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None, layers: bool = True) -> Encoded:
        """As every backbone's; the normalised output is s3prl's last state."""
        values, counts, _ = self.front_end.units(inputs, lengths)
        rows = Rows.of(values, counts)
        states = list(rows.pack(values).split(self.front_end.width, dim=-1))  # (N, D) each
        return Encoded(rows, states[-1], states if layers else [])


def load_upstream(encoder: str) -> Backbone:
    """The upstream that `UpstreamConfig.of` names. Raises ValueError as it does."""
    return UpstreamBackbone(UpstreamFrontEnd(UpstreamConfig.of(encoder))).eval()

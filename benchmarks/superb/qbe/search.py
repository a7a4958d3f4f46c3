# SPDX-License-Identifier: Apache-2.0
"""The search of QbE: every layer looks for the dev queries, and the best one for those of test.

Settings of s3prl@ec8064b, downstream/quesst14_dtw. A search's folder holds layer_N.json, the value of the dev queries,
and search.json, what the best layer says of test.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from ....ssl.config import Config
from ....ssl.encoder import Backbone
from ....ssl.parallel import find_device
from ..clips import Clips
from ..featurizer import FeaturizerConfig
from ..layouts.quesst14 import Search
from ..states import Online, Precision, Reading, States
from ..store import StoreConfig, open_states, remove
from ..swept import CorpusConfig, departures
from ..utterance.config import need_all
from ..utterances import Utterance, file_lengths, need_all_of_test
from .spoken_terms import search, standardise
from .term_value import greatest_term_value

GAIN = -3.0  # decibels
FOUND = "search.json"
_READ = 64  # clips whose states are read at once

Scores = dict[str, dict[str, float]]  # of each query and recording


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(Config):
    """Settings of QbE."""

    data: CorpusConfig = CorpusConfig()
    store: StoreConfig = StoreConfig()
    layers: tuple[int, ...] = ()  # that are tried, 0 the encoder's input; none: all
    precision: Precision = "fp32"  # of the encoder
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def rules(self) -> str:
        """One line on the protocol, to be printed beside every score."""
        others = [f"{name} {words}" for name, words in departures(self).items() if name != "layers"]
        rest = f"; not as published: {', '.join(others)}" if others else ""
        tried = f"the best of the layers {', '.join(map(str, self.layers))}" if self.layers else "the best layer"
        return f"frozen, no training: subsequence DTW of states; {tried} by the dev queries' MTWV{rest}"


class _Numbers(NamedTuple):
    """The clips of a search."""

    dev: list[int]
    test: list[int]
    documents: list[int]


class Found(NamedTuple):
    """What came of a search."""

    dev: dict[str, float]  # MTWV of the dev queries, of each layer
    layer: int  # the best
    test: dict[str, float]  # its figures
    scores: Scores  # what it says of the test queries


def find(
    config: SearchConfig, wanted: Search, backbone: Backbone, folder: Path, out: Path, say: Callable[[str], None]
) -> tuple[Found, Path]:
    """What came of a search, and the folder of these settings and this encoder, where it is kept; it can be cut off.

    Args:
        folder: what that folder's name begins with. out: the store lies below.
    Raises: ValueError if there is no truth to score by, no such layer, or audio that cannot be read.
    """
    if wanted.test_truth is None or wanted.dev_truth is None:
        raise ValueError(f"{config.data.path} has no truth of dev or test (scoring/groundtruth_quesst14_*): add it")
    for name, truth, queries in (("dev", wanted.dev_truth, wanted.dev), ("test", wanted.test_truth, wanted.test)):
        if not any(truth.get(query.name) for query in queries):
            raise ValueError(
                f"{config.data.path}: by its truth none of the {len(queries)} {name} queries occurs in any document: "
                f"nothing could be found; the first is {queries[0].name}"
            )
    reading = _reading(config, backbone)
    clips = Clips(GAIN)
    numbers = _Numbers(*([clips.add(one) for one in _timed(part)] for part in wanted[:3]))
    truths = [
        sorted((query, sorted(found)) for query, found in truth.items())
        for truth in (wanted.dev_truth, wanted.test_truth)
    ]
    about = json.dumps([reading.key(), clips.hash(), truths, sorted(wanted.recordings), config.store.dtype])
    folder = folder.with_name(f"{folder.name}-{hashlib.blake2b(about.encode(), digest_size=4).hexdigest()}")
    if not (folder / FOUND).is_file():
        states = _opened(config, out, clips, reading, say)
        folder.mkdir(parents=True, exist_ok=True)
        searcher = _Searcher(states, wanted.documents, numbers.documents, config.device)
        dev = {
            str(layer): _value(searcher, place, wanted, numbers, folder / f"layer_{layer}.json")
            for place, layer in enumerate(reading.layers)
        }
        say(f"MTWV of the dev queries by layer: {', '.join(f'{layer}: {value:.4f}' for layer, value in dev.items())}")
        best = int(max(dev, key=lambda layer: dev[layer]))
        said = searcher(reading.layers.index(best), wanted.test, numbers.test)
        found = Found(dev, best, values(said, wanted, wanted.test_truth), said)
        _write(folder / FOUND, found._asdict())
        if not config.store.keep:
            remove(states)
    return Found(**json.loads((folder / FOUND).read_text())), folder


def _opened(config: SearchConfig, out: Path, clips: Clips, reading: Reading, say: Callable[[str], None]) -> States:
    """The states of all clips. Raises ValueError for audio that cannot be read."""
    states = open_states(config.store, out, clips, reading, say)
    need_all(range(len(clips)), states, clips)
    if isinstance(states, Online):
        passes = len(reading.layers) + 1
        say(f"the encoder runs over all documents {passes} times: once for each layer, and again for test")
    return states


def _reading(config: SearchConfig, backbone: Backbone) -> Reading:
    depth = backbone.encoder.config.depth
    if wrong := [layer for layer in config.layers if not 0 <= layer <= depth]:
        raise ValueError(f"--layers {wrong[0]} is not one of 0 (the encoder's input) to {depth}")
    reading = Reading.of(backbone.to(find_device(config.device)), FeaturizerConfig(), False, config.precision)
    return dataclasses.replace(reading, layers=config.layers or tuple(range(depth + 1)))


def values(said: Scores, wanted: Search, truth: dict[str, set[str]]) -> dict[str, float]:
    """MTWV against the whole truth and, where that knows more than was searched, against the part that was searched.

    Args:
        truth: the documents that hold each test query.
    """
    figures = {"mtwv": greatest_term_value(said, truth, wanted.recordings).value}
    names = {document.name for document in wanted.documents}
    part = {query: found & names for query, found in truth.items() if query in said}
    if (names != set(wanted.recordings) or part.keys() != truth.keys()) and any(part.values()):
        figures["mtwv_english"] = greatest_term_value(said, part, names).value
    return figures


class _Searcher(NamedTuple):
    """The documents, and the states in which queries are looked for."""

    states: States
    documents: list[Utterance]
    numbers: list[int]
    device: str

    def __call__(self, place: int, queries: list[Utterance], numbers: list[int]) -> Scores:
        """How surely each document holds each query, by the layer that stands at this place in the states."""
        device = find_device(self.device)
        features: list[Tensor] = []
        clips = [*numbers, *self.numbers]
        for start in range(0, len(clips), _READ):
            x, lengths = self.states.read(clips[start : start + _READ], place)
            features += x[:, 0].to(device).split(lengths)
        features = standardise(features)
        found = search(features[: len(numbers)], features[len(numbers) :]).tolist()
        names = [document.name for document in self.documents]
        return {query.name: dict(zip(names, line, strict=True)) for query, line in zip(queries, found, strict=True)}


def _value(searcher: _Searcher, place: int, wanted: Search, numbers: _Numbers, path: Path) -> float:
    """A layer's MTWV of the dev queries, which is kept in a file."""
    assert wanted.dev_truth is not None
    if not path.is_file():
        said = searcher(place, wanted.dev, numbers.dev)
        _write(path, greatest_term_value(said, wanted.dev_truth, wanted.recordings).value)
    return json.loads(path.read_text())


def _timed(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The utterances with their ends. Raises ValueError for what is no audio."""
    lengths = file_lengths(one.path for one in utterances)
    need_all_of_test([(str(path), why) for path, why in lengths.items() if isinstance(why, str)])
    timed = []
    for one in utterances:
        length = lengths[one.path]
        assert isinstance(length, float)
        end = min(one.end or length, length)
        if end <= one.start:
            raise ValueError(f"{one.path} ends at {length:g} s, before the piece at {one.start:g} s begins")
        timed.append(one._replace(end=end))
    return timed


def _write(path: Path, value: Any) -> None:
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps(value) + "\n")
    beside.rename(path)

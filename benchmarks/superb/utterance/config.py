# SPDX-License-Identifier: Apache-2.0
"""What the tasks with classes of whole utterances share: parts become numbers, and predictions become files."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, Self, TypeVar

from ..clips import Clips
from ..featurizer import FeaturizerConfig
from ..predictions import FILES, write_intents, write_pairs
from ..states import Reading, States
from ..sweep import Plan, Probe, Run
from ..swept import Fold, Prepared, SweptConfig
from ..utterances import Slot, Utterance, need_all_of_test
from .probe import Drawing, Labelled, UtteranceProbe, label, read_predictions


def need_all(numbers: Iterable[int], states: States, clips: Clips) -> None:
    """Raises ValueError if a test clip cannot be read."""
    need_all_of_test([(clips.name(number), states.bad[number]) for number in numbers if number in states.bad])


class Part(Protocol):
    """Utterances, by name, of which some may turn out to be bad."""

    @property
    def names(self) -> list[str]: ...

    def without(self, bad: Iterable[int]) -> Self:
        """The part without the clips of these numbers."""
        ...


P = TypeVar("P", bound=Part)


def usable(name: str, part: P, states: States, clips: Clips) -> P:
    """What can be read of a part. Raises ValueError if more than a twentieth cannot."""
    kept = part.without(states.bad)
    gone = len(part.names) - len(kept.names)
    if gone > 0.05 * len(part.names):
        bad = list(states.bad)  # of other parts too
        first = next(n for i, n in enumerate(bad, 1) if len(part.without(bad[:i]).names) < len(part.names))
        raise ValueError(
            f"{gone} of {len(part.names)} clips of {name} cannot be read, more than 5 %: "
            f"{clips.name(first)}: {states.bad[first]}"
        )
    return kept


class _Prepared(Prepared):
    """The three parts of a fold, with numbers for clips and classes."""

    def __init__(
        self,
        parts: tuple[Labelled, Labelled, Labelled],
        slots: Sequence[Slot],
        clips: Clips,
        featurizer: FeaturizerConfig,
        drawing: Drawing,
    ) -> None:
        self.parts, self.slots, self.clips, self.featurizer, self.drawing = parts, slots, clips, featurizer, drawing

    def probe(self, states: States, reading: Reading, plan: Plan) -> Probe:
        train, dev, test = self.parts
        need_all((piece for pieces in test.pieces for piece in pieces), states, self.clips)
        kept = usable("train", train, states, self.clips), usable("dev", dev, states, self.clips)
        return UtteranceProbe((*kept, test), self.slots, states, reading, self.featurizer, self.drawing, plan)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UtteranceConfig(SweptConfig, ABC):
    """A task whose head takes the mean over each clip's frames."""

    pooled: ClassVar[bool] = True
    task: ClassVar[str]

    @abstractmethod
    def pieces(self, part: str, utterance: Utterance) -> list[Utterance]:
        """What stands for an utterance of train, dev or test; one of them is drawn each time it is used."""

    @abstractmethod
    def drawing(self) -> Drawing:
        """How utterances are drawn."""

    def prepare(self, fold: Fold, clips: Clips) -> Prepared:
        def part(name: str, utterances: list[Utterance]) -> Labelled:
            return label([(one, self.pieces(name, one)) for one in utterances], fold.parts.slots, clips)

        train, dev, test = fold.parts.train, fold.parts.dev, fold.parts.test
        if not dev:
            raise ValueError(f"{self.data.path} leaves nothing for dev, by which the learning rate is chosen")
        if all(len(slot.values) == 1 for slot in fold.parts.slots):
            name, (value,) = fold.parts.slots[0]
            raise ValueError(
                f"{self.data.path}: training has one {name} only, {value!r}: there is nothing to tell apart"
            )
        parts = part("train", train), part("dev", dev), part("test", test)
        return _Prepared(parts, fold.parts.slots, clips, self.featurizer, self.drawing())

    def write(self, fold: Fold, folder: Path, run: Run, to: Path) -> None:
        said = read_predictions(folder, run.seed, run.rate, fold.parts.slots)
        name = f"{self.task}_{fold.name}" if fold.name else self.task
        path = to / "predict" / FILES[name] if fold.official else to / f"{name}.txt"
        if len(fold.parts.slots) == 3:
            write_intents(path, {name: (values[0], values[1], values[2]) for name, values in said.items()})
        else:
            write_pairs(path, {name: values[0] for name, values in said.items()})

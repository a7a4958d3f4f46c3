# SPDX-License-Identifier: Apache-2.0
"""An encoder that SUPERB's tasks are to score, or its twins at random weights, and where what comes of it goes."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ...ssl.encoder import Backbone
from .. import tuned
from ..encoders import Start, fingerprint, load, random_twin
from .qbe.search import SearchConfig
from .swept import SweptConfig, folder_name

FLOOR = "fbank_no_cmvn"
Stored = TypeVar("Stored", SweptConfig, SearchConfig)


@dataclasses.dataclass(frozen=True)
class Entrant:
    """One line of a table of scores."""

    who: str  # as rows name it
    seeds: int
    out: Path
    say: Callable[[str], None]  # takes lines for the user
    twin_of: str = ""  # the encoder whose random twins these are; "": it is itself
    floor: bool = False  # filter banks, beside an encoder

    def twins(self) -> "Entrant":
        """The same network at random weights, another for each seed. Raises ValueError as `random_twin`."""
        random_twin(load(self.who), 0)  # refused now, and not when the encoder's own sweep is done
        name = f"{tuned.TWIN} of {folder_name(self.who)}"
        return dataclasses.replace(self, who=name, twin_of=self.who)

    def raw(self) -> "Entrant":
        """What the leaderboard's row FBANK seems to be."""
        return dataclasses.replace(self, who=FLOOR, floor=True)

    def backbones(self) -> Iterator[tuple[Backbone, Sequence[int]]]:
        """Networks with the seeds of the heads that read them: the encoder with all, or a twin with each."""
        network = load(self.twin_of or self.who)
        if self.twin_of:
            for seed in range(self.seeds):
                yield random_twin(network, seed), [seed]
        else:
            yield network, range(self.seeds)

    def storing(self, config: Stored, backbone: Backbone) -> Stored:
        """The settings for one of the networks: nothing needs a twin's states afterwards, unless it is the encoder."""
        if not self.twin_of or fingerprint(Start("", backbone)) == fingerprint(Start("", load(self.twin_of))):
            return config
        return dataclasses.replace(config, store=dataclasses.replace(config.store, keep=False))

    def folder(self, task: str) -> Path:
        """What the names of this entrant's sweeps of a task, such as superb/ks, begin with."""
        return self.out / task.replace("/", "-") / folder_name(tuned.TWIN if self.twin_of else self.who)

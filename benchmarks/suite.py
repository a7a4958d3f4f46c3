# SPDX-License-Identifier: Apache-2.0
"""The fine-tuned tasks of a suite, one after the other: rows of scores, prediction files, the page; it can be cut off.

OUT/SUITE-TASK/pretrained and scratch hold the runs (`grid.py`), OUT/predictions what the best network of each task says
in the leaderboard's form, OUT/scores.jsonl the rows and OUT/index.html the page.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..ssl.data import Dataset
from . import scores, tuned
from .encoders import Start, fingerprint, start
from .files import write_json
from .finetune import MissingFiles, TunedConfig, predict
from .grid import BEST_OF, DEV, GUARD, RUN, Grid, Run, data_hash, failures
from .page import page
from .scores import Row

PREDICTIONS = "predictions"
Tuned = TypeVar("Tuned", bound=TunedConfig)
DRAW_EVERY = 60.0  # seconds


class Suite:
    """What has been reached so far, in one folder.

    Args:
        encoder: its name; the same encoder keeps the one that the folder's rows already have for it.
        seeds: runs of each setting. out: the folder. say: takes lines for the user.
    """

    def __init__(self, encoder: str, seeds: int, out: Path, say: Callable[[str], None]) -> None:
        known = start(encoder)
        self.seeds, self.out, self.say = seeds, out, say
        self.encoder = self._known(known) or encoder
        self.title = f"{out.name}: {self.encoder}"
        self.starts, self.scratch = tuned.starts(known), tuned.scratch(known)
        self.rows: list[Row] = []
        self.drawn = time.monotonic()

    def _known(self, known: Start) -> str | None:
        """What rows of this folder call the same encoder, which may have been named by another path."""
        mine = None
        for row in scores.read(self.out):
            guard = self.folder(row.task, tuned.PRETRAINED) / GUARD
            if row.encoder == tuned.TWIN or not guard.is_file():
                continue
            mine = mine or fingerprint(known)
            if json.loads(guard.read_text())["encoder"] == mine:
                return row.encoder
        return None

    def folder(self, name: str, kind: str) -> Path:
        """Where the runs of a task (suite/task) from one kind of start are."""
        return self.out / name.replace("/", "-") / kind

    def task(
        self,
        name: str,
        config: TunedConfig,
        beside: TunedConfig | None = None,
        begin: Callable[[int], Start] | None = None,
    ) -> Grid:
        """One task's rows and prediction files.

        Args:
            name: suite/task. beside: settings of the same architecture from random weights; None: it is not trained.
            begin: another starting point than the encoder itself.
        Returns: the runs from the encoder.
        """
        folder = self.folder(name, tuned.PRETRAINED)
        row, grid = tuned.evaluate(name, config, begin or self.starts, self.encoder, self.seeds, folder)
        rows = [row]
        if beside is not None:
            folder = self.folder(name, tuned.SCRATCH)
            rows.append(tuned.evaluate(name, beside, self.scratch, tuned.TWIN, self.seeds, folder)[0])
        self.add(rows)
        self._write(name, config, grid)
        return grid

    def add(self, rows: list[Row]) -> None:
        """Keeps, writes and prints rows of one task; now and then the page is drawn, to be looked at meanwhile."""
        self.rows += rows
        for line in scores.write(self.out, rows):
            self.say(line)
        self.say(scores.table(rows))
        if time.monotonic() > self.drawn + DRAW_EVERY:
            self.draw({})

    def draw(self, averages: Mapping[str, float]) -> None:
        """Draws the page of everything until now."""
        page(self.out, self.title, scores.read(self.out), averages)
        self.drawn = time.monotonic()

    def _write(self, name: str, config: TunedConfig, grid: Grid) -> None:
        """The best network's answers for the dev and the hidden parts, in the leaderboard's form."""
        splits = grid.task.data(grid.first.backbone)
        (self.out / PREDICTIONS).mkdir(parents=True, exist_ok=True)
        dev = json.loads((grid.folder / grid.kept() / DEV).read_text())["predictions"]
        config.write(grid.task, "dev", splits.dev[""], dev, self.out / PREDICTIONS)
        for part, answers in hidden_answers(config, grid, splits.hidden).items():
            config.write(grid.task, part, splits.hidden[part], answers, self.out / PREDICTIONS)
        for words in failure(grid) if splits.hidden else ():
            self.say(f"{name}: what {PREDICTIONS}/ has of it is by a failed run: {words}")


def hidden_answers(config: TunedConfig, grid: Grid, parts: Mapping[str, Dataset]) -> dict[str, list[Any]]:
    """What a grid's best network says of parts without labels; read from its folder where it has said so before."""
    best = json.loads((grid.folder / BEST_OF).read_text())
    found: dict[str, list[Any]] = {}
    model = None
    for name, data in parts.items():
        path = grid.folder / f"{name}.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        about = {"by": best, "data": data_hash({name: data})}
        if known.get("about") != about:
            model = model or grid.best()
            said = list(predict(model, data, config.loop.precision).values())
            known = {"about": about, "answers": grid.task.answers(data, said)}
            write_json(path, known)
        found[name] = known["answers"]
    return found


def failure(grid: Grid) -> list[str]:
    """How the run whose network is kept came to nothing, as rows of what it says have to tell; empty if it did not."""
    return failures([Run.load(grid.folder / grid.kept() / RUN)])


class Faults:
    """What is wrong with several files, to be told at once."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.missing: MissingFiles | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keeps the ValueError of what is done within, and goes on after it."""
        try:
            yield
        except MissingFiles as missing:
            self.missing = self.missing or missing
        except ValueError as error:
            self.said.append(str(error))

    def tell(self) -> None:
        """Raises ValueError, a line for each fault, or MissingFiles if only files were missing."""
        if self.said:
            raise ValueError("\n".join(dict.fromkeys(self.said)))
        if self.missing is not None:
            raise self.missing


def present(configs: Mapping[str, Tuned], say: Callable[[str], None]) -> dict[str, Tuned]:
    """The tasks whose files are there; of several, those without files are left out, and named.

    All files are read before anything is trained, so that those which cannot be used are all named at once.

    Args:
        configs: settings by names such as clue/c3.
    Raises: ValueError for files that cannot be used, or if no task's files are there.
    """
    found, bad = {}, Faults()
    for name, config in configs.items():
        own = Faults()
        with own.kept():
            config.check()
            found[name] = config
        if own.missing is not None:
            if len(configs) == 1:
                raise own.missing
            say(f"{name}: left out: {own.missing}")
        bad.said += own.said
    bad.tell()
    return _some(found, configs)


def present_with(
    configs: Mapping[str, Tuned],
    diagnostic: Collection[str],
    base: tuple[str, Tuned],
    say: Callable[[str], None],
) -> dict[str, Tuned]:
    """As `present`, where some tasks are answered by another one's network, which is trained for them.

    Args:
        diagnostic: names of such tasks. base: the other one's name, and its settings where nobody asks for it.
    """
    asked = [name for name in configs if name in diagnostic]
    if not asked:
        return present(configs, say)
    by, settings = base
    found = present(configs if by in configs else {**configs, by: settings}, say)
    for name in asked:
        if name in found and by not in found:
            say(f"{name}: left out: the network of {by} answers it, and that task was left out")
            del found[name]
    if by not in configs and not any(name in found for name in asked):
        found.pop(by, None)
    return _some(found, configs)


def _some(found: dict[str, Tuned], asked: Mapping[str, Tuned]) -> dict[str, Tuned]:
    if not found:
        raise ValueError(f"none of the files of {', '.join(asked)} is there: is --data.path right?")
    return found


def run(suite: Suite, configs: Mapping[str, TunedConfig], beside: bool) -> Iterator[tuple[str, Grid]]:
    """All tasks whose files are there, one after the other.

    Args:
        configs: settings by names such as clue/c3. beside: also trains the same architecture from random weights.
    Returns: each task's name and its runs, when they are done.
    Raises: as `present`; ssl.stopped.Interrupted.
    """
    for name, config in present(configs, suite.say).items():
        yield name, suite.task(name, config, config if beside else None)


def evaluate(
    configs: Mapping[str, TunedConfig], encoder: str, seeds: int, beside: bool, out: Path, say: Callable[[str], None]
) -> list[Row]:
    """Runs the tasks whose files are there, and writes everything into `out`.

    Args:
        configs: settings by names such as squad/v1.
        beside: also trains the same architecture from random weights, for the page's figure.
    Raises: ValueError if no task's files are there; ssl.stopped.Interrupted.
    """
    suite = Suite(encoder, seeds, out, say)
    for _ in run(suite, configs, beside):
        pass
    suite.draw({})
    return suite.rows

# SPDX-License-Identifier: Apache-2.0
"""scores.jsonl: a row for each task, encoder and variant of the protocol, which says where its figures are from."""

import dataclasses
import hashlib
import json
import statistics
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from .files import plain, write_text

FILE = "scores.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What one encoder reached on one task."""

    task: str  # suite/task
    encoder: str  # as it was named, or "random twin" (SUPERB: of which encoder), or raw features' name
    scores: dict[str, float]  # medians over the seeds
    main: str  # the figure that the task is known by
    protocol: str
    split: str  # what was scored: "dev" or "test"
    seeds: list[int]
    each: list[dict[str, float]]  # the figures of each seed
    chosen: list[dict[str, Any]]  # what was chosen on the way, and by what
    failed: list[str] = dataclasses.field(default_factory=list)  # runs that came to nothing, and how
    seconds: float
    settings: dict[str, Any]
    variant: str = ""  # of the protocol, such as "clean"; rows of several stand side by side

    @property
    def called(self) -> str:
        """The encoder, and the variant of the protocol if there is one."""
        return f"{self.encoder} ({self.variant})" if self.variant else self.encoder

    @classmethod
    def of(
        cls,
        names: tuple[str, str],
        main: str,
        each: list[dict[str, float]],
        chosen: list[dict[str, Any]],
        seconds: float,
        settings: dict[str, Any],
        rules: tuple[str, str],
        failed: list[str],
    ) -> Self:
        """The row of some seeds' figures.

        Args:
            names: task and encoder. rules: the protocol in a line, and the split that was scored.
        """
        medians = {name: statistics.median(figures[name] for figures in each) for name in each[0]}
        return cls(
            task=names[0],
            encoder=names[1],
            scores=medians,
            main=main,
            protocol=rules[0],
            split=rules[1],
            seeds=list(range(len(each))),
            each=each,
            chosen=chosen,
            failed=failed,
            seconds=round(seconds, 1),
            settings=settings,
        )

    def values(self) -> list[float]:
        """The main figure of each seed."""
        return [figures[self.main] for figures in self.each]

    def besides(self) -> dict[str, float]:
        """The medians of the other figures, without those of parts such as "UID/anaphor_gender_agreement"."""
        return {name: value for name, value in self.scores.items() if name != self.main and "/" not in name}


def read(folder: Path) -> list[Row]:
    """The rows of a folder; none if it has no scores.jsonl."""
    path = folder / FILE
    return [Row(**json.loads(line)) for line in path.read_text().splitlines()] if path.is_file() else []


def write(folder: Path, rows: list[Row]) -> list[str]:
    """Puts rows into a folder's scores.jsonl, each in the place of an older one of its task, encoder and variant.

    Returns: a line for each older one that other rules, or files since changed, had given.
    """
    known: dict[tuple[str, str, str], Row] = {}
    lines: list[str] = []
    for row in (*read(folder), *rows):
        old = known.get(key := (row.task, row.encoder, row.variant))
        known[key] = row
        if old is not None and (old.protocol != row.protocol or _changed(old, row)):
            why = f"by other rules: {old.protocol}" if old.protocol != row.protocol else "on data since changed"
            was = f"{old.scores[old.main]:.4f}, {why}"
            lines.append(f"{row.task}: {row.called} had {was}; this row takes its place, another --out keeps both")
    told = ({**dataclasses.asdict(row), "chosen": plain(row.chosen)} for row in known.values())
    write_text(folder / FILE, "".join(json.dumps(row) + "\n" for row in told))
    return lines


def _changed(old: Row, new: Row) -> bool:
    """Whether files that name the data held something else for an older row; earlier versions kept nothing of it."""
    was, now = (row.chosen[0].get("data", {}).get("contents") if row.chosen else None for row in (old, new))
    return None not in (was, now) and was != now


def whereabouts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that name data, with whole paths: they say the same in every working directory.

    Under "contents" stands a hash of each file that they name, by the setting's name.
    """

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(one) if isinstance(one, str) and Path(one).is_file() else one for one in value]
        return str(Path(value).resolve()) if isinstance(value, str) and value and Path(value).exists() else value

    named = {name: whole(value) for name, value in data.items() if name != "class"}
    return {**named, "contents": {name: digest for name, value in named.items() if (digest := _contents(value))}}


def _contents(value: Any) -> str:
    """A hash of what the files that a setting names hold; "" if it names none."""
    paths = [Path(one) for one in (value if isinstance(value, list) else [value]) if isinstance(one, str) and one]
    digest, files = hashlib.blake2b(digest_size=16), [path for path in paths if path.is_file()]
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest() if files else ""


def need_same_data(folder: Path, task: str, data: Mapping[str, Any], written: Container[tuple[str, str]]) -> None:
    """Raises ValueError if a folder has a row of the task on other data, which would stand beside new ones.

    Args:
        data: by what the data are told, as `whereabouts` gives it.
        written: encoder and variant of the rows to be written; what their files held before may be other data.
    """
    for row in [row for row in read(folder) if row.task == task]:
        known = row.chosen[0].get("data") or whereabouts(row.settings.get("data", {}))
        other = [name for name, value in data.items() if known.get(name, value) != value]
        if not other or (other == ["contents"] and (row.encoder, row.variant) in written):
            continue
        where = f"--data.{other[0]} {known[other[0]]}"
        if other[0] == "contents":
            was, now = known["contents"], data["contents"]
            name = next(name for name in now | was if now.get(name) != was.get(name))
            where = f"--data.{name} {data[name]} before it was changed"
        raise ValueError(f"{folder / FILE} has a row of {task} on other data, {where}: choose another --out")


def table(rows: list[Row]) -> str:
    """The rows of one task as text: medians, with the range of the seeds."""
    lines = [f"{rows[0].task}  ({rows[0].main}, {rows[0].split})"]
    for row in rows:
        values = row.values()
        spread = f"  ({min(values):.4f} to {max(values):.4f}, {len(values)} seeds)" if len(values) > 1 else ""
        others = "  ".join(f"{name} {value:.4f}" for name, value in row.besides().items())
        lines.append(f"  {row.scores[row.main]:.4f}  {row.called}{spread}{f'  {others}' if others else ''}")
        lines += [f"  failed: {words}" for words in row.failed]
    bad = max(chosen.get("bad", 0) for row in rows for chosen in row.chosen)
    if bad:
        lines.append(f"  {bad} items could not be read and were left out")
    lines += [f"  {note}" for note in attributed(rows, lambda row: row.chosen[0].get("notes", ()))]
    lines += [f"  {line}" for line in attributed(rows, lambda row: (f"protocol: {row.protocol}",))]
    return "\n".join(lines)


def attributed(rows: Sequence[Row], told: Callable[[Row], Iterable[str]]) -> list[str]:
    """What is told of rows, each line once; one that is not of all of them begins with those it is of."""
    lines = {row.called: list(told(row)) for row in rows}
    out = []
    for line in dict.fromkeys(line for mine in lines.values() for line in mine):
        whose = [called for called, mine in lines.items() if line in mine]
        out.append(line if len(whose) == len(lines) else f"{', '.join(whose)}: {line}")
    return out

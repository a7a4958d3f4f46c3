# SPDX-License-Identifier: Apache-2.0
"""The `pluri` command. It only selects and overrides; what is done stands in the modules that it calls.

Exit codes: 0 done, 1 a run that failed, 2 wrong use.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from . import __version__
from .ssl.stopped import Stopped

COMMANDS = {
    "list": "recipes and tasks",
    "pretrain": "pre-train an encoder by a recipe, or go on with a run: pluri pretrain RECIPE|RUN [--data.path P] ...",
    "evaluate": "score an encoder: pluri evaluate TASK ENCODER [--data.path P] ...",
    "extract": "an encoder's states for every item, to disk: pluri extract ENCODER INPUTS --out DIR",
    "export": "to another library's format: pluri export ENCODER --to hf --out DIR",
    "s3prl": "an encoder in s3prl's own downstream runner: pluri s3prl ENCODER DOWNSTREAM [--data.path P] ...",
    "report": "one HTML page of runs and scores: pluri report DIR...",
    "demo": "a tour on embedded data: offline, minutes",
    "bench": "speed side by side with the peers on this machine: pluri bench [text|speech|vision] [--quick]",
    "doctor": "versions, devices, and what does not fit together",
}


def main() -> None:
    """The entry point: the first word names the command."""
    words, own = sys.argv[1:], []
    while words[:1] == ["--import"] and len(words) > 1:
        own.append(words[1])
        words = words[2:]
    if not words or words[0] in ("-h", "--help"):
        _help()
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        print(f"pluri {__version__}")
        return
    if words[0] not in COMMANDS:
        _fail(f"no command {words[0]}: there are {', '.join(COMMANDS)}", 2)
    try:
        for module in own:
            importlib.import_module("pluri.recipes").imported(module)
        RUN[words[0]](words[1:])
    except (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError) as error:
        _fail(str(error), 2)
    except (ImportError, Stopped) as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        sys.exit(0)
    except KeyboardInterrupt:
        _fail("interrupted", 1)


def _help() -> None:
    print("usage: pluri COMMAND ...\n\n" + "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items()))
    print(
        "\npluri COMMAND --help says more; pluri --import MODULE COMMAND ... knows the settings of a module of yours."
    )


def _fail(message: str, code: int) -> None:
    for line in message.splitlines():
        print(f"pluri: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(code)


def _parser(command: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"pluri {command}", description=COMMANDS[command], allow_abbrev=False)


def list_names(words: list[str]) -> None:
    """`pluri list`."""
    _parser("list").parse_args(words)
    from . import recipes
    from .benchmarks import tasks

    print("recipes")
    for name, text in recipes.names().items():
        print(f"  {name:<24}{text}")
    print("tasks")
    for name, text in tasks.names().items():
        print(f"  {name:<24}{text}")


def pretrain(words: list[str]) -> None:
    """`pluri pretrain`."""
    parser = argparse.ArgumentParser(prog="pluri pretrain", add_help=False, allow_abbrev=False)
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--out", type=Path)
    known, rest = parser.parse_known_args(words)
    if known.recipe is None:
        print("usage: pluri pretrain RECIPE|RUN [--out DIR] [--data.path P] [--steps N] [--any.field V]\n")
        print("`pluri list` names the recipes; `pluri pretrain RECIPE --help` shows every field.")
        sys.exit(0 if {"-h", "--help"} & set(rest) else 2)
    from . import recipes
    from .ssl import checkpoint, parallel
    from .ssl.pretrain import pretrain as carry_out
    from .ssl.recipe import FILE, Recipe

    run = Path(known.recipe)
    going_on = (run / FILE).is_file()
    begun = Recipe.load(run) if going_on else recipes.find(known.recipe)
    recipe = override(begun, rest, f"pluri pretrain {known.recipe}")
    out = known.out or (run if going_on else Path("runs") / known.recipe.replace("/", "-").replace(":", "-"))
    if not going_on or out != run:
        _check_free(out, recipe)
    else:
        _check_same(run, begun, recipe)
    parallel.start()
    if going_on and out == run and parallel.rank() == 0 and checkpoint.latest(run) is None:
        print(f"{run} has no checkpoint yet (one is written every {recipe.loop.save_every} steps): it begins anew")
    init = _load(recipe.init) if recipe.init else None
    outcome = carry_out(recipe, out, init)
    if parallel.rank() == 0:
        loss = f"loss {outcome.row['loss']:.4f}" if "loss" in outcome.row else "nothing left to do"
        print(f"{out}: {outcome.step} steps, {loss}")
    parallel.finish()


def _load(encoder: str):  # noqa: ANN202  Backbone, imported late
    from .benchmarks.encoders import load

    return load(encoder)


def override(recipe, words: list[str], prog: str):  # noqa: ANN001, ANN202  any Config; tyro and torch are imported late
    """The settings with the dotted fields that `words` set; prints help or an error and exits as tyro does."""
    import tyro

    how = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
    return tyro.cli(type(recipe), default=recipe, args=words, prog=prog, config=how)


def _check_free(out: Path, recipe) -> None:  # noqa: ANN001
    """A folder that holds another run must not be gone on with by mistake."""
    from .ssl.recipe import FILE, Recipe

    if not (out / FILE).is_file():
        return
    there = Recipe.load(out)
    # The sizes that follow from the data are filled in when a run begins.
    import dataclasses

    if dataclasses.replace(there, front_end=recipe.front_end) != recipe:
        raise ValueError(f"{out} holds a run with other settings: go on with `pluri pretrain {out}`, or choose --out")


def _check_same(run: Path, begun, recipe) -> None:  # noqa: ANN001
    """A run goes on with its own settings, but for its length, how it is carried out, and where its data now are."""
    from .ssl import checkpoint
    from .ssl.config import changed

    found = changed(begun, recipe)
    if held := [name for name in found if name not in ("steps", "data.path") and not name.startswith("loop.")]:
        was = ", ".join(f"--{name} {found[name]}" for name in held)
        raise ValueError(
            f"{run} was begun with {was} and goes on so: for other settings, --init {run} and another --out"
        )
    newest = checkpoint.latest(run)
    if newest is not None and "steps" in found and recipe.steps < checkpoint.step_of(newest):
        raise ValueError(f"{run} has taken {checkpoint.step_of(newest)} steps already: --steps {recipe.steps} is less")


def doctor(words: list[str]) -> None:
    """`pluri doctor`."""
    _parser("doctor").parse_args(words)
    from .benchmarks.doctor import report

    sys.exit(0 if report() else 1)


def _elsewhere(module: str) -> Callable[[list[str]], None]:
    """A command whose words its own module reads, in a function `main`."""

    def run(words: list[str]) -> None:
        importlib.import_module(f"pluri.benchmarks.{module}").main(words)

    return run


RUN: dict[str, Callable[[list[str]], None]] = {
    "list": list_names,
    "pretrain": pretrain,
    "evaluate": _elsewhere("evaluate"),
    "extract": _elsewhere("extract"),
    "export": _elsewhere("export"),
    "s3prl": _elsewhere("s3prl.runner"),
    "report": _elsewhere("report"),
    "demo": _elsewhere("demo"),
    "bench": _elsewhere("speed.bench"),
    "doctor": doctor,
}

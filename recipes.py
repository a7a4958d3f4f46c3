# SPDX-License-Identifier: Apache-2.0
"""A recipe's name is a folder and a function: `speech/wav2vec2` is `wav2vec2()` in `speech/recipes.py`."""

import difflib
import importlib
import inspect
from collections.abc import Callable
from types import ModuleType

from .ssl.recipe import Recipe

MODALITIES = ("text", "speech", "vision")


def names() -> dict[str, str]:
    """The name of each recipe that pluri brings, and the first line of its docstring."""
    found = {}
    for modality in MODALITIES:
        for name, function in _functions(importlib.import_module(f"pluri.{modality}.recipes")).items():
            found[f"{modality}/{name}"] = (inspect.getdoc(function) or "").split("\n")[0]
    return found


def _functions(module: ModuleType) -> dict[str, Callable[[], Recipe]]:
    """The public functions without arguments that a module of recipes defines."""
    return {
        name: function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and not name.startswith("_")
        and function.__module__ == module.__name__
        and not inspect.signature(function).parameters
    }


def find(name: str) -> Recipe:
    """The recipe of a name: `speech/wav2vec2`, or anybody's `my_lab.recipes:mine`.

    Raises: ValueError, with the nearest names, if there is none.
    """
    folder, slash, function = name.partition("/")
    path, colon, own = name.partition(":")
    if slash and folder in MODALITIES:
        module = importlib.import_module(f"pluri.{folder}.recipes")
    elif colon:
        module, function = imported(path), own
    else:
        raise ValueError(_unknown(name))
    found = _functions(module).get(function)
    if found is None:
        raise ValueError(_unknown(name))
    recipe = found()
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{name} returns {type(recipe).__name__}, and should return a pluri.ssl.recipe.Recipe")
    return recipe


def imported(module: str) -> ModuleType:
    """Anybody's module. Raises ValueError if there is none."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"no module {module} ({error}): if it is in this folder, PYTHONPATH=. pluri ...") from error


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "`pluri list` names them all"
    return f"no recipe {name}: {hint}"

# SPDX-License-Identifier: Apache-2.0
"""What every component's `Config` is: a frozen, keyword-only dataclass that builds the component and survives JSON."""

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of one component. A subclass adds fields (defaults: the paper's base model) and a `build` method."""


def to_dict(value: Any) -> Any:
    """`value` in JSON's types. A Config becomes its fields and, under "class", where its class stands."""
    if isinstance(value, Config):
        fields = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": f"{type(value).__module__}:{type(value).__qualname__}", **fields}
    if isinstance(value, dict):
        return {name: to_dict(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_dict(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def from_dict(value: Any) -> Any:
    """The inverse of `to_dict`; lists become tuples, as Configs hold them.

    Raises: ValueError for a class that is no Config, or stands in a module that is neither pluri's nor imported
        already: a file that somebody else made must not choose which code runs.
    """
    if isinstance(value, list):
        return tuple(from_dict(entry) for entry in value)
    if not isinstance(value, dict):
        return value
    fields = {name: from_dict(entry) for name, entry in value.items() if name != "class"}
    if "class" not in value:
        return fields
    kind = _find_class(value["class"])
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(fields.keys() - known):
        raise ValueError(f"{value['class']} has no field {', '.join(unknown)}: written by another version of pluri?")
    return kind(**fields)


def changed(before: Config, now: Config, within: str = "") -> dict[str, Any]:
    """The fields in which settings differ, by names such as data.path, with the values before."""
    if type(before) is not type(now):
        return {within.rstrip("."): before}
    found: dict[str, Any] = {}
    for field in dataclasses.fields(now):
        one, other = (config.__dict__[field.name] for config in (before, now))
        if isinstance(one, Config) and isinstance(other, Config):
            found |= changed(one, other, f"{within}{field.name}.")
        elif one != other:
            found[f"{within}{field.name}"] = one
    return found


def _find_class(path: str) -> type[Config]:
    module_name, _, qualname = path.partition(":")
    if module_name.startswith("pluri."):
        module = importlib.import_module(module_name)
    elif module_name in sys.modules:
        module = sys.modules[module_name]
    else:
        how = f"import {module_name} first, or `pluri --import {module_name} COMMAND ...`"
        raise ValueError(f"settings name {path}, which is not pluri's: if you trust it, {how}")
    found: Any = module
    for name in qualname.split("."):
        found = vars(found).get(name)
    if not (isinstance(found, type) and issubclass(found, Config)):
        raise ValueError(f"settings name {path}, which is no Config")
    return found

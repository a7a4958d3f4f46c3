# SPDX-License-Identifier: Apache-2.0
"""The four rules of the layout, and the one way that imports go."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IN_BENCHMARKS = sorted(
    {str(path.parent.relative_to(ROOT)) for path in (ROOT / "benchmarks").rglob("*.py")} - {"benchmarks"}
)
FOLDERS = ("ssl", "ssl/objectives", "text", "speech", "vision", "benchmarks", *IN_BENCHMARKS, "tests")
SOURCES = sorted(
    path for folder in ("", *FOLDERS) for path in (ROOT / folder).glob("*.py") if path.parent != ROOT / "tests"
)
# What each folder may import from pluri, besides itself.
ALLOWED = {
    "ssl": set(),
    "text": {"ssl"},
    "speech": {"ssl"},
    "vision": {"ssl"},
    "benchmarks": {"ssl", "text", "speech", "vision", "recipes", "cli"},
}
# Within ssl/, what a file must not import: the loop stands above the methods, and the methods above nothing.
LOOP = {"train", "pretrain", "recipe", "monitor", "checkpoint", "optim", "data"}
CORE = ("encoder", "attention", "blocks", "positions", "packing", "masking", "quantize", "contrast", "objective")


def imports(path: Path) -> set[tuple[str, ...]]:
    """The modules of pluri that a file imports, as paths from the package's root."""
    found: set[tuple[str, ...]] = set()
    here = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            start = here[: len(here) - node.level + 1]
            module = (*start, *(node.module.split(".") if node.module else ()))
            found.add(module)
            found |= {(*module, alias.name) for alias in node.names}
    return found


def test_no_folder_is_a_package_by_its_own_init_file():
    assert not [folder for folder in FOLDERS if (ROOT / folder / "__init__.py").exists()]


def test_nothing_at_the_root_ships_by_mistake():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py", "recipes.py"}


def test_the_package_list_is_the_folders():
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    present = {"pluri"} | {
        f"pluri.{f.replace('/', '.')}" for f in FOLDERS if f != "tests" and list((ROOT / f).glob("*.py"))
    }
    assert listed == present


def test_the_link_for_type_checkers_leads_to_the_root():
    assert (ROOT / ".typing" / "pluri").resolve() == ROOT


def test_pythons_own_ssl_wins_at_the_root():
    code = "import ssl; assert ssl.OPENSSL_VERSION; import urllib.request"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("folder", ["speech", "text", "vision", "benchmarks"])
def test_a_stray_import_fails(folder):
    code = f"import importlib\nimportlib.import_module('{folder}.recipes')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and "relative import" in done.stderr or "No module named" in done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    folder = path.relative_to(ROOT).parts[0]
    found = imports(path)
    absolute = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "pluri")
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "pluri" for alias in node.names))
    ]
    assert not absolute, "import relatively"
    if folder in ALLOWED:
        others = {module[0] for module in found if module and module[0] not in (folder, "__version__")}
        assert others <= ALLOWED[folder]
    objective = path.parent.name == "objectives"
    if objective or (folder == "ssl" and path.stem in CORE):
        assert not {module[1] for module in found if len(module) > 1 and module[0] == "ssl"} & LOOP
        assert "torch.distributed" not in path.read_text()
    if folder == "ssl" and path.stem in CORE:
        assert not any("objectives" in module for module in found)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_what_it_is_and_stays_small(path):
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert ast.get_docstring(ast.parse(text))
    assert text.count("\n") <= 400

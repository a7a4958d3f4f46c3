# SPDX-License-Identifier: Apache-2.0
"""Every recipe builds at its real size, survives JSON, and takes overrides that are checked."""

import json

import pytest
import torch

from pluri import recipes
from pluri.cli import override
from pluri.ssl.config import from_dict, to_dict
from pluri.ssl.recipe import Recipe

NAMES = sorted(recipes.names())
# Millions of parameters of the published encoders: BERT base and ViT-B/16 with their embeddings, wav2vec 2.0 base.
PUBLISHED = {"text/bert": 108.9, "speech/wav2vec2": 94.4, "vision/byol": 85.8, "vision/vicreg": 85.8}


def test_the_issues_recipes_are_there():
    wanted = {"text/bert", "speech/mockingjay", "speech/wav2vec2", "vision/byol", "vision/vicreg"}
    tiny = {f"{name}_tiny" for name in wanted} | {"vision/mockingjay_tiny", "speech/vicreg_tiny"}
    assert wanted | tiny <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_builds_on_meta_and_survives_json(name):
    recipe = recipes.find(name)
    with torch.device("meta"):
        objective = recipe.build()
    count = sum(parameter.numel() for parameter in objective.backbone.parameters()) / 1e6
    if name in PUBLISHED:
        assert count == pytest.approx(PUBLISHED[name], abs=0.6)
    elif name.endswith("_tiny"):
        assert count < 6
    again = from_dict(json.loads(json.dumps(to_dict(recipe))))
    assert again == recipe and isinstance(again, Recipe)
    assert recipes.names()[name]


def test_overrides_reach_every_depth():
    recipe = override(
        recipes.find("speech/wav2vec2"),
        ["--data.path", "x", "--objective.quantizer.codes", "64", "--encoder.positions.kernel", "16", "--steps", "7"],
        "test",
    )
    assert (recipe.data.path, recipe.objective.quantizer.codes) == ("x", 64)
    assert (recipe.encoder.positions.kernel, recipe.steps) == (16, 7)


def test_anybodys_recipe_is_found_by_module_and_function(tmp_path, monkeypatch):
    (tmp_path / "my_lab_recipes.py").write_text(
        "import dataclasses\nfrom pluri.text.recipes import bert_tiny\n"
        "def mine():\n    return dataclasses.replace(bert_tiny(), steps=3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert recipes.find("my_lab_recipes:mine").steps == 3
    with pytest.raises(ValueError, match="no recipe"):
        recipes.find("my_lab_recipes:other")
    with pytest.raises(ValueError, match="no module no_such_module .*PYTHONPATH"):
        recipes.find("no_such_module:mine")


def test_settings_of_a_stranger_choose_no_code():
    with pytest.raises(ValueError, match="not pluri's"):
        from_dict({"class": "turtle:Turtle"})
    with pytest.raises(ValueError, match="no Config"):
        from_dict({"class": "pluri.ssl.train:fit"})
    with pytest.raises(ValueError, match="no field"):
        from_dict({**to_dict(recipes.find("text/bert")), "stpes": 3})

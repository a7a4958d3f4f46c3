# SPDX-License-Identifier: Apache-2.0
"""Started by torchrun from test_ranks.py: a few steps of a recipe on however many ranks there are."""

import sys
from pathlib import Path

import torch

from pluri import recipes
from pluri.cli import override
from pluri.ssl import parallel
from pluri.ssl.pretrain import pretrain

if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    parallel.start()
    for job in Path(sys.argv[2]).read_text().splitlines():
        name, *words = job.split()
        recipe = override(recipes.find(name), words, "test")
        pretrain(recipe, out / name.replace("/", "-"))
    parallel.finish()

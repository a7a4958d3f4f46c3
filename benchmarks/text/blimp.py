# SPDX-License-Identifier: Apache-2.0
"""BLiMP without tuning, by the head for masked words that a model was pre-trained with (`minimal_pairs.py`)."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from ...ssl.config import Config
from ...ssl.parallel import find_device
from ..encoders import random_twin
from ..task import Score, ZeroShotConfig
from .minimal_pairs import Hiding, accuracies, load_masked_model, read_blimp, score_pairs

PARADIGMS = 67  # of the published data


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairsConfig(Config):
    """Where minimal pairs are."""

    path: str = ""  # BLiMP's folder, with *.jsonl or data/*.jsonl


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlimpConfig(ZeroShotConfig):
    """Minimal pairs by pseudo-log-likelihood."""

    data: PairsConfig = PairsConfig()
    hiding: Hiding = "token"  # word_l2r: with a token, what follows it in its word
    batch: int = 8192  # tokens that are computed at once
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def rules(self) -> str:
        what = "each token" if self.hiding == "token" else "each token with what follows it in its word (PLL-word-l2r)"
        return f"sum of log-likelihoods, hiding {what}; accuracy averaged over paradigms, ties are wrong"

    def evaluate(self, encoder: str, twin: int | None) -> tuple[Score, dict[str, Any]]:
        if not self.data.path or not Path(self.data.path).is_dir():
            raise ValueError(f"set --data.path to BLiMP's folder: {self.data.path or 'nothing'} is none")
        pairs = read_blimp(Path(self.data.path))
        model = load_masked_model(encoder)
        if twin is not None:
            model = model.config.build(random_twin(model.backbone, twin))
        good, bad = score_pairs(model.to(find_device(self.device)), pairs, self.hiding, self.batch)
        paradigms = len({pair.paradigm for pair in pairs})
        chosen: dict[str, Any] = {"pairs": len(pairs), "paradigms": paradigms}
        if paradigms != PARADIGMS:
            chosen["notes"] = [f"{paradigms} of BLiMP's {PARADIGMS} paradigms are there: no figure for publishing"]
        return Score("accuracy", accuracies(pairs, good, bad)), chosen


def pairs() -> BlimpConfig:
    """BLiMP: is the grammatical sentence of two the likelier one? Accuracy of a masked language model, not tuned."""
    return BlimpConfig()

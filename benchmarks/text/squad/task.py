# SPDX-License-Identifier: Apache-2.0
"""Answers as stretches of paragraphs: a start and an end vector on an encoder, their loss, what they say, its scores.

Devlin et al. 2019 (arXiv:1810.04805, sections 4.2 and 4.3). Differs from run_squad.py and transformers: the loss is of
a softmax over a window's own tokens, there the padding has a share in it.
Shape letters: B rows, T tokens of the longest window, N real positions of all rows, D width.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....ssl.data import Dataset
from ....ssl.encoder import Backbone, Encoded
from ....ssl.objective import Batch
from ....ssl.positions import LearnedPositionsConfig
from ...encoders import Start, modality, text_tokenizer
from ...task import Score, Splits, Task
from .answers import Answers, Candidate, DecodeConfig, decode
from .files import Questions
from .score import HAN, Protocol, best_threshold, raw_scores, score
from .spans import WindowConfig, Windows

SAMPLE = 200  # paragraphs that are looked at to tell the language
SCORED: dict[Protocol, str] = {
    "squad": "scored by words, as SQuAD's scripts do",
    "mlqa_zh": "scored by characters, as MLQA's script does for Chinese (exact_squad, f1_squad: by words, as XQuAD's)",
    "cmrc2018": "scored by characters, as CMRC 2018's script does (exact_squad, f1_squad: by words, as SQuAD's do)",
}
TUNED = "null threshold of the best F1 on dev"
UNTUNED = "null threshold 0, as no question of dev is impossible"


class StartAndEnd(nn.Module):
    """BERT's span classifier: a vector each for the start and the end, and no dropout before them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 2)
        nn.init.trunc_normal_(self.layer.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.layer.bias)

    def forward(self, encoded: Encoded) -> Tensor:
        """(B, T, 2) float32 logits; minus infinity where a row has ended."""
        packed, rows = encoded.packed, encoded.rows
        with torch.autocast(packed.device.type, enabled=False):  # bf16 would make the best of 384 tokens equal
            logits = self.layer(packed.float())  # (N, 2)
        B, T = len(rows.lengths), rows.longest
        if not rows.even:
            logits = logits.new_full((B * T, 2), -math.inf).index_copy(0, rows.index, logits)
        return logits.unflatten(0, (B, T))


class Parts(NamedTuple):
    """The files of a task."""

    train: Questions
    dev: Questions
    test: Mapping[str, Questions] = {}  # with answers, in whichever language
    hidden: Mapping[str, Questions] = {}  # without


class SpanTask(Task):
    """A stretch of a paragraph for each question, or, where the file has such questions, that there is none.

    How sure a network must be that there is no answer is tuned on the dev split whenever that is scored, for best F1,
    and holds for the parts that come after it.

    Args:
        chinese: how files in Chinese are scored; others are by SQuAD's script.
    Raises: ValueError if the encoder takes no text, has no tokenizer or too few positions, or for a file that cannot be
        trained on, or scored.
    """

    def __init__(
        self, start: Start, parts: Parts, windows: WindowConfig, decoding: DecodeConfig, chinese: Protocol = "mlqa_zh"
    ) -> None:
        if modality(start.backbone) != "text":
            raise ValueError("this task is for text encoders")
        _check_room(start.backbone, windows)
        tokenizer = text_tokenizer(start.backbone)
        self.decoding, self.threshold = decoding, 0.0
        self.chinese: Protocol = chinese

        def cut(questions: Questions) -> Windows:
            return Windows(questions, tokenizer, windows, count="tokens")

        train = Windows(parts.train, tokenizer, windows, training=True)
        test = {name: cut(questions) for name, questions in parts.test.items()}
        hidden = {name: cut(questions) for name, questions in parts.hidden.items()}
        self.splits = Splits(train, {"": cut(parts.dev)}, test, hidden)
        self.notes = [f"{parts.dev.path.name}: {self.scored(self.splits.dev[''])}"]
        if train.bad:
            self.notes.append(f"{parts.train.path.name}: left out {len(train.bad)} whose answer is not at answer_start")
        self.notes += [f"{one.path.name}: no answers, so it is not scored" for one in parts.hidden.values()]

    def data(self, backbone: Backbone) -> Splits:
        return self.splits

    def head(self, width: int) -> nn.Module:
        return StartAndEnd(width)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        target = torch.stack([batch.extras["start"], batch.extras["end"]], dim=1)  # (B, 2)
        return F.cross_entropy(outputs, target, reduction="sum") / 2  # start and end count half each

    def count(self, batch: Batch) -> int:
        return len(batch.inputs)

    def predict(self, outputs: Tensor, batch: Batch) -> list[Any]:
        """Start and end logits of each window, as (T, 2) float32 arrays."""
        lengths = [outputs.shape[1]] * len(outputs) if batch.lengths is None else batch.lengths.tolist()
        return [row[:length].copy() for row, length in zip(outputs.cpu().numpy(), lengths, strict=True)]

    def answers(self, data: Dataset, predictions: Sequence[Any]) -> list[Any]:
        """For each question "id"; "best", its candidates as [text, start logit, end logit]; "null_odds", or None."""
        assert isinstance(data, Windows)
        found = decode(data, [one[:, 0] for one in predictions], [one[:, 1] for one in predictions], self.decoding)
        return [
            {"id": one, "best": [list(candidate) for candidate in best], "null_odds": found.null_odds.get(one)}
            for one, best in found.best.items()
        ]

    def idle(self, data: Dataset) -> list[Any]:
        assert isinstance(data, Windows)
        odds = 0.0 if data.questions.nullable else None
        # A full stop is no word, so it is as good as nothing.
        return [{"id": item.id, "best": [[".", 0.0, 0.0]], "null_odds": odds} for item in data.questions.items]

    def references(self, data: Dataset) -> list[Any]:
        assert isinstance(data, Windows)
        return [{"id": item.id, "texts": [answer.text for answer in item.answers]} for item in data.questions.items]

    def tune(self, answers: Sequence[Any]) -> None:
        """Sets the threshold of the null odds from what is said of the dev split."""
        self.threshold = threshold(self._dev().questions, answers_of(answers))

    def score(self, data: Dataset, answers: Sequence[Any]) -> Score:
        assert isinstance(data, Windows)
        if data is self._dev():
            self.tune(answers)
        return Score("f1", figures(data.questions, answers_of(answers), self.threshold, self.chinese))

    def scored(self, data: Dataset) -> str:
        """How a part is scored, in words."""
        assert isinstance(data, Windows)
        words = SCORED[protocol_of(data.questions, self.chinese)]
        if not data.questions.nullable:
            return words
        return f"{words}; {TUNED if self._dev().questions.nullable else UNTUNED}"

    def _dev(self) -> Windows:
        dev = self.splits.dev[""]
        assert isinstance(dev, Windows)
        return dev


def answers_of(answers: Sequence[Any]) -> Answers:
    """What `SpanTask.answers` gives in JSON's types, as `decode` gave it."""
    best = {one["id"]: [Candidate(*candidate) for candidate in one["best"]] for one in answers}
    return Answers(best, {one["id"]: one["null_odds"] for one in answers if one["null_odds"] is not None})


def protocol_of(questions: Questions, chinese: Protocol) -> Protocol:
    """How a file is scored: `chinese` if most letters of its paragraphs are Chinese, unless it has impossible ones."""
    text = "".join(questions.contexts[:SAMPLE])
    characters = len(re.findall(f"[{HAN}]", text))
    return chinese if 2 * characters > sum(map(str.isalpha, text)) and not questions.nullable else "squad"


def threshold(questions: Questions, answers: Answers) -> float:
    """The null odds above which a question had best be called impossible, for F1, as evaluate-v2.0.py finds them.

    Where nothing beats calling all of them impossible the script gives 0, this a value below all odds.
    """
    if not questions.nullable:
        return 0.0
    said = answers.texts(math.inf)
    answerable = {item.id: bool(item.answers) for item in questions.items}
    best, found = best_threshold(raw_scores(questions, said)[1], said, answers.null_odds, answerable)
    impossible = sum(not has for has in answerable.values())
    return found if best > 100.0 * impossible / len(answerable) else min(answers.null_odds.values()) - 1.0


def figures(questions: Questions, answers: Answers, threshold: float, chinese: Protocol) -> dict[str, float]:
    """The official figures of a file; of a Chinese one also those that XQuAD's paper would give, by words."""
    said = answers.texts(threshold)
    protocol = protocol_of(questions, chinese)
    if questions.nullable:
        return {**score(questions, said, protocol, answers.null_odds), "null_threshold": threshold}
    found = score(questions, said, protocol)
    if protocol != "squad":
        by_words = score(questions, said, "squad")
        found |= {f"{name}_squad": by_words[name] for name in ("exact", "f1")}
    return found


def _check_room(backbone: Backbone, windows: WindowConfig) -> None:
    positions = backbone.encoder.config.positions
    if isinstance(positions, LearnedPositionsConfig) and windows.longest > positions.length:
        raise ValueError(
            f"windows have up to {windows.longest} tokens, but the encoder has {positions.length} positions: "
            f"set --windows.longest {positions.length}"
        )

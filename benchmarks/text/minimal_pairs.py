# SPDX-License-Identifier: Apache-2.0
"""Minimal pairs: does a masked language model find the grammatical sentence of two likelier, without being tuned?

Data: BLiMP (Warstadt et al. 2020, arXiv:1912.00582). Scores: pseudo-log-likelihoods (Salazar et al. 2020,
arXiv:1910.14659), not divided by lengths. Shape letters: S sentences, T tokens, M masked copies, D width.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...ssl import checkpoint, published
from ...ssl.objectives.bert import Bert, BertConfig
from ...ssl.pretrain import ASSETS
from ...ssl.recipe import FILE, Recipe
from ...ssl.tables import field, json_rows
from ...text import tokenizer as wordpiece
from ...text.published import MASKED_HEADS, from_hf, heads_from_hf, masked_head_from_hf
from ..encoders import RAW, from_hub, text_tokenizer
from ..s3prl.encoder import PREFIX

# What is hidden while a token is scored: itself alone (Salazar et al.), or also what follows it in its word, so that
# the ends of a rare word do not give away its beginning (Kauf and Ivanova 2023, arXiv:2305.10588: PLL-word-l2r).
Hiding = Literal["token", "word_l2r"]

_NEXT_SENTENCE = "cls.seq_relationship.weight"  # BertForMaskedLM's head comes without


class Pair(NamedTuple):
    """A grammatical sentence and one that differs from it in what makes it ungrammatical."""

    good: str
    bad: str
    paradigm: str  # BLiMP's "UID"; 67 of them
    phenomenon: str  # "linguistics_term"; 12 of them, such as island effects
    field: str  # syntax, morphology, semantics or syntax_semantics


def read_blimp(folder: Path) -> list[Pair]:
    """The pairs of all `*.jsonl` files in BLiMP's folder, or in its `data`. Raises ValueError, with file and line."""
    files = sorted(folder.glob("*.jsonl")) or sorted((folder / "data").glob("*.jsonl"))
    if not files:
        raise ValueError(f"{folder} has no *.jsonl, nor has its data folder: it is to be that of BLiMP")
    return [pair for file in files for pair in read_pairs(file)]


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of one of BLiMP's files. Raises ValueError, with the line, for a file of another form."""
    found = []
    for number, row in json_rows(path):
        names = ("sentence_good", "sentence_bad", "UID", "linguistics_term", "field")
        values = [field(path, number, row, name) for name in names]
        for name, value in zip(names, values, strict=True):
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{path}, line {number}: {name} is {value!r}, not a text")
        found.append(Pair(*values))
    if not found:
        raise ValueError(f"{path} holds no pair")
    return found


def load_masked_model(name: str) -> Bert:
    """BERT or RoBERTa with its head for masked words, in eval mode, float32, on the CPU.

    Args:
        name: a run directory, of which the newest checkpoint is taken, a Hugging Face folder, or a hub name.
    Raises: ValueError if it is none of them, or holds no such head.
    """
    folder = Path(name)
    if (folder / FILE).is_file():
        return _from_run(folder)
    if (folder / published.CONFIG).is_file():
        return _from_hf(folder)
    if name in RAW or name.startswith(("random:", PREFIX)):
        known = "a run directory, a Hugging Face folder or hub name"
        raise ValueError(f"{name} has no head for masked words: name {known}")
    return _from_hf(from_hub(name))


def _from_run(run: Path) -> Bert:
    recipe, newest = Recipe.load(run), checkpoint.latest(run)
    if not isinstance(recipe.objective, BertConfig):
        kind = type(recipe.objective).__name__.removesuffix("Config")
        raise ValueError(f"{run} was trained by {kind}, which fills in no masked words: name a run of text/bert")
    if newest is None:
        raise ValueError(f"{run} has no finished checkpoint yet")
    model = recipe.objective.build(recipe.backbone(run / ASSETS))
    model.load_state_dict(checkpoint.load_weights(newest))
    return model.eval()


def _from_hf(folder: Path) -> Bert:
    settings, weights = published.read(folder)
    kind = settings.get("model_type")
    if kind not in MASKED_HEADS:
        known = ", ".join(MASKED_HEADS)
        raise ValueError(f"{folder} holds a {kind}: of masked language models, those of {known} are known")
    head = MASKED_HEADS[kind]
    if kind == "bert" and settings.get("hidden_act", "gelu") != "gelu":  # RoBERTa's head has gelu, whatever it says
        raise ValueError(f"the head in {folder} uses {settings['hidden_act']}: only gelu is known here")
    if f"{head.dense}.weight" not in weights:
        whole = f"{kind.capitalize()}ForMaskedLM"
        raise ValueError(f"{folder} lacks {head.dense}, of the head for masked words: save a {whole} there")
    backbone = from_hf(folder)
    next_sentence = _NEXT_SENTENCE in weights
    model = BertConfig(next_sentence=next_sentence).build(backbone)
    model.transform_norm.eps = backbone.encoder.config.norm_eps  # RoBERTa's is another than BERT's
    output = weights.get(head.output)
    if output is not None and not torch.equal(output, model.table()):
        raise ValueError(f"{folder} has output vectors of its own ({head.output}): only tied ones are known")
    heads = heads_from_hf(weights) if next_sentence else masked_head_from_hf(weights, head)
    model.load_state_dict({**{f"backbone.{name}": x for name, x in backbone.state_dict().items()}, **heads})
    return model.eval()


@torch.inference_mode()
def pseudo_log_likelihoods(
    model: Bert, sentences: Sequence[str], hiding: Hiding = "token", batch: int = 8192
) -> np.ndarray:
    """The sum over a sentence's tokens, its markers not counted, of log P(token | the others, it being masked).

    Computed on the model's device. Sentences of the same tokens get exactly the same score.

    Args:
        model: is put into eval mode.
        batch: tokens of the masked copies that are computed at once.
    Returns: (S,) float64, in nats.
    Raises: ValueError for a sentence without a token, or without a tokenizer.
    """
    model.eval()
    tokenizer = text_tokenizer(model.backbone)
    frame = wordpiece.frame(tokenizer)
    rows = []
    words: dict[tuple[int, ...], list[int]] = {}  # of each row's tokens, the number of the word
    encodings = tokenizer.encode_batch(list(sentences), add_special_tokens=False)
    for sentence, encoded in zip(sentences, encodings, strict=True):
        if not encoded.ids:
            raise ValueError(f"the tokenizer leaves nothing of the sentence {sentence!r}: take it out")
        row = tuple(frame.one(encoded.ids))
        rows.append(row)
        words[row] = [-1, *encoded.word_ids, -1]
    found: dict[tuple[int, ...], float] = {}
    for _, group in groupby(sorted(dict.fromkeys(rows), key=len), key=len):  # no padding within a group
        alike = list(group)
        scores = _score(model, torch.tensor(alike), torch.tensor([words[row] for row in alike]), hiding, batch)
        found |= zip(alike, scores.tolist(), strict=True)
    return np.array([found[row] for row in rows], dtype=np.float64)


def _score(model: Bert, ids: Tensor, word: Tensor, hiding: Hiding, batch: int) -> Tensor:
    """(S,) float64 on the CPU: the scores of sentences of equal length.

    Args:
        ids: (S, T), the first and the last are markers.
        word: (S, T), the number of the word that each token is of.
    """
    S, T = ids.shape
    ids, word = ids.to(model.bias.device), word.to(model.bias.device)
    place = torch.arange(T, device=ids.device)
    scores = []
    for copy in torch.arange(S * (T - 2), device=ids.device).split(max(1, batch // T)):
        row, column = copy // (T - 2), copy % (T - 2) + 1  # (M,), which sentence's copy, and what it hides
        hidden = place == column[:, None]  # (M, T)
        if hiding == "word_l2r":
            hidden = (place >= column[:, None]) & (word[row] == word[row, column][:, None])
        masked = torch.where(hidden, model.vocabulary.mask_id, ids[row])
        vectors = model.backbone.front_end.embed(masked)
        x = model.backbone.encode_at(vectors, None, torch.arange(len(copy), device=ids.device), column)  # (M, D)
        x = model.transform_norm(F.gelu(model.transform(x)))
        logits = F.linear(x, model.table(), model.bias.to(x.dtype)).float()  # (M, V)
        scores.append(-F.cross_entropy(logits, ids[row, column], reduction="none"))
    return torch.cat(scores).double().view(S, T - 2).sum(1).cpu()


def accuracies(pairs: Sequence[Pair], good: np.ndarray, bad: np.ndarray) -> dict[str, float]:
    """The share of pairs whose good sentence has the higher score; a tie is wrong.

    Args:
        good, bad: (pairs,) the scores of their sentences.
    Returns: "accuracy", the mean over the paradigms, as BLiMP averages; and that of each paradigm ("UID/..."), and the
        mean over the paradigms of each phenomenon ("linguistics_term/...") and field ("field/...").
    """
    right: dict[str, list[bool]] = defaultdict(list)
    above: dict[str, set[str]] = defaultdict(set)  # the paradigms of each mean
    for pair, correct in zip(pairs, (good > bad).tolist(), strict=True):
        right[pair.paradigm].append(correct)
        for group in ("accuracy", f"field/{pair.field}", f"linguistics_term/{pair.phenomenon}"):
            above[group].add(pair.paradigm)
    shares = {paradigm: float(np.mean(correct)) for paradigm, correct in sorted(right.items())}
    means = {group: float(np.mean([shares[p] for p in sorted(above[group])])) for group in sorted(above)}
    return {**means, **{f"UID/{paradigm}": share for paradigm, share in shares.items()}}


def score_pairs(
    model: Bert, pairs: Sequence[Pair], hiding: Hiding = "token", batch: int = 8192
) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) the `pseudo_log_likelihoods` of the grammatical sentences, and (pairs,) those of the others."""
    sentences = [pair.good for pair in pairs] + [pair.bad for pair in pairs]
    good, bad = np.split(pseudo_log_likelihoods(model, sentences, hiding, batch), 2)
    return good, bad

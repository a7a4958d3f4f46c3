# SPDX-License-Identifier: Apache-2.0
"""What the chosen head of a task gets most wrong on test, told from the predictions that a sweep keeps.

Shape letters: T frames, R speakers of the reference, H of the hypothesis.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from ...superb_sg import probe as separation_probe
from ...superb_sg.task import SeparationConfig
from ..asv import probe as asv_probe
from ..asv.task import VerificationConfig
from ..ctc import probe as ctc_probe
from ..ctc.config import CtcConfig
from ..ctc.errors import edits
from ..layouts.quesst14 import Search
from ..sd.chunks import RATE
from ..sd.diarization import Setting, decide, turns_of
from ..sd.probe import HOP, read_probabilities
from ..sd.rttm import Turn
from ..sd.task import DiarizationConfig
from ..sweep import Run
from ..swept import Fold, SweptConfig
from ..utterance import probe as utterance_probe
from ..utterance.config import UtteranceConfig
from ..utterances import Utterance, file_lengths
from .mistakes import Example, Mistakes
from .spectrogram import Sound

CLIPS, TEXTS, PAIRS = 6, 3, 2  # examples: of classes, of transcripts, and of trials of each kind


def find(config: SweptConfig, fold: Fold, folder: Path, run: Run) -> Mistakes | None:
    """The worst mistakes of the head of a run; None for tasks whose mistakes are not shown.

    Args:
        folder: the fold's, which holds the predictions.
    """
    if isinstance(config, UtteranceConfig):
        return _classes(fold, folder, run)
    if isinstance(config, CtcConfig):
        return _transcripts(fold, folder, run)
    if isinstance(config, VerificationConfig):
        return _trials(fold, folder, run)
    if isinstance(config, DiarizationConfig):
        return _chunks(fold, folder, run, config.chunk)
    if isinstance(config, SeparationConfig):
        return _mixtures(config, fold, folder, run)
    return None


def _sound(utterance: Utterance) -> Sound:
    assert utterance.end is not None
    return Sound(str(utterance.path), utterance.start, utterance.end)


def _of(fold: Fold) -> str:
    return f"{fold.name}: " if fold.name else ""


def _classes(fold: Fold, folder: Path, run: Run) -> Mistakes:
    """The wrong answers that the head is surest of; of equals the first by name."""
    said = utterance_probe.read_predictions(folder, run.seed, run.rate, fold.parts.slots)
    sure = utterance_probe.read_sureness(folder, run.seed, run.rate)
    wrong = [one for one in fold.parts.test if said[one.name] != one.labels]
    wrong.sort(key=lambda one: (-sure.get(one.name, 0.0), one.name))
    examples = []
    for one in wrong[:CLIPS]:
        share = f" ({sure[one.name]:.2f})" if one.name in sure else ""
        words = f"is {', '.join(one.labels)}; said {', '.join(said[one.name])}{share}\n{one.name}"
        examples.append(Example(words, (_sound(one),)))
    order = "the surest (in brackets its probability) first" if sure else "in the order of their names"
    shown = f"; {len(examples)} of them, {order}" if examples else ""
    return Mistakes(f"{_of(fold)}{len(wrong)} of {len(said)} test clips are wrong{shown}", examples)


def _transcripts(fold: Fold, folder: Path, run: Run) -> Mistakes:
    """The greedy transcripts with the most edits for each token that is right; of equals the longest."""
    texts = ctc_probe.read_predictions(folder, run.seed, run.rate)["greedy"]
    right = ctc_probe.read_references(folder)
    known = {one.name: one for one in fold.parts.test}
    found = []
    for name, text in texts.items():
        hypothesis, reference = text.split(), right[name].split()
        if count := edits(hypothesis, reference):
            found.append((count / max(1, len(reference)), count, name, hypothesis, reference))
    found.sort(key=lambda one: (-one[0], -one[1], one[2]))
    examples = [
        Example(
            f"{name}: {count} edits, {len(reference)} tokens", (_sound(known[name]),), tuple(said), tuple(reference)
        )
        for _, count, name, said, reference in found[:TEXTS]
    ]
    shown = f"; the {len(examples)} with the highest error rates, of equals the longest" if examples else ""
    return Mistakes(f"{_of(fold)}{len(found)} of {len(texts)} test transcripts have errors{shown}", examples)


def _trials(fold: Fold, folder: Path, run: Run) -> Mistakes:
    """The pairs of two speakers that score highest, and those of one speaker that score lowest."""
    scores = {(first, second): score for first, second, score in asv_probe.read_scores(folder, run.seed, run.rate)}
    known = {one.name: one for one in fold.parts.test}
    kinds: dict[bool, dict[tuple[str, str], float]] = {True: {}, False: {}}  # a pair in both orders is one
    for same, *pair in fold.parts.trials:
        first, second = sorted(pair)
        kinds[same][first, second] = scores[pair[0], pair[1]]
    examples = []
    for same in (False, True):
        others = np.array(list(kinds[not same].values()))
        for (first, second), score in sorted(kinds[same].items(), key=lambda one: one[1] if same else -one[1])[:PAIRS]:
            pair = known[first], known[second]
            who = (
                f"one speaker, {pair[0].speaker}" if same else f"two speakers, {pair[0].speaker} and {pair[1].speaker}"
            )
            share = 100.0 * ((others > score) if same else (others < score)).mean()
            beyond = f"{share:.0f} % of the pairs of {'two are higher' if same else 'one are lower'}"
            examples.append(Example(f"{who}: cosine {score:.4f}, {beyond}", tuple(map(_sound, pair))))
    counts = f"{len(kinds[True])} pairs of one speaker and {len(kinds[False])} of two"
    return Mistakes(f"{_of(fold)}{counts}; here are the likest of two, and the unlikest of one", examples)


def _chunks(fold: Fold, folder: Path, run: Run, size: int) -> Mistakes:
    """Of each recording the chunk with the most seconds in error, the worst recordings first."""
    setting = Setting(run.test["threshold"], int(run.test["median"]))
    seconds = int((folder / HOP).read_text()) / RATE
    probabilities = read_probabilities(folder, run.seed, run.rate)
    found = []
    for one in fold.parts.test:
        active = decide(probabilities[one.name], setting)
        names, wrong = matched(one, active, seconds)
        first = max(range(0, len(wrong), size), key=lambda start: wrong[start : start + size].sum())
        window = first * seconds, min(first + size, len(wrong)) * seconds
        error = float(wrong[first : first + size].sum() * seconds)
        words = f"{one.name}, {window[0]:.1f} to {window[1]:.1f} s: {error:.1f} speaker-seconds are wrong"
        turns = [turn._replace(speaker=names[int(turn.speaker[1:])]) for turn in turns_of(active, seconds)]
        sounds = (Sound(str(one.path), *window),)
        found.append((error, Example(words, sounds, heard=_within(turns, window), spoken=_within(one.turns, window))))
    found.sort(key=lambda pair: -pair[0])
    smoothed = f"median filter of {setting.median} frames" if setting.median > 1 else "no median filter"
    how = f"threshold {setting.threshold:g}, {smoothed}"
    shown = f"of each recording the worst chunk of {size} frames, of at most {TEXTS} recordings"
    return Mistakes(f"{_of(fold)}{shown}; {how}", [example for _, example in found[:TEXTS]])


def _mixtures(config: SeparationConfig, fold: Fold, folder: Path, run: Run) -> Mistakes:
    """The mixtures whose main figure is lowest, with each estimate before what it should be."""
    figures = separation_probe.read_figures(folder, run.seed, run.rate)
    known = {one.name: one for one in fold.parts.test}
    examples = []
    for name in separation_probe.lowest(figures):
        mixture, shown = known[name].path, [("mixture", known[name].path)]
        for number, source in enumerate(config.sources(mixture), start=1):
            estimate = folder / separation_probe.folder_of(run.seed, run.rate) / f"{name}-{number}.wav"
            if estimate.is_file():  # earlier sweeps kept the first clips' alone
                shown.append((f"estimate {number}", estimate))
            shown.append((f"target {number}", source))
        sounds = tuple(_sound(known[name]._replace(path=path)) for _, path in shown)
        words = ", ".join(f"{figure} {value:.2f}" for figure, value in figures[name].items())
        examples.append(Example(f"{name}: {words}", sounds, called=tuple(title for title, _ in shown)))
    main = next(iter(run.test))
    lowest = f"the {len(examples)} of {len(figures)} test clips with the lowest {main}"
    return Mistakes(f"{_of(fold)}{lowest}; the mean of all is {run.test[main]:.2f}", examples)


def matched(utterance: Utterance, active: np.ndarray, seconds: float) -> tuple[list[str], np.ndarray]:
    """Whom of the reference each speaker of a hypothesis stands for, and how many speakers are wrong in each frame.

    Speakers are mapped so that they agree for the longest time, as the error rate does (`diarization.tally_frames`).

    Args:
        active: (T, H) bool. seconds: from one frame to the next.
    Returns: H names, and (T,) float, 0 where nothing is scored.
    """
    names = sorted({turn.speaker for turn in utterance.turns})
    spoken = np.zeros((len(active), len(names)), dtype=bool)
    for speaker, start, end in utterance.turns:
        spoken[round(start / seconds) : round(end / seconds), names.index(speaker)] = True
    together = spoken.T.astype(np.float64) @ active
    pairs = list(zip(*linear_sum_assignment(together, maximize=True), strict=True))
    agreed = sum((spoken[:, one] & active[:, other] for one, other in pairs), np.zeros(len(active), dtype=np.int64))
    wrong = np.maximum(spoken.sum(1), active.sum(1)) - agreed
    if utterance.scored:
        times = np.arange(len(active)) * seconds
        wrong = wrong * np.any([(times >= start) & (times < end) for start, end in utterance.scored], axis=0)
    stand = {int(other): names[one] for one, other in pairs}
    return [stand.get(number, f"nobody ({number})") for number in range(active.shape[1])], wrong.astype(np.float64)


def _within(turns: Sequence[Turn], window: tuple[float, float]) -> tuple[Turn, ...]:
    """The turns that reach into a window, cut to it."""
    cut = [turn._replace(start=max(turn.start, window[0]), end=min(turn.end, window[1])) for turn in turns]
    return tuple(turn for turn in cut if turn.end > turn.start)


def false_alarms(wanted: Search, scores: dict[str, dict[str, float]]) -> Mistakes:
    """QbE: the documents that score highest for a test query that they do not hold, of each query the first."""
    truth = wanted.test_truth or {}
    queries = {one.name: one for one in wanted.test}
    documents = {one.name: one for one in wanted.documents}
    best = []
    for query, found in scores.items():
        others = [(score, document) for document, score in found.items() if document not in truth.get(query, ())]
        if others:
            best.append((*max(others), query))
    best.sort(reverse=True)
    lengths = file_lengths(
        found.path for _, document, query in best[:TEXTS] for found in (queries[query], documents[document])
    )

    def sound(utterance: Utterance) -> Sound:
        length = lengths[utterance.path]
        assert not isinstance(length, str), "the search has read it"
        return Sound(str(utterance.path), utterance.start, min(utterance.end or length, length))

    examples = [
        Example(
            f"{document} does not hold {query}, but scores {score:.2f}",
            (sound(queries[query]), sound(documents[document])),
        )
        for score, document, query in best[:TEXTS]
    ]
    shown = "false alarms: the documents (right) that score highest for a query (left), one for each query"
    return Mistakes(f"{shown}; {len(queries)} test queries, {len(documents)} documents", examples)

# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning on texts and pairs: what counts as having learnt nothing, and settings that cannot be."""

import dataclasses
import random

import pytest

from pluri.benchmarks import encoders, evaluate
from pluri.benchmarks.finetune import Setting
from pluri.benchmarks.text.examples import Example
from pluri.benchmarks.text.glue.tasks import TASKS
from pluri.benchmarks.text.sentences import Parts, SentenceTask


@pytest.mark.parametrize("share", [0.2, 0.37, 0.5, 0.8])
@pytest.mark.parametrize("name", ["qqp", "mrpc", "cola", "mnli"])
def test_no_answer_for_all_is_better_than_that_of_one_who_learnt_nothing(small_bert, name, share):
    task = TASKS[name]
    labels = [task.classes[-1] if i < share * 60 else task.classes[0] for i in range(60)]
    random.Random(0).shuffle(labels)
    examples = [Example(str(i), f"from {i}", "to where", label) for i, label in enumerate(labels)]
    made = SentenceTask(
        encoders.start(str(small_bert)), Parts(examples, {"": examples}, {}, {}), task.classes, task.figures
    )
    data = made.splits.dev[""]
    said = made.idle(data)
    assert len(set(said)) == 1 and len(said) == len(examples)
    main, figures = made.score(data, said)
    others = [made.score(data, [label] * len(examples)).figures[main] for label in task.classes]
    assert figures[main] == max(others)
    if name == "qqp" and share == 0.37:  # QQP's own share: the commonest label has no F1
        assert said[0] == "duplicate"


def test_settings_that_cannot_be_are_refused():
    for wrong in ({"batch": 0}, {"epochs": 0.0}, {"epochs": -1.0}, {"lr": 0.0}, {"lr": float("nan")}):
        with pytest.raises(ValueError, match="all must be above 0"):
            dataclasses.replace(Setting(), **wrong)


def test_a_task_is_not_chosen_by_an_option(small_bert):
    with pytest.raises(ValueError, match="--name does not choose a task"):
        evaluate.main(["glue/cola", str(small_bert), "--name", "rte"])

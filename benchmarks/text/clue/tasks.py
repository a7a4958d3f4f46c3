# SPDX-License-Identifier: Apache-2.0
"""CLUE's tasks, OCNLI's own release, and three of FewCLUE: the official files, and how each task becomes texts.

Xu et al. 2020, arXiv:2004.05986; Hu et al. 2020 (OCNLI), arXiv:2010.05444; Xu et al. 2021 (FewCLUE), arXiv:2107.07498.
Texts follow the baselines, CLUEbenchmark/CLUE@9d23293: models_pytorch/classifier_pytorch/processors/clue.py, and for
C3 and ChID models_pytorch/mrc_pytorch (`choices.py` here). CMRC 2018 has SQuAD's form: `squad/files.py` reads it.
"""

from pathlib import Path

from ..examples import Example
from ..official import Official, Reading, Row, label_of, marked, need_examples, paths, plain, rows
from .choices import read_c3, read_chid

SPLITS = {"train": ("train.json",), "dev": ("dev.json",), "test": ("test.json",)}
# FewCLUE draws five sets for training and choosing; the first two here are all five together
FEW = {"train": ("train_few_all.json",), "dev": ("dev_few_all.json",), "test_public": ("test_public.json",)}
FEW |= {f"{part}_{number}": (f"{part}_{number}.json",) for part in ("train", "dev") for number in range(5)}
FEW |= {"test": ("test.json",)}
NEWS = tuple(str(code) for code in range(100, 117) if code not in (105, 111))
NLI = ("contradiction", "entailment", "neutral")
UNDECIDED = ("-",)  # annotators did not agree

TASKS = {
    task.name: task
    for task in (
        Official(
            name="afqmc",
            folders=("afqmc", "afqmc_public"),
            files=SPLITS,
            kind="pair",
            labels=("0", "1"),
            texts=("sentence1", "sentence2"),
            predictions="afqmc_predict.json",
        ),
        Official(
            name="tnews",
            folders=("tnews", "tnews_public"),
            files=SPLITS,
            kind="pair",
            labels=NEWS,
            texts=("sentence",),
            predictions="tnews11_predict.json",
        ),
        Official(
            name="iflytek",
            folders=("iflytek", "iflytek_public"),
            files=SPLITS,
            kind="pair",
            labels=tuple(str(number) for number in range(119)),
            texts=("sentence",),
            predictions="iflytek_predict.json",
        ),
        Official(
            name="cmnli",
            folders=("cmnli", "cmnli_public"),
            files=SPLITS,
            kind="pair",
            labels=NLI,
            texts=("sentence1", "sentence2"),
            skipped=UNDECIDED,
            predictions="cmnli_predict.json",
        ),
        Official(
            name="ocnli",
            folders=("ocnli", "ocnli_public", "OCNLI"),
            files={
                **SPLITS,
                "train": ("train.50k.json",),
                **{f"train.{size}k": (f"train.{size}k.json",) for size in (30, 10, 3, 1)},
            },
            kind="pair",
            labels=NLI,
            texts=("sentence1", "sentence2"),
            skipped=UNDECIDED,
            predictions="ocnli_50k_predict.json",
        ),
        Official(
            name="csl",
            folders=("csl", "csl_public"),
            files=SPLITS,
            kind="pair",
            labels=("0", "1"),
            predictions="csl_predict.json",
        ),
        Official(
            name="cluewsc2020",
            folders=("cluewsc2020", "cluewsc2020_public", "wsc"),
            files=SPLITS,
            kind="pair",
            labels=("true", "false"),
            predictions="cluewsc11_predict.json",
        ),
        Official(
            name="c3",
            folders=("c3", "c3_public"),
            files={
                "train": ("d-train.json", "m-train.json"),
                "dev": ("d-dev.json", "m-dev.json"),
                "test": ("test1.1.json",),
            },
            kind="choices",
            predictions="c311_predict.json",
        ),
        Official(
            name="chid",
            folders=("chid", "chid_public", "CHID"),
            files={
                "train": ("train.json", "train_answer.json"),
                "dev": ("dev.json", "dev_answer.json"),
                "test": ("test1.1.json",),
            },
            kind="choices",
            predictions="chid11_predict.json",
        ),
        Official(
            name="bustm",
            folders=("bustm",),
            files=FEW,
            kind="pair",
            labels=("0", "1"),
            texts=("sentence1", "sentence2"),
            predictions="bustm_predict.json",
        ),
        Official(
            name="eprstmt",
            folders=("eprstmt",),
            files=FEW,
            kind="pair",
            labels=("Negative", "Positive"),
            texts=("sentence",),
            predictions="eprstmt_predict.json",
        ),
        Official(
            name="fewclue_tnews",
            folders=("tnews",),
            files=FEW,
            kind="pair",
            labels=NEWS,
            texts=("sentence",),
            predictions="tnewsf_predict.json",
        ),
    )
}


def read(task: Official, folder: Path, split: str) -> Reading:
    """The examples of a split; their indices are the rows' numbers, from 0, as the leaderboard counts them.

    Args:
        folder: holds the folders of the tasks.
        split: "train", "dev" or "test", where labels are hidden; OCNLI also has "train.3k" and so on, FewCLUE
            "train_0" to "train_4", "dev_0" to "dev_4" and "test_public".
    Raises: ValueError, with file and line, for rows of another form or none; MissingFiles (a ValueError).
    """
    files = paths(task, folder, split)
    if task.kind == "choices":
        choices = read_c3(files, split == "test") if task.name == "c3" else read_chid(*files)
        need_examples(files[0], choices)
        return Reading(choices)
    found: list[Example] = []
    dropped = 0
    for number, row in enumerate(rows(files[0])):
        if row.values.get("label") in task.skipped:
            if split != "test":
                dropped += 1
                continue
            row = Row(row.place, {**row.values, "label": None})  # the leaderboard counts all rows
        found.append(_example(task, row, str(number), split == "test"))
    need_examples(files[0], found)
    return Reading(found, dropped)


def _example(task: Official, row: Row, index: str, hidden: bool) -> Example:
    match task.name:
        case "csl":
            return Example(index, " ".join(row.texts("keyword")), row.text("abst"), label_of(task, row, hidden))
        case "cluewsc2020":
            return Example(index, _wsc(row), None, label_of(task, row, hidden))
        case _:
            return plain(task, row, index, hidden)


def _wsc(row: Row) -> str:
    """The text with _ around the noun and [ ] around the pronoun. Their indices count characters."""
    text, target = row.text("text"), row.within("target")
    spans = []
    for name, before, after in (("span1", "_", "_"), ("span2", "[", "]")):
        said, begin = target.text(f"{name}_text"), target.number(f"{name}_index")
        if begin < 0 or not text.startswith(said, begin):
            raise row.wrong(f"{name} is {said[:40]!r}, which does not stand at character {begin}")
        spans.append((begin, begin + len(said), before, after))
    return marked(text, spans)

# SPDX-License-Identifier: Apache-2.0
"""`pluri s3prl`: an encoder in s3prl 0.4.18's own downstream runner, for comparison with pluri's SUPERB.

What s3prl does is untouched: its runner, featuriser, heads, data loaders and files, in a process that ends with it.
"""

import argparse
import builtins
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...ssl.config import Config, to_dict
from ...ssl.parallel import find_device
from ..superb import corpora
from ..superb.utterance.tasks import KeywordCorpusConfig
from . import shims
from .corpus import lay_out
from .encoder import PREFIX, UpstreamConfig
from .upstream import pluri

KEYWORDS = "speech_commands"
SETTINGS, RESULT = "settings.json", "result.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunnerConfig(Config):
    """Settings of s3prl's runner; what is None is as SUPERB's KS or the file of settings has it."""

    data: KeywordCorpusConfig = KeywordCorpusConfig()  # for speech_commands; others name theirs in their settings
    config: str = ""  # a file of s3prl's settings (YAML), which the package itself comes without
    steps: int | None = None  # KS: 200 000
    evaluations: int | None = None  # of dev and test, evenly over the steps; KS: 40
    lr: float | None = None  # KS: 1e-4
    seed: int = 1337
    normalize: bool = False  # s3prl's --upstream_feature_normalize
    workers: int | None = None  # processes that read; KS: 8
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        given = [value for value in (self.steps, self.evaluations, self.lr) if value is not None]
        if any(value <= 0 for value in given):
            raise ValueError("steps, evaluations and lr must be above 0")

    def settings(self, downstream: str, out: Path) -> dict[str, Any]:
        """s3prl's settings of a downstream task, whose keywords are laid out below `out`.

        Raises: ValueError where a file of settings or data are missing, or have no use.
        """
        if downstream != KEYWORDS:
            if self.data != KeywordCorpusConfig():
                raise ValueError(f"--data.path has no effect on {downstream}: name its data in the file of --config")
            if not self.config:
                raise ValueError(f"s3prl's package has no settings of {downstream}: set --config to its config.yaml")
        found = self._read() if self.config else keyword_settings()
        runner = found.get("runner")
        if not isinstance(runner, dict):
            raise ValueError(f"{self.config} has no runner: is it a config.yaml of s3prl's?")
        if "total_steps" not in runner and self.steps is None:
            raise ValueError(f"{self.config} has no total_steps below runner: set --steps")
        if self.steps is not None:
            runner["total_steps"] = self.steps
        if self.evaluations is not None or not self.config:
            every = max(1, int(runner["total_steps"]) // (self.evaluations or 40))
            runner.update(log_step=every, eval_step=every, save_step=every)
        if self.lr is not None:
            found.setdefault("optimizer", {})["lr"] = self.lr
        data = found.setdefault("downstream_expert", {}).setdefault("datarc", {})
        if self.workers is not None:
            data["num_workers"] = self.workers
        if downstream == KEYWORDS and (self.data.path or not self.config):
            (fold,) = corpora.keywords(self.data.path, self.data.test)
            batch = int(data["batch_size"])
            if len(fold.parts.train) < batch:  # it drops smaller batches, and would wait for one for ever
                raise ValueError(f"{self.data.path} has {len(fold.parts.train)} clips of train, s3prl needs {batch}")
            train, test = lay_out(fold.parts, out / "corpus")
            data.update(speech_commands_root=str(train.resolve()), speech_commands_test_root=str(test.resolve()))
        return found

    def _read(self) -> dict[str, Any]:
        import yaml

        if not Path(self.config).is_file():
            raise ValueError(f"{self.config} is missing: set --config to a file of s3prl's settings")
        try:
            found = yaml.safe_load(Path(self.config).read_text())
        except yaml.YAMLError as error:
            raise ValueError(f"{self.config} is no YAML: {' '.join(str(error).split())}") from None
        return found if isinstance(found, dict) else {}


def keyword_settings() -> dict[str, Any]:
    """Those of SUPERB's KS (s3prl@ec8064b, downstream/speech_commands/config.yaml), without when dev is scored."""
    return {
        "runner": {
            "total_steps": 200_000,
            "gradient_clipping": 1,
            "gradient_accumulate_steps": 1,
            "max_keep": 1,
            "eval_dataloaders": ["dev", "test"],
        },
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 1e-4},
        "downstream_expert": {
            "datarc": {"num_workers": 8, "batch_size": 32},
            "modelrc": {
                "projector_dim": 256,
                "select": "UtteranceLevel",
                "UtteranceLevel": {"pooling": "MeanPooling"},
            },
        },
    }


class Result(NamedTuple):
    """What s3prl says of the state that is best on dev."""

    step: int
    dev: float
    test: float


def result(out: Path) -> Result | None:
    """The accuracies in a folder of speech_commands; None before the first evaluation."""
    log = out / "log.log"
    best = 0
    said: dict[tuple[str, int], float] = {}
    for line in log.read_text().splitlines() if log.is_file() else []:
        about, _, value = line.rpartition(": ")
        words = about.split()
        if words[:3] == ["New", "best", "on"]:
            best = int(words[-1])
        else:
            said[words[0], int(words[-1])] = float(value)
    return Result(best, said["dev", best], said["test", best]) if ("test", best) in said else None


def run(encoder: str, downstream: str, config: RunnerConfig, out: Path) -> None:
    """Trains a head in s3prl's runner, or goes on with the newest state in `out`. To be called once in a process.

    Raises: ValueError for an encoder of another kind, wrong data, or a folder that holds another run.
    """
    import yaml

    about = {"encoder": encoder, "downstream": downstream, **to_dict(config)}
    if (out / SETTINGS).is_file() and json.loads((out / SETTINGS).read_text()) != about:
        raise ValueError(f"{out} holds a run with other settings: choose another --out")
    with shims.applied():
        settings = config.settings(downstream, out)
        out.mkdir(parents=True, exist_ok=True)
        (out / SETTINGS).write_text(json.dumps(about, indent=1) + "\n")
        (out / "config.yaml").write_text(yaml.safe_dump(settings))
        upstream = ["-u", pluri.__name__, "-k", encoder]
        if encoder.startswith(PREFIX):
            named = UpstreamConfig.of(encoder)
            upstream = ["-u", named.name, *(["-k", named.checkpoint] if named.checkpoint else [])]
        shims.quiet("s3prl.hub").__dict__[pluri.__name__] = pluri
        words = ["-m", "train", *upstream, "-d", downstream, "-c", str(out / "config.yaml"), "-p", str(out), "-a"]
        words += ["--seed", str(config.seed), "--device", find_device(config.device).type]
        words += ["--upstream_feature_normalize"] if config.normalize else []
        _call(words)


def _call(words: list[str]) -> None:
    """s3prl's run_downstream with these words."""
    module = shims.quiet("s3prl.run_downstream")
    before, own = sys.argv, builtins.isinstance
    sys.argv = ["run_downstream.py", *words]
    try:
        module.main()
    finally:
        sys.argv = before
        builtins.isinstance = own  # s3prl puts one of its own in its place


def main(words: list[str]) -> None:
    """`pluri s3prl ENCODER DOWNSTREAM [--data.path P] [--steps N] [--lr X] [--seed N] [--out DIR]`."""
    parser = argparse.ArgumentParser(prog="pluri s3prl", add_help=False, allow_abbrev=False)
    parser.add_argument("encoder", nargs="?")
    parser.add_argument("downstream", nargs="?")
    parser.add_argument("--out", type=Path)
    known, rest = parser.parse_known_args(words)
    if known.downstream is None:
        print("usage: pluri s3prl ENCODER DOWNSTREAM [--data.path P] [--steps N] [--lr X] [--seed N] [--out DIR]")
        print("runs an encoder in the downstream runner of s3prl 0.4.18, which is pluri[s3prl]\n")
        print(
            f"DOWNSTREAM: {KEYWORDS}, which is SUPERB's KS, or with --config FILE another of s3prl's folders downstream"
        )
        print("`pluri s3prl ENCODER DOWNSTREAM --help` shows every setting.")
        sys.exit(0 if {"-h", "--help"} & set(rest) else 2)
    from ...cli import override

    config = override(RunnerConfig(), rest, f"pluri s3prl {known.encoder} {known.downstream}")
    short = Path(known.encoder).name.replace(":", "-")
    out = known.out or Path("runs") / f"s3prl-{known.downstream}-{short}-{config.seed}"
    run(known.encoder, known.downstream, config, out)
    found = result(out) if known.downstream == KEYWORDS else None
    if found is not None:
        (out / RESULT).write_text(json.dumps(found._asdict()) + "\n")
        print(f"{known.downstream}: accuracy {found.test:.4f} on test, {found.dev:.4f} on dev, at step {found.step}")
    print(f"everything is in {out}")

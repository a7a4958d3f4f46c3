# SPDX-License-Identifier: Apache-2.0
"""`pluri doctor`: versions, devices, and the pairs of packages that are known to break."""

import importlib
import importlib.metadata
import os
import platform
import re

import torch

PACKAGES = (
    "torch",
    "torchaudio",
    "transformers",
    "tokenizers",
    "safetensors",
    "librosa",
    "soundfile",
    "scikit-learn",
    "fairseq2",
    "s3prl",
)


def versions() -> dict[str, str | None]:
    """The installed version of each package that matters; None where there is none."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _number(version: str) -> tuple[int, int]:
    major, minor = re.findall(r"\d+", version)[:2]
    return int(major), int(minor)


def pair_fits(torch_version: str, torchaudio_version: str) -> bool:
    """Whether torchaudio's compiled part loads beside this torch: 2.11 with 2.11 to 2.14, before that only its twin."""
    ours, its = _number(torch_version), _number(torchaudio_version)
    return (2, 11) <= ours <= (2, 14) if its == (2, 11) else ours == its


def problems(found: dict[str, str | None]) -> list[str]:
    """What does not fit together, each with what to do."""
    out = []
    ours, its = found["torch"], found["torchaudio"]
    if ours is not None and not (2, 9) <= _number(ours) < (2, 15):
        out.append(f"torch {ours} is outside 2.9 to 2.14: pip install 'torch>=2.9,<2.15'")
    if its is None:
        out.append("torchaudio is not installed: speech needs it; pip install torchaudio==2.11.0 (torch 2.11 to 2.14)")
    elif ours is not None and not pair_fits(ours, its):
        out.append(
            f"torchaudio {its} does not load with torch {ours}: pip install torchaudio=={ours.split('+')[0]} for torch "
            f"before 2.11, torchaudio==2.11.0 for torch 2.11 to 2.14"
        )
    for name in ("torchaudio", "soundfile", "librosa", "transformers"):
        if found[name] is not None:
            try:
                importlib.import_module(name)
            except (ImportError, OSError) as error:
                out.append(f"{name} {found[name]} does not import: {' '.join(str(error).split())[:200]}")
    return out


def report() -> bool:
    """Prints everything; returns whether all is well."""
    found = versions()
    print(
        f"{'python':<16}{platform.python_version()}  {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    for name, version in found.items():
        print(f"{name:<16}{version or '-'}")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            of = torch.cuda.get_device_properties(i)
            print(f"{'cuda ' + str(i):<16}{of.name}, {of.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}")
    else:
        print(f"{'cuda':<16}none: runs on the CPU")
    wrong = problems(found)
    for problem in wrong:
        print(f"problem: {problem}")
    if not wrong:
        print("no problem found")
    return not wrong

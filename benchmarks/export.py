# SPDX-License-Identifier: Apache-2.0
"""`pluri export`: an encoder in the format of another library."""

import argparse
from pathlib import Path

from ..speech import published as speech
from ..text import published as text
from ..vision import published as vision
from .encoders import load, modality

WRITERS = {"text": text.to_hf, "speech": speech.to_hf, "vision": vision.to_hf}


def main(words: list[str]) -> None:
    """`pluri export ENCODER --to hf --out DIR`."""
    parser = argparse.ArgumentParser(prog="pluri export", description="an encoder in Hugging Face's format")
    parser.add_argument("encoder", help="a run directory")
    parser.add_argument("--to", choices=("hf",), default="hf")
    parser.add_argument("--out", type=Path, required=True)
    known = parser.parse_args(words)
    backbone = load(known.encoder)
    WRITERS[modality(backbone)](backbone, known.out)
    print(f"{known.out}: transformers loads it with AutoModel.from_pretrained")

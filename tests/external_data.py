"""Data that is no part of the repository. Tests that need it are skipped without it.

It lies in the folder `shared` beside the repository, or in the one that RAMEDGE_TEST_DATA names.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "RAMEDGE_TEST_DATA"
FOLDER = Path(os.environ.get(VARIABLE, Path(__file__).resolve().parents[2] / "shared"))

SOURCES = {
    "data/eval": "put the HR images of Set5, Set14 and BSD100 there, each in a folder of that name "
    "(https://cv.snu.ac.kr/research/EDSR/benchmark.tar has them, BSD100 as B100)",
    "data/teachers": "put the weights of https://github.com/Zheng-MJ/SMFANet there",
    "data/video": "put a clip of that name there, of the kind that it says",
    "paper": "put the text of https://arxiv.org/pdf/1811.12043 there (pdftotext)",
}


def external(name: str) -> Path:
    """A file or folder of the data, by its path in the folder.

    Skips the test where it is missing, with one line that says how to get it.
    """
    path = FOLDER / name
    if not path.exists():
        how = next(how for prefix, how in SOURCES.items() if name.startswith(prefix))
        pytest.skip(f"no {path}: {how}, or set {VARIABLE} to the folder that holds {name}")
    return path

"""Cut the full training.npz (outputs of the authors' released code) down to a repository's size.

    python tests/golden/make_compact_training.py FOLDER_OF_FULL_FILES

The inputs are left out, since `tests/training/golden.py` draws them again; every 997th value of them stays, to
prove that what is drawn is what the released code was given.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

INPUTS = ("text", "heads", "tokens")
SAMPLE_STEP = 997


def main(source: Path) -> None:
    with np.load(source / "training.npz") as file:
        kept = {key: value for key, value in file.items() if key not in INPUTS}
        kept |= {f"{key}_sample": file[key].ravel()[::SAMPLE_STEP] for key in INPUTS}
    np.savez_compressed(Path(__file__).parent / "training.npz", **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The pictures of docs/: its code makes them, and they are small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.pictures.command import DOCUMENTS, pictures_of

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
MOST_BYTES = 60_000


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")  # pycocotools
def test_the_documents_code_makes_the_pictures(exported_bundle: Path, tmp_path: Path) -> None:
    assert main(["pictures", str(exported_bundle), "--output", str(tmp_path)]) == 0
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(path.name for path in PICTURES.iterdir())
    for name in made:
        with Image.open(tmp_path / name) as new, Image.open(PICTURES / name) as shown:
            assert new.size == shown.size
            # Engines and processors round differently, so single pixels may have another label.
            difference = np.abs(np.asarray(new, np.int16) - np.asarray(shown, np.int16))
            assert difference.mean() < 4, name


def test_pictures_are_small_and_shown() -> None:
    for path in PICTURES.iterdir():
        assert path.stat().st_size < MOST_BYTES
    for document in DOCUMENTS:
        text = (ROOT / "docs" / document).read_text(encoding="utf-8")
        names = pictures_of(ROOT / "docs" / document)
        assert len(names) == 3
        assert all(f"](pictures/{name})" in text for name in names)


def test_a_missing_bundle_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pictures", str(tmp_path / "no"), "--output", str(tmp_path)]) == 2
    assert "is no folder; expected a bundle exported from models/tiny" in capsys.readouterr().err

"""Packages that are all the module `onnxruntime`: two of them overwrite or hide each other."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from t2d_runtime.device.install import how_to_install

GPU = "onnxruntime-gpu"
PACKAGES = ("onnxruntime", GPU)


def conflict() -> Iterator[str]:
    """Lines on what is wrong with ONNX Runtime's packages here, and the repair.

    Two in one folder overwrite each other, and removing one of them removes files that the other needs. Of two in
    different folders, Python takes the one that comes first on its search path.
    """
    present = {name: place for name in PACKAGES if (place := _folder(name)) is not None}
    pip = f"{sys.executable} -m pip"
    module = importlib.util.find_spec("onnxruntime")
    imported = None if module is None or module.origin is None else Path(module.origin).parent.parent.resolve()
    if len(present) == 2 and len(set(present.values())) == 1:
        yield "onnxruntime and onnxruntime-gpu are both installed and overwrite each other. To repair:"
        yield f"  {pip} uninstall -y onnxruntime onnxruntime-gpu"
        yield f"  then {how_to_install('gpu')} ('.[cpu]' on a machine without an NVIDIA GPU)"
    elif present and imported is None:
        name = next(iter(present))
        yield f"{name} is installed, but its files are gone, perhaps with the other package. To repair:"
        yield f"  {pip} install --force-reinstall --no-deps {name}=={metadata.version(name)}"
    elif len(present) == 2 and imported != present[GPU]:
        yield f"onnxruntime in {imported} hides onnxruntime-gpu in {present[GPU]}: put that folder first on PYTHONPATH"


def _folder(package: str) -> Path | None:
    """Folder that an installed package is in."""
    try:
        return Path(str(metadata.distribution(package).locate_file(""))).resolve()
    except metadata.PackageNotFoundError:
        return None

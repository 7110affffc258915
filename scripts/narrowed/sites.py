"""Finds the CPUID instructions of the shared libraries in folders, for cpuid.c: lines of a path and its addresses.

python sites.py OUTPUT FOLDER...; what was found is kept beside OUTPUT, and a library is read again when it changes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tqdm import tqdm

CPUID: Final = b"\x0f\xa2"

FOR_GPUS: Final = ("nvidia", "triton", "onnxruntime_ep_nv_tensorrt_rtx")
"""Packages whose libraries compute nothing on the CPU, and are half of all."""


def main(output: Path, *folders: Path) -> None:
    """Write the sites of all libraries below the folders."""
    known_file = output.with_suffix(".json")
    known = json.loads(known_file.read_text()) if known_file.is_file() else {}
    libraries = sorted({path.resolve() for folder in folders for path in folder.rglob("*.so*") if path.is_file()})
    keys = {path: f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in libraries}
    new = [path for path, key in keys.items() if key not in known]
    with ThreadPoolExecutor(2) as pool:
        searched = tqdm(pool.map(addresses, new), total=len(new), unit="library", disable=None)
        known.update(zip((keys[path] for path in new), searched, strict=True))
    known_file.write_text(json.dumps(known, indent=0))
    output.write_text("".join(f"{path}\t{' '.join(known[key])}\n" for path, key in keys.items()))


def addresses(library: Path) -> list[str]:
    """Addresses of a library's CPUID instructions, in hexadecimal."""
    if set(FOR_GPUS) & set(library.parts) or "cuda" in library.name or CPUID not in library.read_bytes():
        return []
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(library)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listing:
        found = [line.split(":")[0].strip() for line in listing.stdout or () if line.rstrip().endswith("\tcpuid")]
    if listing.returncode:
        sys.exit(f"objdump cannot read {library}")
    return found


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

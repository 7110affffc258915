"""The NVIDIA GPU of this machine, asked through the driver alone."""

from __future__ import annotations

import subprocess

from t2d_runtime.errors import BackendUnavailableError

QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader", "--id=0")


def gpu() -> tuple[str, str]:
    """Name with compute capability, and driver version, of GPU 0. Raises BackendUnavailableError without one."""
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=30)
        name, capability, driver = (field.strip() for field in done.stdout.strip().split(","))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise BackendUnavailableError(
            f"no NVIDIA GPU answers ({error}); install its driver, see 'nvidia-smi'"
        ) from error
    return f"{name}, compute capability {capability}", driver

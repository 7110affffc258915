"""Code paths of this machine's processor: units for each precision, engines that use them, PAMR's loops."""

from __future__ import annotations

from t2d_runtime.backends.names import AUTOMATIC, installed_module
from t2d_runtime.backends.registry import open_named
from t2d_runtime.device.cpu import Cpu, cpu
from t2d_runtime.device.threads import available_cores
from t2d_runtime.errors import BackendUnavailableError
from t2d_runtime.masks.pamr.choice import loops_here
from t2d_runtime.proof.parity import PRECISIONS

PRODUCTS = {
    "fp32": {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "ARM Advanced SIMD"},
    "bf16": {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "bf16": "ARM's bfloat16 products"},
    "int8": {
        "amx_int8": "AMX",
        "avx512_vnni": "AVX512-VNNI",
        "avx_vnni": "AVX-VNNI",
        "i8mm": "ARM's int8 matrix products",
        "asimddp": "ARM's int8 dot products",
    },
}
"""Precision -> flag -> units that multiply matrices in it, the fastest first."""

WITHOUT = {
    "fp32": "no vector units known here: whatever the engine finds",
    "bf16": "no bfloat16 units",
    "int8": "no units for int8 products: smaller than fp32, hardly faster",
}


def cpu_paths() -> dict[str, str]:
    """Lines of `t2d info` about this machine, by their titles."""
    processor = cpu()
    return {
        "processor": f"{processor.model}, {available_cores()} cores to use",
        "vector units": " ".join(processor.units) or "not told by this system",
        **{f"{precision} here": f"{units(processor, precision)}{_engines(precision)}" for precision in PRECISIONS},
        "PAMR": loops_here(),
    }


def units(processor: Cpu, precision: str) -> str:
    """The processor's fastest units for matrix products in a precision, or what their absence means."""
    if precision == "fp16":
        return f"stored in half, computed in float32: {units(processor, 'fp32')}"
    found = (name for flag, name in PRODUCTS[precision].items() if flag in processor.units)
    return next(found, WITHOUT[precision])


def _engines(precision: str) -> str:
    """The CPU engines installed here that run a precision, and why the others do not."""
    installed = [name for name in AUTOMATIC if installed_module(name) is not None]
    refusals = {name: _refusal(name, precision) for name in installed}
    verdicts = [name if reason is None else f"not {name} ({reason})" for name, reason in refusals.items()]
    return f"; by {', '.join(verdicts)}" if verdicts else ""


def _refusal(name: str, precision: str) -> str | None:
    """The reason why an installed engine does not run a precision; None where it does."""
    try:
        return open_named(name).refusal(precision)
    except BackendUnavailableError:
        return "does not load, see 't2d doctor'"

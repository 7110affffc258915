"""Parity of a bundle with the PyTorch reference: the runtime computes its self-test vectors, stage by stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from t2d_export.bundle.bundle_writer import write_manifest
from t2d_export.bundle.emulation import EMULATION, Emulation
from t2d_runtime.backends.base import Backend
from t2d_runtime.backends.names import BACKENDS, installed_module
from t2d_runtime.backends.registry import open_backend
from t2d_runtime.bundle.files import TEXT_ENCODER, TOKENIZER, Bundle
from t2d_runtime.bundle.manifest import StageParity, Verdict, first_failure
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import BackendError, VerificationError
from t2d_runtime.proof.selftest import run_selftest

ON_THE_MACHINE = Verdict("untested", "proves itself when it is first opened; run 't2d selftest' there")
AFTER_A_BUILD = Verdict("untested", "build it with 't2d-export engine'; it proves itself when it is first opened")


def verify_bundle(folder: Path, *, backend: str = "onnxruntime") -> tuple[StageParity, ...]:
    """Run every stage in float32, store the report in the manifest, and return it, failed stages included.

    Raises BundleNotFoundError where the text encoder was left off, since the report covers every stage.
    """
    bundle = Bundle.open(folder)
    bundle.graph(TEXT_ENCODER)
    bundle.file(TOKENIZER)
    stages = run_selftest(Encoders(bundle, open_backend(backend), precision="fp32"))
    write_manifest(folder, replace(bundle.manifest, parity=stages))
    return stages


def require_verified(stages: tuple[StageParity, ...]) -> None:
    """Raise VerificationError, naming the first stage out of tolerance, where there is one."""
    failed = first_failure(stages)
    if failed is not None:
        raise VerificationError(
            f"verification failed: stage {failed.stage!r} of the exported graphs differs from PyTorch "
            f"({failed.verdict}); nothing was written"
        )


def judge_stored(folder: Path, precision: str) -> Verdict:
    """Verdict on the stored graphs of a precision below fp32, by its gates on the self-test; the same everywhere."""
    return _verdict(folder, Emulation(), precision)


def matrix_row(folder: Path, precision: str, stored: Verdict) -> dict[str, Verdict]:
    """Backend -> verdict on the precision, tested where this machine can run it.

    `stored` is the verdict on the stored graphs; for fp32 it is ONNX Runtime's verdict.
    """
    row = {"onnxruntime": stored}
    if precision != "fp32":
        row = {EMULATION: stored, "onnxruntime": _tested(folder, open_backend("onnxruntime"), precision)}
    if precision == "bf16":
        row["onnxruntime"] = Verdict("unsupported", "its CPU provider has no bfloat16 kernels; use openvino")
    return row | {name: _elsewhere(folder, name, precision) for name in BACKENDS if name != "onnxruntime"}


def _elsewhere(folder: Path, name: str, precision: str) -> Verdict:
    """The verdict of a backend that an export may lack."""
    facts = BACKENDS[name]
    if facts.built:
        return AFTER_A_BUILD
    if not facts.automatic or installed_module(name) is None:
        return ON_THE_MACHINE
    return _tested(folder, open_backend(name), precision)


def _tested(folder: Path, backend: Backend, precision: str) -> Verdict:
    """The verdict of a backend on this machine; untested where this processor cannot run the precision."""
    if backend.refusal(precision) is not None:
        return ON_THE_MACHINE
    return _verdict(folder, backend, precision)


def _verdict(folder: Path, backend: Backend, precision: str) -> Verdict:
    try:
        run = run_selftest(Encoders(Bundle.open(folder), backend, precision=precision))
    except BackendError as error:  # the backend refuses the graph, or float16 overflows
        return Verdict("failed", str(error))
    failed = first_failure(run)
    if failed is not None:
        return Verdict("failed", f"{backend.identity}: {failed.verdict}")
    stages = {stage.stage: stage for stage in run}
    tokens, embeds = (stages[stage].relative_frobenius for stage in ("patch_tokens", "text_embeds"))
    agreement = stages["label_map"].label_agreement
    return Verdict(
        "passed",
        f"patch tokens differ by {tokens:.1e} of their norm and class embeddings by {embeds:.1e} of theirs, "
        f"{agreement:.3%} of the labels agree",
    )

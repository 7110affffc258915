"""An export, from checkpoints to a verified bundle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from t2d_export.bundle.bundle_writer import file_records, staged_folder, write_manifest
from t2d_export.bundle.prompt_sets import PROMPT_SETS
from t2d_export.bundle.selftest_vectors import selftest_vectors
from t2d_export.bundle.tokenizer import write_tokenizer
from t2d_export.bundle.verify import judge_stored, matrix_row, require_verified, verify_bundle
from t2d_export.bundle.verify_fused import check_fusible, require_fused_verified
from t2d_export.encoders.calibration import calibration_images, calibration_prompts, calibration_windows
from t2d_export.encoders.graphs import ImageEncoderGraph, TextEncoderGraph
from t2d_export.encoders.precision import HALF_TYPES, write_half, write_int8
from t2d_export.encoders.to_onnx import OPSET, export_image_encoder, export_text_encoder
from t2d_export.fused.graph import write_fused
from t2d_export.model.reference import Reference, load_reference
from t2d_export.model.reference_masks import DILATIONS, ITERATIONS, LAMBDA
from t2d_export.weights.hub import download
from t2d_export.weights.published import published_model
from t2d_export.weights.text_facts import Activation
from t2d_runtime.bundle.files import IMAGE_ENCODER, PRECISIONS_FOLDER, SELFTEST, TEXT_ENCODER, TOKENIZER, Bundle
from t2d_runtime.bundle.manifest import (
    SCHEMA_VERSION,
    Defaults,
    Manifest,
    ModelFacts,
    PamrSettings,
    Preprocessing,
    Verdict,
)
from t2d_runtime.device.machine import installed_versions
from t2d_runtime.errors import OptionError
from t2d_runtime.proof.parity import PRECISIONS

VERIFIED_ON = "onnxruntime"

EXPORTER_PACKAGES = ("torch", "timm", "open_clip_torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu")
"""Packages that made a bundle, besides this one."""


@dataclass(frozen=True)
class ExportSettings:
    """Settings of an export.

    Weights are a checkpoint file, hf://ORG/REPO[@REVISION][/FILE], "hub" or "random"; None takes a model folder's own,
    or the hub.
    `input_size` is (height, width) in pixels, multiples of the patch; None is 448 x 448, or the folder's.
    """

    backbone: str
    backbone_weights: str | None = None
    text_weights: str | None = None
    projection: str | None = None
    input_size: tuple[int, int] | None = None
    precisions: tuple[str, ...] = ("fp32",)
    calibration: Path | None = None
    """Folder of images for the calibration of int8; None takes the self-test's picture."""
    fused: bool = False
    """Also write the fused graph, in every precision."""
    average_tokens: bool = False
    """True takes the mean over a prompt's words instead of its end token (an ablation)."""
    text_activation: Activation | None = None
    """Activation of the text tower, "quick_gelu" or "gelu". None: as its source says, else QuickGELU with a warning."""
    threshold: float | None = None
    """Default background threshold of the bundle, 0 to 1. None: that of the published figures, or the folder's."""

    def of_model(self, name: str) -> ExportSettings:
        """These settings for a published model: its backbone, and its weights for the parts that are not given.

        The newest commit is looked up once where none is known. Raises as `t2d_export.weights.hub.download`, and
        OptionError for an unknown name.
        """
        model = published_model(name)
        given = (self.backbone_weights, self.text_weights, self.projection)
        weights = str(download(model.weights)[1]) if None in given else ""
        image, text, projection = (own or weights for own in given)
        return replace(self, backbone=model.backbone, backbone_weights=image, text_weights=text, projection=projection)

    def load_reference(self) -> Reference:
        """The PyTorch model of these weights."""
        return load_reference(
            backbone=self.backbone,
            backbone_weights=self.backbone_weights,
            text_weights=self.text_weights,
            projection=self.projection,
            input_size=self.input_size,
            average_tokens=self.average_tokens,
            text_activation=self.text_activation,
            threshold=self.threshold,
        )


def export_bundle(settings: ExportSettings, output: Path, *, overwrite: bool = False) -> Manifest:
    """Write a bundle to `output`, verified against the PyTorch reference before it is moved there.

    A precision below fp32 that misses its gates is left out; the manifest's matrix says by how much.
    Raises WeightsError and WeightsNotFoundError (checkpoints), OptionError (sizes, precisions, a calibration without
    int8), OutputError, ExportError, and VerificationError, which names the first stage of fp32 out of tolerance.
    """
    others = _other_precisions(settings.precisions)
    if settings.calibration is not None and "int8" not in others:
        raise OptionError(
            f"--calibration {settings.calibration} has no effect without int8; add int8 to --precision, or leave the "
            "images out"
        )
    images = calibration_images(settings.calibration) if settings.calibration else None
    steps = 5 + len(others) + settings.fused
    with staged_folder(output, overwrite=overwrite) as folder, tqdm(total=steps, disable=None, leave=False) as bar:

        def begin(step: str) -> None:
            bar.set_description(step)
            bar.update()

        begin("loading weights")
        reference = settings.load_reference()
        if settings.fused:
            check_fusible(reference.windows)
        image, text = ImageEncoderGraph(reference), TextEncoderGraph(reference)
        begin("tracing the image encoder")
        export_image_encoder(image, folder / IMAGE_ENCODER)
        begin("tracing the text encoder")
        export_text_encoder(text, folder / TEXT_ENCODER)
        write_tokenizer(folder / TOKENIZER)
        begin("running the reference")
        manifest = _manifest(reference)
        vectors = selftest_vectors(reference, manifest, folder / TOKENIZER)
        vectors.save(folder / SELFTEST)
        begin("verifying")
        write_manifest(folder, replace(manifest, files=file_records(folder)))
        stages = verify_bundle(folder, backend=VERIFIED_ON)
        require_verified(stages)
        matrix = {"fp32": matrix_row(folder, "fp32", Verdict("passed", "verified at export"))}
        for name in others:
            begin(name)
            target = folder / PRECISIONS_FOLDER / name
            if name in HALF_TYPES:
                write_half(name, image, text, target)
            else:
                windows = calibration_windows(images or [vectors.image], manifest)
                prompts = calibration_prompts(vectors.class_names, manifest, folder / TOKENIZER)
                write_int8(folder, target, windows, prompts)
            matrix[name] = _judged(folder, manifest, name)
        manifest = replace(manifest, parity=stages, precisions=matrix)
        if settings.fused:
            begin("the fused graph")
            write_manifest(folder, replace(manifest, files=file_records(folder)))
            _write_fused(folder)
        manifest = replace(manifest, files=file_records(folder))
        write_manifest(folder, manifest)
    return manifest


def _write_fused(folder: Path) -> None:
    """Write and verify the fused graph in every precision of the bundle."""
    encoders = Bundle.open(folder)
    for precision in encoders.graph_precisions(IMAGE_ENCODER):
        write_fused(encoders, precision)
        write_manifest(folder, replace(encoders.manifest, files=file_records(folder)))
        require_fused_verified(folder, precision)


def _other_precisions(asked: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in asked if name not in PRECISIONS]
    if unknown or "fp32" not in asked:
        raise OptionError(f"precisions are {list(asked)}, expected fp32 and others of {list(PRECISIONS)}")
    return tuple(name for name in PRECISIONS[1:] if name in asked)


def _judged(folder: Path, manifest: Manifest, precision: str) -> dict[str, Verdict]:
    """The matrix row of a precision that was just written. Its files are removed where it misses its gates."""
    write_manifest(folder, replace(manifest, files=file_records(folder)))
    stored = judge_stored(folder, precision)
    if stored.status == "passed":
        return matrix_row(folder, precision, stored)
    shutil.rmtree(folder / PRECISIONS_FOLDER / precision)
    return {"all": Verdict("failed", f"not written: {stored.reason}")}


def _manifest(reference: Reference) -> Manifest:
    backbone = reference.backbone
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=ModelFacts(
            backbone=backbone.name,
            projection=type(reference.projection).__name__,
            embed_dim=reference.projection.shared_dim,
            num_heads=backbone.num_heads,
            patch_size=backbone.patch_size,
            num_prefix_tokens=backbone.num_prefix_tokens,
            input_size=backbone.input_size,
            context_length=reference.text_tower.context_length,
            average_tokens=reference.average_tokens,
            text_activation=reference.text_tower.activation,
        ),
        preprocessing=Preprocessing(backbone.mean, backbone.std),
        windows=reference.windows,
        defaults=Defaults(reference.threshold, LAMBDA, PamrSettings(DILATIONS, ITERATIONS)),
        prompt_sets=PROMPT_SETS,
        files={},
        precisions={},
        opset=OPSET,
        sources=reference.sources,
        exporter=installed_versions(EXPORTER_PACKAGES),
        parity=(),
    )

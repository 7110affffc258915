"""The model card of a bundle, made of its manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from t2d_runtime.bundle.files import PRECISIONS_FOLDER
from t2d_runtime.bundle.manifest import Manifest
from t2d_runtime.device.install import how_to_install

LICENCES: Mapping[str, str] = {
    "lorebianchi98/Talk2DINOv3": "Talk2DINO names none: ask its authors; DINOv3 License for the backbone; MIT for CLIP",
    "lorebianchi98/Talk2DINO": "Talk2DINO names none: ask its authors; Apache-2.0 for DINOv2; MIT for CLIP",
    "timm/vit_base_patch16_clip": "MIT (OpenAI's CLIP)",
    "timm/vit_large_patch14_clip": "MIT (OpenAI's CLIP)",
    "dinov3": "DINOv3 License (Meta)",
    "dinov2": "Apache-2.0 (Meta)",
}
"""Part of a source's name -> its licence; the first that fits counts."""

UNKNOWN_LICENCE = "see where it comes from"


def model_card(manifest: Manifest, name: str, speeds: Sequence[str] = ()) -> str:
    """The text of README.md. `name` is the bundle's on the hub, `speeds` are lines about measured machines."""
    model = manifest.model
    sources = sorted({(part, source.name, source.sha256 or "") for part, source in manifest.sources.items()})
    repositories = sorted({repository for _, origin, _ in sources if (repository := _repository(origin))})
    header = ["library_name: t2d-runtime", "pipeline_tag: image-segmentation", "tags:"]
    header += [f"- {tag}" for tag in ("open-vocabulary-segmentation", "talk2dino", "onnx")]
    if repositories:
        header += ["base_model:", *(f"- {repository}" for repository in repositories)]
    parity = [
        (stage.stage, "passed" if stage.passed else "FAILED", stage.verdict.partition(": ")[2])
        for stage in manifest.parity
    ]
    verdicts = [
        (precision, backend, verdict.status, verdict.reason)
        for precision, row in manifest.precisions.items()
        for backend, verdict in row.items()
    ]
    rows = [(part, f"`{origin}`", f"`{digest}`", _licence(origin)) for part, origin, digest in sources]
    sizes = [(precision, f"{size / 2**20:.1f} MiB") for precision, size in _sizes(manifest).items()]
    return "\n".join(
        [
            "---",
            *header,
            "---",
            "",
            f"# {name}",
            "",
            f"Talk2DINO with {model.backbone} as a bundle for t2d-runtime: it segments any image by any words you",
            "type, without PyTorch. Every stage was compared with the PyTorch model at the export, and is compared",
            "again on each machine before it is used.",
            "",
            f"To install, {how_to_install('cpu')}; then:",
            "",
            "```",
            f't2d segment hf://{name} photo.jpg --classes "cat,grass" --background --refine',
            "```",
            "",
            f"Input {model.input_size[0]} x {model.input_size[1]} pixels (height x width), {model.embed_dim} wide, "
            f"background threshold {manifest.defaults.threshold}.",
            "",
            *_table("Sources", ("part", "source", "sha256", "licence"), rows),
            *_table("Sizes", ("precision", "files to download"), sizes),
            *_table("Compared with PyTorch at the export", ("stage", "verdict", "by how much"), parity),
            *_table("Precisions and backends", ("precision", "backend", "verdict", "reason"), verdicts),
            "## Speeds",
            "",
            *(speeds or (f"Measure this machine with `t2d bench hf://{name}`.",)),
            "",
        ]
    )


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(_cell(text) for text in row)} |" for row in (head, ["---"] * len(head), *rows)]
    return [f"## {title}", "", *lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _repository(origin: str) -> str | None:
    if not origin.startswith("hf://"):
        return None
    return "/".join(origin.removeprefix("hf://").partition("@")[0].split("/")[:2])


def _licence(origin: str) -> str:
    if origin == "random":
        return "none: random numbers"
    return next((licence for part, licence in LICENCES.items() if part in origin), UNKNOWN_LICENCE)


def _sizes(manifest: Manifest) -> dict[str, int]:
    """Bytes of the files that each precision has to itself; those that all share count for fp32."""
    sizes: dict[str, int] = {}
    for file, record in manifest.files.items():
        parts = PurePosixPath(file).parts
        precision = parts[1] if parts[0] == PRECISIONS_FOLDER else "fp32"
        sizes[precision] = sizes.get(precision, 0) + record.size_bytes
    return sizes

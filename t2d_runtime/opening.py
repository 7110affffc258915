"""Opens a bundle on a backend, and where it is asked for a GPU that computes the masks; requires their self-tests."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

from t2d_runtime.bundle.files import Bundle
from t2d_runtime.bundle.from_hub import ALL, local_bundle
from t2d_runtime.device.threads import checked_num_threads
from t2d_runtime.encoders import Encoders
from t2d_runtime.errors import OptionError
from t2d_runtime.proof.choice import AUTO, fastest_precision, open_for
from t2d_runtime.proof.parity import PRECISIONS
from t2d_runtime.proof.verdicts import require_proven

if TYPE_CHECKING:
    from t2d_runtime.masks.cuda.postprocess import DeviceMasks

FAST = "fast"
"""Name of the precision that is chosen by measuring."""

Postprocess = Literal["host", "device"]
"""Place where features become labels: this processor, or GPU 0."""


class OpenOptions(TypedDict, total=False):
    """Options of `Segmenter.open`, which describes them."""

    backend: str
    precision: str
    num_threads: int | None
    postprocess: Postprocess
    load_text_encoder: bool


def open_parts(
    bundle: str | PathLike[str],
    *,
    backend: str = AUTO,
    precision: str = "fp32",
    num_threads: int | None = None,
    postprocess: Postprocess = "host",
    load_text_encoder: bool = False,
) -> tuple[Encoders, DeviceMasks | None]:
    """The encoders of a bundle, and the GPU that computes masks where one is asked for. Neither has been proved.

    Arguments and errors are those of `Segmenter.open`.
    """
    num_threads = checked_num_threads(num_threads)
    if postprocess not in get_args(Postprocess):
        raise OptionError(f"postprocess is {postprocess!r}, expected one of {list(get_args(Postprocess))}")
    if precision not in (*PRECISIONS, FAST):
        raise OptionError(f"precision is {precision!r}, expected one of {[*PRECISIONS, FAST]}")
    opened = Bundle.open(local_bundle(bundle, ALL if precision == FAST else [precision]))
    if precision == FAST:
        chosen, precision = fastest_precision(opened, backend, num_threads)
    else:
        chosen = open_for(opened, backend, precision, num_threads)
    encoders = Encoders(
        opened, chosen, precision=precision, num_threads=num_threads, load_text_encoder=load_text_encoder
    )
    if postprocess == "host":
        return encoders, None
    from t2d_runtime.masks.cuda.postprocess import DeviceMasks

    return encoders, DeviceMasks.open()


def require_proven_parts(encoders: Encoders, device_masks: DeviceMasks | None) -> None:
    """Require what `open_parts` gave to pass the bundle's self-tests here. Raises SelfTestError."""
    require_proven(encoders)
    if device_masks is not None:
        from t2d_runtime.proof.device_masks import require_proven_features, require_proven_masks

        require_proven_masks(encoders.bundle, device_masks)
        require_proven_features(encoders, device_masks)
        device_masks.forget_sizes()

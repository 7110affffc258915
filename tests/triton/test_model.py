"""The model without Triton, on a stand-in for its Python backend: what the real server does not come to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from t2d_runtime import Segmenter
from t2d_runtime.errors import BackendError, BundleNotFoundError
from t2d_runtime.serving.triton.model import SegmentationModel, take_gpu
from t2d_runtime.serving.triton.tensors import Tensors


class Tensor:
    """As of a backend that knows NumPy 2."""

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self._name = name
        self._array = array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> NDArray[Any]:
        return self._array

    @classmethod
    def from_dlpack(cls, name: str, given: Any) -> Tensor:
        return cls(name, np.from_dlpack(given))


class TritonError(Exception):
    INTERNAL, INVALID_ARG = "INTERNAL", "INVALID_ARG"


def backend() -> Any:
    def response(outputs: Any = (), error: Any = None) -> Any:
        return SimpleNamespace(outputs={one.name(): one.as_numpy() for one in outputs}, error=error)

    return SimpleNamespace(Tensor=Tensor, TritonError=TritonError, InferenceResponse=response)


class Request:
    def __init__(self, inputs: dict[str, NDArray[Any]], *outputs: str, **parameters: Any) -> None:
        self._tensors = [Tensor(name, array) for name, array in inputs.items()]
        self._outputs = outputs
        self._parameters = parameters

    def inputs(self) -> list[Tensor]:
        return self._tensors

    def parameters(self) -> str:
        return json.dumps(self._parameters)

    def requested_output_names(self) -> tuple[str, ...]:
        return self._outputs


IMAGE = np.zeros((20, 30, 3), np.uint8)
WORDS = np.array([b"sky", "Gr\u00e4ser".encode()], object)


def arguments(folder: Path | str, **changes: str) -> dict[str, str]:
    parameters = {"backend": "onnxruntime", "precision": "fp32", "num_threads": "1", "bundle": str(folder)}
    content = {name: {"string_value": value} for name, value in parameters.items()}
    given = {"model_repository": "/models/t2d", "model_version": "1", "model_instance_kind": "CPU"}
    return {**given, "model_config": json.dumps({"parameters": content}), **changes}


def test_a_batch_has_an_answer_or_an_error_for_each_request(exported_bundle: Path, segmenter: Segmenter) -> None:
    model = SegmentationModel.open(backend(), arguments(exported_bundle))
    good = Request({"image": IMAGE, "words": WORDS}, "class_names", "label_map", refine=1, triton_enable=True)
    bad = Request({"image": IMAGE}, "label_map")
    answers = model.execute([bad, good, bad])
    assert [answer.error is None for answer in answers] == [False, True, False]
    assert answers[0].error.args[1] == "INVALID_ARG"
    expected = segmenter.segment(IMAGE, ["sky", "Gräser"], refine=True)
    assert np.array_equal(answers[1].outputs["label_map"], expected.label_map)
    assert json.loads(answers[1].outputs["class_names"].tobytes()) == ["sky", "Gräser"]


def test_errors_of_the_deployment_are_told_to_the_log_alone(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise BackendError("the engine at /secret/path failed")

    monkeypatch.setattr(segmenter.encoders, "encode_image", fail)
    (answer,) = SegmentationModel(segmenter, backend()).execute([Request({"image": IMAGE, "words": WORDS})])
    assert answer.error.args == ("the picture could not be segmented; the server's log says why", "INTERNAL")
    assert "the engine at /secret/path failed" in caplog.text


def test_a_fault_ends_its_own_request_alone(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = segmenter.encoders.encode_image

    def fail_for_large(image: Any, *others: Any, **how: Any) -> Any:
        if image.shape[0] > IMAGE.shape[0]:
            raise UnicodeError("a fault that nobody foresaw")
        return real(image, *others, **how)

    monkeypatch.setattr(segmenter.encoders, "encode_image", fail_for_large)
    good = Request({"image": IMAGE, "words": WORDS}, "class_names")
    bad = Request({"image": np.zeros((40, 30, 3), np.uint8), "words": WORDS}, "class_names")
    answers = SegmentationModel(segmenter, backend()).execute([good, bad, good])
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert answers[1].error.args == ("the picture could not be segmented; the server's log says why", "INTERNAL")
    assert "UnicodeError: a fault that nobody foresaw" in caplog.text


def test_a_missing_bundle_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match="is not a bundle"):
        SegmentationModel.open(backend(), arguments(tmp_path))


@pytest.mark.parametrize(
    ("kind", "visible", "expected"),
    [("CPU", None, None), ("CPU", "3", "3"), ("GPU", None, "1"), ("GPU", "", "1"), ("GPU", "4,GPU-b", "GPU-b")],
)
def test_an_instance_on_a_gpu_sees_this_one_alone(kind: str, visible: str | None, expected: str | None) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    take_gpu({"model_instance_kind": kind, "model_instance_device_id": "1"}, environment)
    assert environment.get("CUDA_VISIBLE_DEVICES") == expected


def test_a_backend_that_knows_numpy_2_is_used_directly() -> None:
    tensors = Tensors(backend())
    assert not tensors.by_dlpack
    assert tensors.texts(Tensor("words", WORDS)) == ["sky", "Gräser"]
    assert tensors.make("label_map", IMAGE).as_numpy() is IMAGE


def test_no_module_needs_torch_and_the_model_needs_no_extra() -> None:
    code = """
import importlib, pkgutil, sys, types
sys.modules.update(dict.fromkeys(["torch", "onnx", "timm", "open_clip", "t2d_export", "training", "benchmarks"]))
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
import t2d_runtime.serving.triton.model_file
print("tritonclient" in sys.modules, "google.protobuf" in sys.modules)
import t2d_runtime.serving.triton as triton
for module in pkgutil.walk_packages(triton.__path__, "t2d_runtime.serving.triton."):
    importlib.import_module(module.name)
print(len([name for name in sys.modules if name.startswith("t2d_runtime.serving.triton.")]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "False", "6"]

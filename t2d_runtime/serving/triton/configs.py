"""The config.pbtxt of each model, made with Triton's own protobuf. Needs the extra `triton`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from t2d_runtime.bundle.engines import BuiltGraph
from t2d_runtime.bundle.files import IMAGE_ENCODER, SEGMENTER, TEXT_ENCODER
from t2d_runtime.bundle.manifest import ModelFacts
from t2d_runtime.encoders import WINDOW_BATCH
from t2d_runtime.serving.triton import model, question
from t2d_runtime.storage.own_files import TEXT_MARK

MOST_CLASSES_AT_ONCE = 64
"""Classes that the text encoder takes at once: bounds its memory."""

QUEUE_DELAY_US = 2000
"""Microseconds that a request waits for others to be batched with, a small part of an encoder's time."""

UINT8, UINT16, INT32, INT64 = triton.TYPE_UINT8, triton.TYPE_UINT16, triton.TYPE_INT32, triton.TYPE_INT64
FP32, STRING = triton.TYPE_FP32, triton.TYPE_STRING
CPU, GPU = triton.ModelInstanceGroup.KIND_CPU, triton.ModelInstanceGroup.KIND_GPU

BATCHED_BY = ("onnxruntime", "tensorrt")
"""Backends that gain by Triton's batches. OpenVINO's fixes the batch of its models: one request would cost a whole
batch. Its clients send batches themselves."""


@dataclass(frozen=True)
class Placement:
    """Place where a model runs: `count` instances in all, or for each GPU."""

    gpu: bool
    count: int
    num_threads: int | None = None

    def group(self) -> Any:
        """The instance group."""
        return triton.ModelInstanceGroup(kind=GPU if self.gpu else CPU, count=self.count)


def segmentation_config(parameters: Mapping[str, str], placement: Placement) -> Any:
    """The model `t2d`: a picture and words to labels, on the Python backend."""
    return triton.ModelConfig(
        name="t2d",
        backend="python",
        input=[
            _input(question.IMAGE, UINT8, [-1, -1, 3], optional=True),
            _input(question.ENCODED_IMAGE, UINT8, [-1], optional=True),
            _input(question.WORDS, STRING, [-1], optional=True),
            _input(question.WORDS_JSON, UINT8, [-1], optional=True),
        ],
        output=[
            _output(model.LABEL_MAP, UINT16, [-1, -1]),
            _output(model.CLASS_NAMES, UINT8, [-1]),
            _output(model.RLE, UINT8, [-1]),
        ],
        instance_group=[placement.group()],
        parameters=_parameters(parameters),
    )


@dataclass(frozen=True)
class Graph:
    """A graph of the bundle on a backend of Triton, in a file of the model's version folder."""

    name: str
    """One of ENCODERS, or SEGMENTER."""
    backend: str
    """onnxruntime, openvino or tensorrt."""
    file: str
    built: BuiltGraph | None = None
    """The engine of the graph, for tensorrt."""
    accelerator: str | None = None
    """Execution accelerator of ONNX Runtime on a GPU: None is CUDA, "tensorrt" its TensorRT."""


def graph_config(graph: Graph, facts: ModelFacts, placement: Placement) -> Any:
    """The configuration of a graph, with dynamic batching where its backend gains by it."""
    inputs, outputs, most = _shapes(graph, facts)
    batched = most > 0 and graph.backend in BATCHED_BY
    config = triton.ModelConfig(
        name=graph.name.removesuffix(".onnx"),
        backend=graph.backend,
        default_model_filename=graph.file,
        max_batch_size=most if batched else 0,
        input=[_input(name, kind, _dims(dims, batched, most)) for name, kind, dims in inputs],
        output=[_output(name, kind, _dims(dims, batched, most)) for name, kind, dims in outputs],
        instance_group=[placement.group()],
        parameters=_parameters(_engine_parameters(graph, placement)),
    )
    if graph.backend == "tensorrt":
        config.ClearField("backend")
        config.platform = "tensorrt_plan"
    if graph.accelerator is not None:
        config.optimization.execution_accelerators.gpu_execution_accelerator.add(name=graph.accelerator)
    if batched:
        config.dynamic_batching.max_queue_delay_microseconds = QUEUE_DELAY_US
    return config


def config_text(config: Any) -> str:
    """The content of a config.pbtxt. Its first line names this program."""
    return f"# {TEXT_MARK}\n{text_format.MessageToString(config)}"


Shapes = Sequence[tuple[str, int, Sequence[int]]]


def _shapes(graph: Graph, facts: ModelFacts) -> tuple[Shapes, Shapes, int]:
    """Inputs and outputs without their batch, and the largest batch; 0 for a graph that takes one picture."""
    patches, width = facts.grid_size[0] * facts.grid_size[1], facts.embed_dim
    if graph.name == IMAGE_ENCODER:
        outputs = [
            ("patch_tokens", FP32, (patches, width)),
            ("cls_attention", FP32, (facts.num_heads, patches)),
            ("cls_token", FP32, (width,)),
        ]
        return [("pixel_values", FP32, (3, *facts.input_size))], outputs, _most(graph, "pixel_values", WINDOW_BATCH)
    if graph.name == TEXT_ENCODER:
        most = _most(graph, "input_ids", MOST_CLASSES_AT_ONCE)
        return [("input_ids", INT64, (-1, -1))], [("text_embeds", FP32, (width,))], most
    if graph.name != SEGMENTER:
        raise ValueError(f"no graph {graph.name}")
    # Triton has no tensors without dimensions; ONNX Runtime's backend makes scalars of [1].
    # An engine of an older bundle's graph has one threshold for all rows.
    of_rows = graph.built is None or "thresholds" in graph.built.profiles
    inputs = [
        ("image", UINT8, (1, -1, -1, 3)),
        ("text_embeds", FP32, (-1, width)),
        ("thresholds", FP32, (-1,)) if of_rows else ("threshold", FP32, (1,)),
        ("cleaning_weight", FP32, (1,)),
        ("pamr_iterations", INT64, (1,)),
    ]
    return inputs, [("label_map", INT32, (-1, -1)), ("scores", FP32, (-1, -1, -1))], 0


def _most(graph: Graph, name: str, most: int) -> int:
    """The largest batch of an input: that of the built engine, where there is one."""
    return most if graph.built is None else graph.built.profiles[name].maximum[0]


def _dims(dims: Sequence[int], batched: bool, most: int) -> list[int]:
    """The dims of a configuration: Triton adds the batch by itself where it makes batches."""
    return list(dims) if batched or most == 0 else [-1, *dims]


def _engine_parameters(graph: Graph, placement: Placement) -> dict[str, str]:
    if graph.backend == "openvino":
        threads = {} if placement.num_threads is None else {"INFERENCE_NUM_THREADS": str(placement.num_threads)}
        return {"PERFORMANCE_HINT": "LATENCY", **threads}
    if graph.backend == "onnxruntime" and placement.num_threads is not None:
        return {"intra_op_thread_count": str(placement.num_threads)}
    return {}


def _parameters(values: Mapping[str, str]) -> dict[str, Any]:
    return {name: triton.ModelParameter(string_value=value) for name, value in values.items()}


def _input(name: str, data_type: int, dims: Sequence[int], *, optional: bool = False) -> Any:
    return triton.ModelInput(name=name, data_type=data_type, dims=dims, optional=optional)


def _output(name: str, data_type: int, dims: Sequence[int]) -> Any:
    return triton.ModelOutput(name=name, data_type=data_type, dims=dims)

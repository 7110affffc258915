"""A client of the model `t2d` over one of Triton's protocols."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray


class Client:
    """One protocol's client of the model `t2d`, with NumPy arrays in and out, for several threads.

    tritonclient's own HTTP client works in the thread alone that made it.
    """

    def __init__(self, protocol: str, address: str) -> None:
        self.module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[protocol]
        self._address = address
        self._own = threading.local()

    @property
    def client(self) -> Any:
        if not hasattr(self._own, "client"):
            self._own.client = self.module.InferenceServerClient(self._address)
        return self._own.client

    def infer(
        self, inputs: dict[str, NDArray[Any]], outputs: tuple[str, ...] = ("label_map",), **parameters: Any
    ) -> dict[str, NDArray[Any]]:
        tensors = []
        for name, array in inputs.items():
            kind = "BYTES" if array.dtype == object else np.dtype(array.dtype).name.upper().replace("FLOAT", "FP")
            tensors.append(self.module.InferInput(name, list(array.shape), kind))
            tensors[-1].set_data_from_numpy(array)
        wanted = [self.module.InferRequestedOutput(name) for name in outputs]
        result = self.client.infer("t2d", tensors, outputs=wanted or None, parameters=parameters or None)
        return {name: result.as_numpy(name) for name in outputs}

"""Tensors of Triton's Python backend as NumPy arrays, also where that backend does not know NumPy 2.

Its stub up to Triton 24.11 (server 2.52) was compiled before NumPy 2 changed the layout of data types. With NumPy 2 it
then copies wrong bytes into arrays, counts arrays as empty, and dies of string tensors. DLPack does not use that
layout, so numbers pass through it, both ways. Strings have no other way in, so they are refused; the stub stays alive.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2d_runtime.errors import OptionError

NUMPY_2 = int(np.__version__.partition(".")[0]) >= 2


class Tensors:
    """Reads and makes the tensors of one Python backend, `pb_utils`: its module triton_python_backend_utils."""

    def __init__(self, pb_utils: Any) -> None:
        self._pb_utils = pb_utils
        self.by_dlpack = NUMPY_2 and _misreads_arrays(pb_utils)
        if self.by_dlpack:
            pb_utils.deserialize_bytes_tensor = _unreadable

    def numbers(self, tensor: Any) -> NDArray[Any]:
        """The values of a tensor of numbers. The array may share the tensor's memory."""
        array: NDArray[Any] = np.from_dlpack(tensor) if self.by_dlpack else tensor.as_numpy()
        return array

    def texts(self, tensor: Any) -> list[str]:
        """The texts of a TYPE_STRING tensor, in order.

        Raises OptionError where a text is not UTF-8, and where this backend cannot read strings.
        """
        name = tensor.name()
        if self.by_dlpack:
            raise OptionError(
                f"{name} cannot be read: this Triton's Python backend does not read strings with NumPy 2; send "
                f"{name}_json, or run Triton 24.12 or newer"
            )
        try:
            return [item.decode() if isinstance(item, bytes) else str(item) for item in tensor.as_numpy().ravel()]
        except UnicodeDecodeError as error:
            raise OptionError(f"{name} holds bytes that are not UTF-8: {error}") from error

    def make(self, name: str, array: NDArray[Any]) -> Any:
        """A tensor with the values of an array of numbers."""
        if self.by_dlpack:
            return self._pb_utils.Tensor.from_dlpack(name, _Exported(np.array(array, order="C")))
        return self._pb_utils.Tensor(name, np.ascontiguousarray(array))


class _Exported:
    """An array that gives its memory away through DLPack, in a capsule without a destructor of its own.

    NumPy's destructor complains of the name that the backend gives to a used capsule. Nothing is lost without it: the
    backend frees the memory through the tensor that it took from the capsule.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        capsule = self._array.__dlpack__(**options)
        ctypes.pythonapi.PyCapsule_SetDestructor(ctypes.py_object(capsule), None)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, index = self._array.__dlpack_device__()
        return int(kind), index


class _Unread(np.ndarray[Any, Any]):
    """An array in the place of strings that cannot be read. It takes any shape."""

    def reshape(self, *shape: Any, **_options: Any) -> Any:
        return np.full(shape[0] if len(shape) == 1 else shape, b"", object)


def _unreadable(_encoded: Any) -> Any:
    """Stands for pb_utils.deserialize_bytes_tensor, which fails on wrong bytes; a failure there ends the stub."""
    return np.empty(0, object).view(_Unread)


def _misreads_arrays(pb_utils: Any) -> bool:
    """True where arrays that the backend makes hold other values than their tensors."""
    values = np.arange(1, 5, dtype=np.uint8)
    tensor = pb_utils.Tensor.from_dlpack("values", _Exported(values))
    return not np.array_equal(tensor.as_numpy(), values)

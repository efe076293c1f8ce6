"""Reads a pickle that holds NumPy arrays, and nothing that could run code."""

import gzip
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AssetError


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Stand in for the codec call by which Python 2 pickles carry the bytes of an array."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"encoding '{encoding}' is not admitted")
    return text.encode("latin1")


# Arrays were pickled under these names by NumPy 1, and are by NumPy 2.
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1_bytes,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ADMITTED[_module, "_reconstruct"] = np._core.multiarray._reconstruct  # type: ignore[attr-defined]


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ADMITTED[module, name]


def load_array_pickle(path: str | Path) -> Any:
    """Return what a gzipped pickle holds: NumPy arrays of numbers, and tuples, lists and dicts of them.

    Whatever else the pickle asks for is refused before it is called. Check the file's hash all the same.

    Raises:
        AssetError: If the file cannot be read, or holds anything but arrays.
    """
    try:
        with gzip.open(path) as stream:
            content = io.BytesIO(stream.read())
        value = _ArrayUnpickler(content, encoding="latin1").load()
    except (OSError, EOFError, ValueError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise AssetError(f"'{path}' is refused, it may hold NumPy arrays only: {error}") from None
    _check_arrays(value, path)
    return value


def _check_arrays(value: Any, path: str | Path) -> None:
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return
    if not isinstance(value, tuple | list | dict):
        raise AssetError(f"'{path}' is refused, it may hold NumPy arrays only: it holds a {type(value).__name__}")
    for item in value.values() if isinstance(value, dict) else value:
        _check_arrays(item, path)

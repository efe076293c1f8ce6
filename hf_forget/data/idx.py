"""Reads IDX files, the format in which MNIST and its relatives are distributed."""

import gzip
import math
from pathlib import Path

import numpy as np

from ..errors import InputError

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """Return the array of an IDX file, gzipped or not, in native byte order.

    Args:
        path: The file. It begins with two zero bytes, a byte for the type of the numbers and a byte for the number of
            axes; then follow the sizes of the axes (big-endian, 4 bytes each) and the numbers.

    Raises:
        InputError: If the file is missing, not IDX, or shorter or longer than its header says.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise InputError(f"'{path}' cannot be read: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:
        raise InputError(f"'{path}' is not an IDX file")
    dtype, axes = np.dtype(_DTYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise InputError(f"'{path}' is damaged: its header announces {expected} bytes, it has {len(content)}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))

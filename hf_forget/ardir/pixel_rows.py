"""Rows of images for robust training: collated as pixels in [0, 1], with the number of each row."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import InputError

_LABELS = ("labels", "label")


class NumberedRows(Dataset):
    """Rows with their number beside them, by which what the teacher said is found again."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.rows[index], "row_index": index}


class PixelCollator:
    """Makes batches of pixels in [0, 1]; the model normalises them itself.

    Rows hold `pixel_values`, pixels in [0, 1], or `image`, which the image processor resizes but does not normalise;
    and `labels` or `label`.

    Args:
        processor (*optional*): The image processor; needed for rows with images.
    """

    def __init__(self, processor: Any = None) -> None:
        self.processor = processor

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        label = next((name for name in _LABELS if name in rows[0]), None)
        if label is None:
            raise InputError(f"rows have the columns {', '.join(rows[0])}; one must be called labels or label")
        batch = {"pixel_values": self._pixels(rows), "labels": torch.tensor([int(row[label]) for row in rows])}
        if "row_index" in rows[0]:
            batch["row_index"] = torch.tensor([row["row_index"] for row in rows])
        return batch

    def _pixels(self, rows: Sequence[dict[str, Any]]) -> Tensor:
        if "pixel_values" in rows[0]:
            return torch.stack([torch.as_tensor(row["pixel_values"]) for row in rows]).float()
        if "image" not in rows[0]:
            raise InputError(f"rows have the columns {', '.join(rows[0])}; one must be called pixel_values or image")
        if self.processor is None:
            raise InputError("rows hold images, and reading them needs the image processor; give processing_class")
        images = [row["image"] for row in rows]
        return self.processor(images=images, do_normalize=False, return_tensors="pt")["pixel_values"].float()

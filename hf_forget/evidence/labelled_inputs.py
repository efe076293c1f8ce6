"""Inputs of a classifier with their classes, and the parts of them that evidence and baselines need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LabelledInputs:
    """Inputs as the model takes them, one class each.

    Args:
        inputs (`Tensor` of shape `(n, …)`): Processed images, or embedded tokens.
        labels (`LongTensor` of shape `(n,)`): Their classes.
        attention_mask (`Tensor` of shape `(n, length)`, *optional*): Which positions of embedded tokens are read.

    Raises:
        InputError: If the numbers of rows differ.
    """

    inputs: "Tensor"
    labels: "Tensor"
    attention_mask: "Tensor | None" = None

    def __post_init__(self) -> None:
        rows = {len(item) for item in (self.inputs, self.labels, self.attention_mask) if item is not None}
        if len(rows) != 1:
            raise InputError(f"there must be one label per input, got {len(self.inputs)} and {len(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: "Tensor") -> "LabelledInputs":
        """Return the rows in `chosen`, a mask or indices."""
        mask = None if self.attention_mask is None else self.attention_mask[chosen]
        return LabelledInputs(self.inputs[chosen], self.labels[chosen], mask)

    def of(self, classes: Sequence[int]) -> "LabelledInputs":
        """Return the rows of these classes."""
        return self.rows(belongs(self.labels, classes))

    def without(self, classes: Sequence[int]) -> "LabelledInputs":
        """Return the rows of all other classes."""
        return self.rows(~belongs(self.labels, classes))

    def first(self, count: int | None) -> "LabelledInputs":
        """Return at most the first `count` rows; all for `None`."""
        return self if count is None else self.rows(torch.arange(min(count, len(self)), device=self.labels.device))

    def sample(self, count: int, seed: int = 0) -> "LabelledInputs":
        """Return at most `count` rows, drawn without replacement."""
        if count >= len(self):
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.rows(order[:count].to(self.labels.device))


def belongs(labels: "Tensor", classes: Sequence[int]) -> "Tensor":
    """Return a mask of the labels that are one of `classes`, shape `(n,)`."""
    return torch.isin(labels, torch.tensor(list(classes), dtype=labels.dtype, device=labels.device))

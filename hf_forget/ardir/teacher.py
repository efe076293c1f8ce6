"""A frozen teacher, and what it said about the training images."""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..evidence.adversarial import PixelModel
from .objectives import Outputs
from .representation import RepresentationReader

# Sums of the same pixels differ by no more than this, relative to them.
_SAME = 1e-4


class Teacher:
    """Answers about images without learning: frozen, in evaluation mode, each clean image once where that is allowed.

    Args:
        model (`PreTrainedModel`): The teacher; it is frozen, and stays in evaluation mode.
        processor: Its image processor.
        reader ([`RepresentationReader`], *optional*): What of its inside is wanted.
        cached: Whether what it says about a row is kept.
    """

    def __init__(self, model: nn.Module, processor: Any, reader: RepresentationReader | None, *, cached: bool) -> None:
        self.model = PixelModel(model, processor).eval()
        self.model.requires_grad_(False)
        self._reader = reader
        self._cached = cached
        self._kept: dict[int, tuple[float, Tensor, Tensor | None]] = {}

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Outputs:
        """Return what the teacher makes of pixels."""
        self.model.to(pixels.device)
        if self._reader is None:
            return Outputs(self.model(pixels))
        with self._reader.reading(self.model.model) as seen:
            logits = self.model(pixels)
        return Outputs(logits, seen[-1])

    def about(self, pixels: Tensor, rows: Tensor | None) -> Outputs:
        """Return the same, out of memory where these rows were seen before.

        Args:
            pixels (`Tensor` of shape `(n, channels, height, width)`): Clean images.
            rows (`Tensor` of shape `(n,)`, *optional*): Their numbers in the training set.

        Raises:
            InputError: If a row shows another image than before.
        """
        if not self._cached or rows is None:
            return self(pixels)
        sums = pixels.sum((1, 2, 3)).tolist()
        numbers = rows.tolist()
        new = [place for place, row in enumerate(numbers) if row not in self._kept]
        if new:
            found = self(pixels[new])
            for at, place in enumerate(new):
                inside = None if found.representation is None else found.representation[at]
                self._kept[numbers[place]] = (sums[place], found.logits[at], inside)
        kept = [self._kept[row] for row in numbers]
        if any(abs(own - now) > _SAME * max(1.0, abs(own)) for (own, _, _), now in zip(kept, sums, strict=True)):
            raise InputError(
                "a training image looks different from when the teacher was asked about it, as augmentation makes it; "
                "set cache_teacher: false"
            )
        inside = None if kept[0][2] is None else torch.stack([item[2] for item in kept if item[2] is not None])
        return Outputs(torch.stack([item[1] for item in kept]), inside)

"""Image processors: one made for sets of images, its black and white, and the way back from its tensors to images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import ViTImageProcessorPil

from .images import image_tensors

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset
    from torch import Tensor

# Pixels whose mean and spread stand for those of a whole set.
_IMAGES_FOR_STATISTICS = 5_000


def processor_for(splits: "Sequence[Dataset]") -> ViTImageProcessorPil:
    """Return a processor that keeps the size of images and gives them mean 0 and spread 1 by channel.

    Args:
        splits: Sets of images, each of which counts as much as any other.
    """
    plain = ViTImageProcessorPil(do_resize=False, do_normalize=False)
    found = [image_tensors(split.select(range(min(_IMAGES_FOR_STATISTICS, len(split)))), plain)[0] for split in splits]
    means = torch.stack([pixels.mean((0, 2, 3)) for pixels in found])
    squares = torch.stack([pixels.square().mean((0, 2, 3)) for pixels in found])
    mean = means.mean(0)
    count = sum(pixels[:, 0].numel() for pixels in found)
    std = ((squares.mean(0) - mean.square()).clamp(min=0) * count / max(1, count - 1)).sqrt()
    return ViTImageProcessorPil(
        do_resize=False,
        image_mean=[round(float(value), 4) for value in mean],
        image_std=[round(max(float(value), 1e-3), 4) for value in std],
    )


def processor_bounds(processor: object) -> "tuple[Tensor, Tensor] | None":
    """Return black and white as an image processor gives them, each of shape `(channels, 1, 1)`; `None` if unknown."""
    mean, std = getattr(processor, "image_mean", None), getattr(processor, "image_std", None)
    if not getattr(processor, "do_rescale", False):
        return None
    if not getattr(processor, "do_normalize", False) or mean is None or std is None:
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    mean_, std_ = torch.tensor(mean).reshape(-1, 1, 1), torch.tensor(std).reshape(-1, 1, 1)
    return -mean_ / std_, (1 - mean_) / std_


def image_arrays(pixel_values: "Tensor", processor: Any) -> "np.ndarray":
    """Return the images whose tensors these are, shape `(n, height, width)` for one channel, else with channels last.

    Args:
        pixel_values (`Tensor` of shape `(n, channels, height, width)`): As the processor gives them.
        processor: The processor; its black and white must be known.

    Raises:
        ValueError: If they are not.
    """
    bounds = processor_bounds(processor)
    if bounds is None:
        raise ValueError(f"{type(processor).__name__} does not rescale images, so the way back is not known")
    black, white = bounds
    pixels = ((pixel_values.cpu() - black) / (white - black) * 255).round().clamp(0, 255).to(torch.uint8).movedim(1, -1)
    return (pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).numpy()

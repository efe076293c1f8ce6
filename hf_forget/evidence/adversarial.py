"""Adversarial images: a classifier of pixels with its normalisation inside, and projected gradient descent on it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .classifier_outputs import class_logits

# What rounding may put beyond black and white.
_SLACK = 1e-4
InnerLoss = Callable[[Tensor], Tensor]


class PixelModel(nn.Module):
    """A classifier that takes pixels in [0, 1]: the normalisation of its image processor stands inside.

    An attack that moves pixels by at most ε moves them by ε before normalisation, whatever the processor's numbers. The
    weights of convolutions are laid out with channels last, which makes attacks faster on a CPU and changes no value of
    theirs.

    Args:
        model (`PreTrainedModel`): Takes normalised images.
        processor (*optional*): Its image processor, of which `image_mean` and `image_std` are read; without one the
            model takes pixels as they are.

    Raises:
        InputError: If the processor does not bring pixels to [0, 1] before it normalises them.
    """

    def __init__(self, model: nn.Module, processor: Any = None) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        mean, std = pixel_scale(processor)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits of pixels in [0, 1], shape `(n, channels, height, width)` to `(n, classes)`."""
        return class_logits(self.model, self.normalised(pixels))

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return pixels as the model takes them."""
        return (pixels - self.mean.to(pixels)) / self.std.to(pixels)


def pixel_scale(processor: Any) -> tuple[Tensor, Tensor]:
    """Return mean and spread by which a processor normalises pixels in [0, 1], shape `(channels, 1, 1)` each.

    Raises:
        InputError: If it rescales images to another range.
    """
    if processor is None or not getattr(processor, "do_normalize", False):
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    factor = getattr(processor, "rescale_factor", 1 / 255)
    if not getattr(processor, "do_rescale", True) or abs(factor * 255 - 1) > 1e-3:
        raise InputError(
            f"{type(processor).__name__} does not divide pixels by 255 before it normalises them, so ε cannot be "
            "given in [0, 1]; set do_rescale and rescale_factor=1/255"
        )
    return tuple(torch.tensor(value).reshape(-1, 1, 1) for value in (processor.image_mean, processor.image_std))  # type: ignore[return-value]


def check_pixels(pixels: Tensor) -> None:
    """Refuse images that are not given as pixels in [0, 1].

    Raises:
        InputError: If a value lies outside, or is no number.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        raise InputError(
            f"pixels lie between {low:.3g} and {high:.3g}, and ε counts in [0, 1]; give images before normalisation "
            "(the processor normalises them inside the model), divided by 255"
        )


def check_epsilon(epsilon: float) -> None:
    """Refuse a radius that is no radius.

    Raises:
        InputError: If it is not above 0.
    """
    if not epsilon > 0:
        raise InputError(f"epsilon is {epsilon}; give the largest change of a pixel, above 0, such as 8/255 = 0.0314")


def pgd(
    pixels: Tensor,
    loss_of: InnerLoss,
    *,
    epsilon: float,
    steps: int,
    step_size: float | None = None,
    random_start: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Search, pixel by pixel within ε, for images on which a loss is high: projected gradient ascent on signs.

    Only the gradient of the pixels is computed, none of the weights. The caller decides in which mode the model is.

    Args:
        pixels (`Tensor` of shape `(n, channels, height, width)`): In [0, 1].
        loss_of: The loss of images, summed over them.
        epsilon: Largest change of a pixel, in [0, 1].
        steps: Number of steps.
        step_size: Size of a step, in [0, 1]; `2.5·ε/steps` if not given.
        random_start: Begin anywhere within ε, as Madry et al. do.
        generator: Draws the start.

    Returns:
        Images in [0, 1] of the same shape, without gradient.

    Source: Madry et al. 2018, *Towards Deep Learning Models Resistant to Adversarial Attacks*.
    """
    size = 2.5 * epsilon / steps if step_size is None else step_size
    low, high = (pixels - epsilon).clamp(min=0), (pixels + epsilon).clamp(max=1)
    found = pixels.detach()
    if random_start:
        noise = torch.rand(pixels.shape, generator=generator, device=generator.device if generator else pixels.device)
        found = (found + epsilon * (2 * noise.to(pixels) - 1)).clamp(min=0, max=1)
    for _ in range(steps):
        found.requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(loss_of(found), found)
        found = torch.minimum(torch.maximum(found.detach() + size * slope.sign(), low), high)
    return found


def right_under_pgd(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int = 20,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return which images a model still gets right, whatever the attack tries, shape `(n,)`.

    Images on which one restart succeeded are not attacked again.

    Args:
        model ([`PixelModel`]): In evaluation mode.
        pixels (`Tensor` of shape `(n, channels, height, width)`): In [0, 1].
        labels (`Tensor` of shape `(n,)`): Their labels.
        epsilon: Largest change of a pixel.
        steps: Steps of each attack.
        restarts: How often it begins anew.
        generator: Draws the starts.
    """
    with torch.no_grad():
        right = model(pixels).argmax(1) == labels
    for _ in range(restarts):
        left = right.nonzero()[:, 0]
        if not len(left):
            break
        wanted = labels[left]

        def loss_of(images: Tensor, wanted: Tensor = wanted) -> Tensor:
            return nn.functional.cross_entropy(model(images).float(), wanted, reduction="sum")

        attacked = pgd(pixels[left], loss_of, epsilon=epsilon, steps=steps, generator=generator)
        with torch.no_grad():
            right[left] = model(attacked).argmax(1) == wanted
    return right

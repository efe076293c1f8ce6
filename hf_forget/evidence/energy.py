"""The energy distance of two samples (Székely & Rizzo 2013)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def energy_distance(first: "Tensor", second: "Tensor") -> "Tensor":
    """Energy distance of two samples, a scalar: 2·E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, in the units of the samples.

    Pairs of a point with itself are left out, so that it is unbiased: for samples of one distribution it is zero on
    average, and may be below.

    Args:
        first, second (`Tensor` of shape `(n, dimensions)`): The samples, of two points or more each.

    Source: Székely & Rizzo 2013, equation 2.
    """
    return 2 * distances(first, second).mean() - mean_within(first) - mean_within(second)


def distances(first: "Tensor", second: "Tensor") -> "Tensor":
    """Euclidean distances of all pairs, shape `(n, m)`, with a finite gradient where two points are the same."""
    import torch

    squares = (first[:, None] - second[None]).square().sum(-1)
    same = squares == 0
    return torch.where(same, 0.0, torch.where(same, 1.0, squares).sqrt())


def mean_within(sample: "Tensor") -> "Tensor":
    """Mean distance of different points of one sample, a scalar."""
    count = len(sample)
    return distances(sample, sample).sum() / (count * (count - 1))

"""The objective of SAE alignment as functions of latents (arXiv 2509.15631; distance and margin are reconstructed)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..evidence.energy import distances, energy_distance

Distance = Callable[[Tensor, Tensor], Tensor]


def mmd(first: Tensor, second: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two samples with a Gaussian kernel, unbiased, a scalar.

    The kernel's width is the median distance of the second sample, taken without gradient.

    Args:
        first, second (`Tensor` of shape `(n, dimensions)`): The samples, of two points or more each.

    Source: Gretton et al. 2012, equation 3.
    """
    with torch.no_grad():
        inner = distances(second, second)
        width = inner[~torch.eye(len(second), dtype=torch.bool, device=inner.device)].median().clamp(min=1e-6)

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return torch.exp(-(distances(one, other) ** 2) / (2 * width**2))

    def within(sample: Tensor) -> Tensor:
        values, count = kernel(sample, sample), len(sample)
        return (values.sum() - values.diagonal().sum()) / (count * (count - 1))

    return within(first) + within(second) - 2 * kernel(first, second).mean()


def mean_distance(first: Tensor, second: Tensor) -> Tensor:
    """Distance of the means of two samples, a scalar; blind to how they are spread."""
    return (first.mean(0) - second.mean(0)).norm()


DISTANCES: dict[str, Distance] = {"energy": energy_distance, "mmd": mmd, "mean": mean_distance}


def alignment_loss(target: Tensor, unknown: Tensor, known: Tensor, *, distance: Distance, margin: float) -> Tensor:
    """Pull the target's latents to those of unknown entities, and push them from those of known ones, a scalar.

    `D(Z_e, Z_U) + max(0, margin + D(Z_e, Z_U) − D(Z_e, Z_K))`.

    Args:
        target (`Tensor` of shape `(templates, latents)`): Z_e, the target's standardised latents, with gradient.
        unknown, known (`Tensor` of shape `(n, latents)`): Z_U and Z_K, samples from the original model.
        distance: D, one of `DISTANCES`.
        margin: By how much the target shall be nearer to the unknown than to the known, in the units of D.
    """
    to_unknown = distance(target, unknown)
    return to_unknown + nn.functional.relu(margin + to_unknown - distance(target, known))

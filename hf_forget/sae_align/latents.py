"""Which latents of a sparse autoencoder tell known entities from unknown ones, and on which scale they are compared."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

# A latent that fires on more of general text than this says nothing about entities.
MAX_GENERAL_RATE = 0.02


def separation_scores(known: Mapping[str, Tensor], unknown: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Score each latent by how much more often it is active on known than on unknown entities, and the other way round.

    The score is the least over the types of entities, so that a latent of one type only does not rank high.

    Args:
        known, unknown: Latents behind the activation function by type, shape `(entities, latents)` each.

    Returns:
        `P(active | known) − P(active | unknown)` and `P(active | unknown) − P(active | known)`, each the least over the
        types, shape `(latents,)`.

    Source: Ferrando et al. 2025, *Do I Know This Entity?*, section 3.
    """
    differences = torch.stack(
        [(known[kind] > 0).float().mean(0) - (unknown[kind] > 0).float().mean(0) for kind in known]
    )
    return differences.min(0).values, (-differences).min(0).values


@dataclass(frozen=True)
class LatentSpace:
    """Latents in which entities are compared.

    Args:
        indices (`Tensor` of shape `(chosen,)`): Indices of the chosen latents.
        mean, spread (`Tensor` of shape `(chosen,)`): Mean and standard deviation of their pre-activations over known
            and unknown entities together.
    """

    indices: Tensor
    mean: Tensor
    spread: Tensor

    def __call__(self, pre_activations: Tensor) -> Tensor:
        """Return the chosen latents, standardised: shape `(…, latents)` to `(…, chosen)`."""
        return (pre_activations[..., self.indices] - self.mean) / self.spread


def choose_latents(
    known: Mapping[str, Tensor],
    unknown: Mapping[str, Tensor],
    general_rate: Tensor,
    pre_activations: Tensor,
    *,
    count: int,
) -> LatentSpace:
    """Choose the latents that tell known entities from unknown ones best.

    Args:
        known, unknown: Latents behind the activation function by type, the same for both, shape `(entities, latents)`.
        general_rate (`Tensor` of shape `(latents,)`): On which share of the positions of general text each is active.
        pre_activations (`Tensor` of shape `(entities, latents)`): Those of all these entities, for the scale.
        count: How many are chosen: half of those that fire for the known, half of those that fire for the unknown, as
            far as there are such.

    Raises:
        InputError: If the types differ, or no latent fires more often for either.
    """
    if set(known) != set(unknown) or not known:
        raise InputError(
            f"known entities are of the types {sorted(known)}, unknown ones of {sorted(unknown)}; give the same"
        )
    for_known, for_unknown = separation_scores(known, unknown)
    rare = general_rate <= MAX_GENERAL_RATE
    chosen: list[int] = []
    for scores in (for_known, for_unknown):
        ranked = torch.argsort(scores.masked_fill(~rare, -1), descending=True, stable=True)[: count // 2]
        chosen += [int(index) for index in ranked if rare[index] and scores[index] > 0]
    if not chosen:
        raise InputError(
            "no latent is active more often on known than on unknown entities, or the other way round; this SAE or "
            "this layer does not tell them apart"
        )
    indices = torch.tensor(chosen, device=pre_activations.device)
    values = pre_activations[:, indices]
    return LatentSpace(indices, values.mean(0), values.std(0).clamp(min=1e-6))

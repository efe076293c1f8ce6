"""Permuting the units of a model: exact, and checked."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..evidence.classifier_outputs import class_logits
from .symmetry import Symmetry

Permutation = dict[str, Tensor]
# By how much outputs may differ, relative to the largest of them: sums are taken in another order.
TOLERANCE = 1e-5


def identity(symmetry: Symmetry) -> Permutation:
    """Return the permutation that changes nothing."""
    return {group: torch.arange(size) for group, size in symmetry.sizes.items()}


def random_permutation(symmetry: Symmetry, seed: int) -> Permutation:
    """Return one of all permutations."""
    generator = torch.Generator().manual_seed(seed)
    return {group: torch.randperm(size, generator=generator) for group, size in symmetry.sizes.items()}


def permuted(
    symmetry: Symmetry, name: str, value: Tensor, permutation: Mapping[str, Tensor], *, skip: int = -1
) -> Tensor:
    """Permute a parameter or buffer.

    Args:
        symmetry: That of the model.
        name: Name of the tensor in the model's `state_dict`.
        value (`Tensor`): Its value.
        permutation: For each group which unit comes to each place.
        skip: A factor that is left as it is, counted over all axes.

    Returns:
        `Tensor` of the shape of the value's factors; as many places as before.
    """
    value = value.reshape(symmetry.shape(name))
    for place, (group, _) in enumerate(factor for axis in symmetry.axes[name] for factor in axis):
        if group is not None and place != skip:
            value = value.index_select(place, permutation[group].to(value.device))
    return value


def permuted_state(
    symmetry: Symmetry, state: Mapping[str, Tensor], permutation: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Permute all parameters and buffers of a model.

    Args:
        symmetry: That of the model.
        state: Its `state_dict`.
        permutation: For each group which unit comes to each place, shape `(units,)`.

    Returns:
        A new `state_dict`; the model that loads it computes the same.
    """
    return {
        name: permuted(symmetry, name, value, permutation).reshape(value.shape) if symmetry.axes[name] else value
        for name, value in state.items()
    }


@torch.no_grad()
def apply_permutation(
    model: nn.Module, symmetry: Symmetry, permutation: Mapping[str, Tensor], inputs: Tensor | None = None
) -> None:
    """Permute the units of a model in place.

    Args:
        model (`PreTrainedModel`): The model.
        symmetry: That of the model.
        permutation: For each group which unit comes to each place, shape `(units,)`.
        inputs (`Tensor`, *optional*): Inputs for which the outputs must stay the same, up to `TOLERANCE`.

    Raises:
        InputError: If the outputs for `inputs` change; the model is put back then.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outputs = None if inputs is None else class_logits(model, inputs)
    model.load_state_dict(permuted_state(symmetry, before, permutation))
    if inputs is None or outputs is None:
        return
    apart = float((class_logits(model, inputs) - outputs).abs().max())
    if not apart <= TOLERANCE * max(1.0, float(outputs.abs().max())):
        model.load_state_dict(before)
        raise InputError(
            f"the symmetries found for {type(model).__name__} do not hold: its outputs differ by {apart:.1e} when its "
            "units are permuted; put it into evaluation mode, or merge without permuting"
        )

"""Matching the units of one model to those of another: by their weights, or by what they answer to the same inputs."""

from collections.abc import Callable, Mapping, Sequence
from random import Random

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from .interpolation import unit_outputs
from .permutation import Permutation, identity, permuted
from .symmetry import Symmetry

MAX_ROUNDS = 100
# A group is matched anew only if that gains more than rounding could.
_LEAST_GAIN = 1e-6


def weight_matching(
    symmetry: Symmetry,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    *,
    start: Mapping[str, Tensor] | None = None,
    rounds: int = MAX_ROUNDS,
    seed: int = 0,
) -> Permutation:
    """Permute the units of the second model so that its weights come as near to those of the first as can be.

    Maximises the inner product of all parameters by coordinate descent: group after group in a random order, each by a
    linear assignment, until none changes.

    Args:
        symmetry: That of both models.
        first, second: Their `state_dict`; statistics do not count, and need not stand in the first.
        start: Where the descent begins; if not given, where units stand, and where those whose weights are alike in
            whatever order come together.
        rounds: How often each group is matched, at most.
        seed: Of the order of the groups.

    Returns:
        For each group which unit of the second model comes to each place.

    Source: Ainsworth et al. 2023, algorithm 1.
    """
    counted = set(trainable(first))
    places = {
        group: [(name, place) for name, place in found if name in counted] for group, found in symmetry.places().items()
    }

    def units_of(name: str, place: int, value: Tensor) -> Tensor:
        parted = value.reshape(symmetry.shape(name)).movedim(place, 0)
        return parted.reshape(len(parted), -1).float()

    def gain(group: str, permutation: Permutation) -> Tensor:
        total = torch.zeros(symmetry.sizes[group], symmetry.sizes[group])
        for name, place in places[group]:
            other = permuted(symmetry, name, second[name], permutation, skip=place)
            total += (units_of(name, place, first[name]) @ units_of(name, place, other).T).cpu()
        return total

    def alike(group: str) -> Tensor:
        """How like two units' weights are, in whatever order these stand."""
        total = torch.zeros(symmetry.sizes[group], symmetry.sizes[group])
        for name, place in places[group]:
            own, other = (units_of(name, place, state[name]).sort(1).values for state in (first, second))
            total -= torch.cdist(own, other).square().cpu()
        return total

    if start is not None:
        return _descent(symmetry, gain, start, rounds, seed)
    # Coordinate descent ends where no group alone can do better; of two such ends the better one is taken.
    starts = [identity(symmetry), {group: assigned(alike(group)) for group in symmetry.sizes}]
    ends = [_descent(symmetry, gain, own, rounds, seed) for own in starts]
    names = sorted(counted)
    return max(ends, key=lambda permutation: _inner_product(symmetry, first, second, permutation, names))


def _inner_product(
    symmetry: Symmetry,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    permutation: Permutation,
    names: Sequence[str],
) -> float:
    return sum(
        float((first[name].reshape(symmetry.shape(name)) * permuted(symmetry, name, second[name], permutation)).sum())
        for name in names
    )


@torch.no_grad()
def activation_matching(
    model: nn.Module,
    symmetry: Symmetry,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    inputs: Tensor,
) -> Permutation:
    """Permute the units of the second model so that each answers as its counterpart in the first does.

    Units are alike as far as the outputs of the layers that make them correlate over the inputs (and the places of an
    image). Heads of attention and what is inside them are no units of a layer; they are matched by their weights, to
    begin with.

    Args:
        model (`PreTrainedModel`): A model of the architecture; its weights are overwritten.
        symmetry: That of both models.
        first, second: Their `state_dict`.
        inputs (`Tensor`): Inputs of all data sets.

    Source: Li et al. 2016; Ainsworth et al. 2023, section 3.1.
    """
    makers = _makers(model, symmetry)
    names = [name for found in makers.values() for name in found]
    outputs = []
    for state in (first, second):
        model.load_state_dict(state)
        outputs.append(unit_outputs(model.eval(), names, inputs))
    permutation = weight_matching(symmetry, first, second)
    for group, found in makers.items():
        gains = [_correlation(outputs[0][name], outputs[1][name]) for name in found]
        if gains:
            permutation[group] = assigned(torch.stack(gains).sum(0))
    return permutation


def _makers(model: nn.Module, symmetry: Symmetry) -> dict[str, list[str]]:
    """For each group the linear and convolutional layers each output of which is one of its units."""
    found: dict[str, list[str]] = {group: [] for group in symmetry.sizes}
    for name, module in model.named_modules():
        axis = symmetry.axes.get(f"{name}.weight", ())[:1]
        if isinstance(module, nn.Linear | nn.Conv2d) and axis and len(axis[0]) == 1 and axis[0][0][0] is not None:
            found[axis[0][0][0]].append(name)
    return found


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation of all pairs of columns."""
    own, other = ((part - part.mean(0)) / part.std(0).clamp(min=1e-6) for part in (first, second))
    return own.T @ other / len(own)


def assigned(gain: Tensor) -> Tensor:
    """Return the assignment of columns to rows with the largest sum, shape `(rows,)`."""
    _, columns = linear_sum_assignment(gain.double().cpu().numpy(), maximize=True)
    return torch.from_numpy(columns)


def trainable(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors of a state that are weights, and no running statistics or counts."""
    return [
        name
        for name, value in state.items()
        if value.is_floating_point() and not name.endswith(("running_mean", "running_var"))
    ]


def _descent(
    symmetry: Symmetry,
    gain_of: Callable[[str, Permutation], Tensor],
    start: Mapping[str, Tensor],
    rounds: int,
    seed: int,
) -> Permutation:
    random, permutation = Random(seed), identity(symmetry) | dict(start)
    # Groups that another matching may have made better pairs for.
    waiting = set(symmetry.sizes)
    for _ in range(rounds):
        for group in random.sample(sorted(waiting), len(waiting)):
            waiting.discard(group)
            gain = gain_of(group, permutation)
            found, units = assigned(gain), torch.arange(len(gain))
            better = float(gain[units, found].sum() - gain[units, permutation[group]].sum())
            if better > _LEAST_GAIN * float(gain.abs().max()):
                permutation[group] = found
                waiting |= symmetry.beside[group]
        if not waiting:
            break
    return permutation

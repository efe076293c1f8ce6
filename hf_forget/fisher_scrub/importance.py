"""The mathematics of scrubbing: importance of each weight for each code, their ratio, and the capped update."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from ..errors import InputError
from ..evidence.classifier_outputs import class_logits, evaluation_mode
from .fisher import trainable_parameters

if TYPE_CHECKING:
    from torch import Tensor, nn

Importance = Literal["logit", "loss"]
Weights = dict[str, "Tensor"]

# A number that float32 can hold, and that no ratio of importance comes near.
_LARGEST_RATIO = 1e30


def code_importance(
    model: "nn.Module",
    codes: "Tensor",
    labels: "Tensor",
    *,
    kind: Importance = "logit",
    known: Sequence[int] | None = None,
    attention_mask: "Tensor | None" = None,
) -> list[Weights]:
    """Return the squared gradient of every trainable weight at each code; one backward pass per code.

    `loss` is the paper's: the square of the gradient of the cross-entropy `L(ξ_c, c)`. Its size and direction hang on
    how the little probability that is left to other classes happens to be spread: a code whose doubts all lie with one
    class marks that class' weights as much as its own. `logit` takes the limit of a high temperature, the gradient of
    `mean_k z_k − z_c` over the known classes `k`, and divides the squares of each code by their sum, so that every
    code counts the same.

    Args:
        model (`PreTrainedModel`): A classifier; read in evaluation mode and left as it was, `.grad` included.
        codes (`Tensor` of shape `(n, …)`): The codes.
        labels (`LongTensor` of shape `(n,)`): Their classes.
        kind (`str`, defaults to `"logit"`): `logit` or `loss`.
        known: The classes that the model still knows; all if not given. Used by `logit`.
        attention_mask: Which positions of codes in the space of embeddings are read.

    Returns:
        For each code a float64 tensor per trainable parameter, by its name in `named_parameters()`; a weight used in
        several places stands there once.

    Raises:
        InputError: If no parameter is trainable or a gradient is not finite.
    """
    parameters = trainable_parameters(model)
    device = next(iter(parameters.values())).device
    found = []
    for row in range(len(codes)):
        mask = None if attention_mask is None else attention_mask[row : row + 1].to(device)
        with evaluation_mode(model), torch.enable_grad():
            logits = class_logits(model, codes[row : row + 1].to(device), mask).double()
            loss = _loss(logits, labels[row : row + 1].to(device), kind, known)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        squares = {
            name: torch.zeros_like(value, dtype=torch.float64) if gradient is None else gradient.double() ** 2
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True)
        }
        found.append(_checked(squares, kind))
    return found


def _loss(logits: "Tensor", label: "Tensor", kind: Importance, known: Sequence[int] | None) -> "Tensor":
    if kind == "loss":
        return functional.cross_entropy(logits, label)
    others = logits if known is None else logits[:, list(known)]
    return others.mean() - logits[0, label[0]]


def _checked(squares: Weights, kind: Importance) -> Weights:
    sums = {name: float(square.sum()) for name, square in squares.items()}
    for name, value in sums.items():
        if not math.isfinite(value):
            raise InputError(f"the gradient of '{name}' is not finite; check the model's weights")
    total = sum(sums.values())
    if kind == "logit" and total > 0:
        for square in squares.values():
            square /= total
    return squares


def forget_ratio(importance: Sequence[Weights], forget: Sequence[int], retain: Sequence[int]) -> Weights:
    """Return `η = f_F / f_R`, each the mean of the importances over the codes of its classes.

    A weight that no remaining code depends on (`f_R = 0`) is left alone: among such weights are those of units that
    are silent on all codes but not on real data.

    Args:
        importance: As `code_importance` gives it, one entry per class.
        forget: The classes to forget, `C_F`.
        retain: The remaining ones, `C_R`.
    """
    ratio = {}
    for name in importance[0]:
        wanted, kept = (_mean([importance[index][name] for index in classes]) for classes in (forget, retain))
        found = (wanted / kept).masked_fill_(kept <= torch.finfo(torch.float64).tiny, 0.0)
        ratio[name] = found.clamp_(max=_LARGEST_RATIO).float()
    return ratio


def _mean(parts: "Sequence[Tensor]") -> "Tensor":
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total / len(parts)


def largest_ratios(ratio: Weights) -> dict[str, float]:
    """Return `max_i η_l,i` of every tensor."""
    return {name: float(part.max()) if part.numel() else 0.0 for name, part in ratio.items()}


def step_size(largest: float, lambda_1: float | None, lambda_2: float | None) -> float:
    """Return `α_l = min(λ1, λ2 / max_i η_l,i)` of one tensor; one of the two may be out of force.

    Args:
        largest: `max_i η_l,i`; a tensor in which it is 0 does not move.
        lambda_1, lambda_2: The limits.

    Raises:
        ValueError: If neither is given.
    """
    limits = [] if lambda_1 is None else [lambda_1]
    if lambda_2 is not None and largest > 0:
        limits.append(lambda_2 / largest)
    if lambda_1 is None and lambda_2 is None:
        raise ValueError("give lambda_1, lambda_2 or both")
    return min(limits) if largest > 0 else 0.0


@torch.no_grad()
def scrub_weights(
    model: "nn.Module",
    originals: Weights,
    ratio: Weights,
    largest: Mapping[str, float],
    *,
    lambda_1: float | None,
    lambda_2: float | None,
    sign: int,
) -> None:
    """Set `w ← w ± α_l·η` in place, for every parameter that `ratio` names, and the other originals back.

    Args:
        model: The model; parameters that `originals` does not name and buffers stay as they are.
        originals: The weights to start from, by name.
        ratio: η, as `forget_ratio` gives it.
        largest: What `largest_ratios` gives for it.
        lambda_1, lambda_2: See `step_size`.
        sign: 1 or −1.
    """
    for name, parameter in model.named_parameters():
        if name in ratio:
            step = sign * step_size(largest[name], lambda_1, lambda_2)
            parameter.copy_(torch.add(originals[name], ratio[name], alpha=step))
        elif name in originals:
            parameter.copy_(originals[name])

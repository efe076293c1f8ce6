"""What scrubbing is compared with: a dropped logit, Fisher forgetting with data, and selective synaptic dampening.

Each takes a trained classifier and returns a changed copy; the time it takes is the caller's to measure. Training on
the rest and retraining stand in `retraining.py`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError
from ..evidence.classifier_outputs import batched_logits, classification_head
from ..evidence.labelled_inputs import belongs

if TYPE_CHECKING:
    from torch import Tensor, nn

# Far below any logit of a trained classifier, and still a number in float16.
DROPPED_LOGIT = -1e4


def drop_logits(model: "nn.Module", forget_classes: Sequence[int], *, value: float = DROPPED_LOGIT) -> "nn.Module":
    """Return a copy that never answers these classes, because their biases in the last layer are set to `value`.

    Nothing is forgotten: the features and the weights of the classes stay. The copy is a standard checkpoint.

    Args:
        model (`PreTrainedModel`): The classifier.
        forget_classes: The classes to drop.
        value: The new bias; finite, so that probabilities and losses stay numbers.

    Raises:
        InputError: If a class is out of range, all are dropped, or the last layer has no bias.
    """
    dropped = copy.deepcopy(model)
    head = classification_head(dropped)
    chosen = _output_rows(head, forget_classes)
    if head.bias is None:
        raise InputError(
            f"the last layer of {type(model).__name__} has no bias, so a logit cannot be dropped in its checkpoint"
        )
    with torch.no_grad():
        head.bias[chosen] = value
    return dropped


def fisher_forgetting(
    model: "nn.Module",
    fisher_retain: "Mapping[str, Tensor]",
    forget_classes: Sequence[int],
    *,
    alpha: float,
    max_std: float = 0.1,
    head_std: float = 0.01,
    seed: int = 0,
) -> "nn.Module":
    """Return a copy with noise on every weight, the less the more the remaining data need it.

    w + √α · F^(−1/4) · n with n ~ N(0, 1) and F the diagonal Fisher information of the remaining data (Golatkar et
    al. 2020, *Eternal Sunshine of the Spotless Net*, the diagonal form of their noisy Newton step). As is usual with
    it, the outputs of the forgotten classes are drawn anew around 0. Here F is the empirical Fisher, at the true
    labels.

    Args:
        model (`PreTrainedModel`): The classifier.
        fisher_retain: `fisher_diagonal` of the remaining data.
        forget_classes: Classes whose rows of the last layer are replaced.
        alpha: Strength of the noise.
        max_std: Largest standard deviation of the noise of a weight; F may be 0.
        head_std: Standard deviation of the new output weights of the forgotten classes.
        seed: Seed of the noise.

    Raises:
        InputError: If a class is out of range, all are forgotten, `alpha` is negative, or a parameter has no Fisher
            information.
    """
    if not alpha >= 0:
        raise InputError(f"alpha must be 0 or more, got {alpha}")
    noisy = copy.deepcopy(model)
    head = classification_head(noisy)
    chosen = _output_rows(head, forget_classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in _changeable(noisy, fisher_retain):
            fisher = fisher_retain[name].to(parameter.device).clamp(min=torch.finfo(torch.float32).tiny)
            std = (alpha**0.5 * fisher**-0.25).clamp(max=max_std)
            parameter += std.to(parameter.dtype) * _normal(parameter, generator)
        for parameter in (head.weight, head.bias):
            if parameter is not None and parameter.requires_grad:
                parameter[chosen] = head_std * _normal(parameter, generator)[chosen]
    return noisy


def selective_synaptic_dampening(
    model: "nn.Module",
    fisher_all: "Mapping[str, Tensor]",
    fisher_forget: "Mapping[str, Tensor]",
    *,
    alpha: float = 10.0,
    dampening: float = 1.0,
) -> "nn.Module":
    """Return a copy in which the weights that matter far more to the forgotten data than to all data are shrunk.

    Where F_F > α · F_D the weight is multiplied by β = min(λ · F_D / F_F, 1) (Foster et al. 2024, *Fast Machine
    Unlearning without Retraining through Selective Synaptic Dampening*). F_D holds the forgotten data as well, so of k
    equally large classes F_F / F_D is k at most, and α = 10 chooses nothing among ten: take a smaller α then, or give
    the information of the remaining data as `fisher_all`.

    Args:
        model (`PreTrainedModel`): The classifier.
        fisher_all: `fisher_diagonal` of all training data, F_D.
        fisher_forget: `fisher_diagonal` of the training data of the forgotten classes, F_F.
        alpha: By how much a weight must matter more to the forgotten data to be chosen, α.
        dampening: How far a chosen weight is kept, λ.

    Raises:
        InputError: If `alpha` or `dampening` is negative, or a parameter has no Fisher information.
    """
    if not (alpha >= 0 and dampening >= 0):
        raise InputError(f"alpha and dampening must be 0 or more, got {alpha} and {dampening}")
    dampened = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in _changeable(dampened, fisher_all, fisher_forget):
            everything, forgotten = (fisher[name].to(parameter.device) for fisher in (fisher_all, fisher_forget))
            factor = (dampening * everything / forgotten).clamp(max=1.0).to(parameter.dtype)
            chosen = forgotten > alpha * everything
            parameter[chosen] = (parameter * factor)[chosen]
    return dampened


@dataclass(frozen=True)
class Tuned:
    """The candidate with the best sum of A_R and E_F on validation inputs, the model it gave, and all sums.

    Args:
        arguments: The chosen candidate.
        model: What it made of the classifier.
        scores: A_R + E_F of every candidate, in [0, 2], in their order.
    """

    arguments: dict[str, Any]
    model: "nn.Module"
    scores: tuple[float, ...]


def tune(
    forget: "Callable[..., nn.Module]",
    candidates: Sequence[dict[str, Any]],
    inputs: "Tensor",
    labels: "Tensor",
    forget_classes: Sequence[int],
    *,
    attention_mask: "Tensor | None" = None,
) -> Tuned:
    """Try hyperparameters on validation inputs and keep the best; the first of equals.

    Args:
        forget: Called with the arguments of each candidate; returns a changed copy of the classifier.
        candidates: Keyword arguments to try.
        inputs, labels, attention_mask: Validation inputs of all classes; never those that are reported.
        forget_classes: The forgotten classes.

    Raises:
        InputError: If there is no candidate, or the inputs hold no forgotten or no remaining class.

    Example:
        >>> noisy = lambda alpha: fisher_forgetting(model, fisher_retain, [7], alpha=alpha)
        >>> tune(noisy, [{"alpha": 1e-8}, {"alpha": 1e-7}], images, labels, [7]).arguments
        {'alpha': 1e-07}
    """
    forgotten = belongs(labels, forget_classes).cpu()
    if not candidates or not forgotten.any() or forgotten.all():
        raise InputError(
            "tuning needs a candidate, and validation inputs of the forgotten and of the remaining classes"
        )
    scores: list[float] = []
    for arguments in candidates:
        model = forget(**arguments)
        logits = batched_logits(model, inputs, attention_mask=attention_mask)
        right = (logits.argmax(1) == labels.cpu()) & ~logits.isnan().any(1)
        score = float(right[~forgotten].float().mean() + (~right[forgotten]).float().mean())
        if all(score > other for other in scores):
            best = arguments, model
        scores.append(score)
    return Tuned(*best, tuple(scores))


def _output_rows(head: "nn.Linear", forget_classes: Sequence[int]) -> "Tensor":
    wrong = [label for label in forget_classes if not 0 <= label < head.out_features]
    if wrong:
        raise InputError(f"class {wrong[0]} is not one of the model's classes, 0 to {head.out_features - 1}")
    chosen = belongs(torch.arange(head.out_features, device=head.weight.device), forget_classes)
    if chosen.all():
        raise InputError("all classes of the model are to be forgotten; at least one must remain")
    return chosen


def _changeable(model: "nn.Module", *fishers: "Mapping[str, Tensor]") -> "list[tuple[str, nn.Parameter]]":
    found = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    missing = [name for name, _ in found if any(name not in fisher for fisher in fishers)]
    if missing:
        raise InputError(f"the Fisher information lacks '{missing[0]}'; compute it on this model")
    return found


def _normal(like: "Tensor", generator: torch.Generator) -> "Tensor":
    return torch.randn(like.shape, generator=generator).to(like.device, like.dtype)

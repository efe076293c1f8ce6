"""Forgetting by training: fine-tuning on the remaining data, and retraining without the forgotten ones."""

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.nn import functional

from ..errors import InputError
from ..evidence.classifier_outputs import class_logits, evaluation_mode
from ..evidence.labelled_inputs import belongs

if TYPE_CHECKING:
    from torch import Tensor, nn

Model = TypeVar("Model")


def without_classes(inputs: "Tensor", labels: "Tensor", forget_classes: Sequence[int]) -> "tuple[Tensor, Tensor]":
    """Return the inputs and labels of the remaining classes.

    Raises:
        InputError: If none remain.
    """
    remaining = ~belongs(labels, forget_classes)
    if not remaining.any():
        raise InputError(f"nothing remains without the classes {', '.join(map(str, forget_classes))}")
    return inputs[remaining], labels[remaining]


def fine_tune(
    model: "nn.Module",
    inputs: "Tensor",
    labels: "Tensor",
    *,
    forget_classes: Sequence[int],
    learning_rate: float,
    epochs: float = 1.0,
    batch_size: int = 128,
    momentum: float = 0.9,
    seed: int = 0,
    attention_mask: "Tensor | None" = None,
) -> "nn.Module":
    """Return a copy trained on with the remaining classes alone, in the hope that the others fade.

    Stochastic gradient descent on the cross-entropy. Batch norm keeps the running statistics it has.

    Args:
        model (`PreTrainedModel`): The classifier.
        inputs (`Tensor` of shape `(n, …)`), labels (`LongTensor` of shape `(n,)`): Training data; inputs of the
            forgotten classes are left out.
        forget_classes: The forgotten classes.
        learning_rate: Step size.
        epochs: Passes over the remaining data; may be a fraction.
        batch_size: Inputs per step.
        momentum: Momentum of the descent.
        seed: Seed of the order.
        attention_mask: Which positions of embedded tokens are read.

    Raises:
        InputError: If no class remains.
    """
    remaining = torch.where(~belongs(labels, forget_classes))[0].cpu()
    if not len(remaining):
        raise InputError(f"nothing remains without the classes {', '.join(map(str, forget_classes))}")
    tuned = copy.deepcopy(model)
    device = next(tuned.parameters()).device
    optimizer = torch.optim.SGD(
        [parameter for parameter in tuned.parameters() if parameter.requires_grad], lr=learning_rate, momentum=momentum
    )
    generator = torch.Generator().manual_seed(seed)
    steps = max(1, round(epochs * len(remaining) / batch_size))
    order = torch.empty(0, dtype=torch.long)
    with evaluation_mode(tuned):
        for _ in range(steps):
            if not len(order):
                order = remaining[torch.randperm(len(remaining), generator=generator)]
            rows, order = order[:batch_size].to(labels.device), order[batch_size:]
            mask = None if attention_mask is None else attention_mask[rows].to(device)
            optimizer.zero_grad()
            logits = class_logits(tuned, inputs[rows].to(device), mask)
            functional.cross_entropy(logits, labels[rows].to(device)).backward()
            optimizer.step()
    tuned.zero_grad()
    return tuned


def retrain_without(
    make: Callable[[], Model],
    train: "Callable[[Model, Tensor, Tensor], object]",
    inputs: "Tensor",
    labels: "Tensor",
    forget_classes: Sequence[int],
) -> Model:
    """Return a model that never saw the forgotten classes: the reference of every figure.

    Args:
        make: Returns a fresh model, with as many classes as the original.
        train: Trains a model in place, called with it, inputs and labels; the recipe that made the original.
        inputs, labels: Training data of the original; inputs of the forgotten classes are left out.
        forget_classes: The forgotten classes.

    Raises:
        InputError: If no class remains.
    """
    remaining = without_classes(inputs, labels, forget_classes)
    model = make()
    train(model, *remaining)
    return model

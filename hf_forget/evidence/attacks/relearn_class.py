"""How many training steps bring a forgotten class back."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from ...errors import InputError
from ..classifier_metrics import predicted_classes
from ..classifier_outputs import batched_logits, class_logits, classification_head, evaluation_mode
from ..labelled_inputs import LabelledInputs, belongs

if TYPE_CHECKING:
    from torch import nn

STARTS = ("bias", "row")
_RETURNED = 0.5


@dataclass(frozen=True)
class Relearning:
    """What relearning took.

    Args:
        steps: Steps until the classes were back, one number per seed, each of the faster start; `cap` where they were
            not.
        cap: Most steps that were taken.
        curve: Share of held-out inputs of the forgotten classes right after 0, 1, 2 … steps, of the fastest run.
        start: The start of the fastest run, `bias` or `row`.
    """

    steps: tuple[int, ...]
    cap: int
    curve: tuple[float, ...]
    start: str

    @property
    def median_steps(self) -> int:
        """The median over seeds, the lower one of two."""
        return median_low(self.steps)


@dataclass(frozen=True)
class _Run:
    steps: int
    curve: tuple[float, ...]
    start: str


def relearn_class(
    model: "nn.Module",
    train: LabelledInputs,
    held_out: LabelledInputs,
    forget_classes: Sequence[int],
    *,
    learning_rate: float = 0.01,
    batch_size: int = 64,
    max_steps: int = 500,
    seeds: Sequence[int] = (0, 1, 2),
    held_out_rows: int = 100,
) -> Relearning:
    """Train a copy of a classifier until half of the inputs of the forgotten classes are right again.

    Half of the inputs of the remaining classes must be right as well: to answer nothing but the forgotten classes is
    not to know them.

    Plain gradient descent on batches of which half are of the forgotten classes and half of the remaining ones; the
    accuracy is read after every step. An attacker need not undo a muted output by gradient descent, so two starts are
    tried and the faster one counts: the `bias` of each forgotten class raised to the mean of the remaining ones, and
    its whole output `row` set to that mean, bias included. The first finds a class whose logit was merely lowered,
    the second one whose output is gone while the features stay.

    Args:
        model (`PreTrainedModel`): The classifier; it is left as it was.
        train: Inputs to train on.
        held_out: Inputs that tell whether the classes are back; none of them in `train`.
        forget_classes: The forgotten classes.
        learning_rate: Step size of the gradient descent.
        batch_size: Inputs per step.
        max_steps: After so many steps a run is given up.
        seeds: One run per seed and start.
        held_out_rows: At most so many held-out inputs of the forgotten classes, and of the others, are read after
            every step.

    Raises:
        InputError: If `train` or `held_out` lacks inputs of the forgotten or of the remaining classes.
    """
    forgotten = belongs(train.labels, forget_classes)
    checked = [
        held_out.of(forget_classes).sample(held_out_rows),
        held_out.without(forget_classes).sample(held_out_rows),
    ]
    counts = [int(forgotten.sum()), int((~forgotten).sum()), *map(len, checked)]
    if not all(counts):
        raise InputError(
            "relearning needs inputs of the forgotten and of the remaining classes; got {} and {} to train on, {} and "
            "{} held out".format(*counts)
        )
    runs: list[_Run] = []
    for seed in seeds:
        run: _Run | None = None
        for start in STARTS:
            attacked = reset_outputs(model, forget_classes, start)
            batches = _batches(train, forgotten, batch_size, seed)
            # What the first start needed is the most that is worth spending on the second.
            limit = run.steps if run else max_steps
            curve, returned = _train_back(attacked, batches, checked, learning_rate, limit)
            steps = len(curve) - 1 if returned else max_steps
            if run is None or steps < run.steps:
                run = _Run(steps, tuple(curve), start)
        if run is not None:
            runs.append(run)
    fastest = min(runs, key=lambda run: run.steps)
    return Relearning(tuple(run.steps for run in runs), max_steps, fastest.curve, fastest.start)


def reset_outputs(model: "nn.Module", classes: Sequence[int], start: str) -> "nn.Module":
    """Return a copy of a classifier, all of it trainable, whose last layer no longer singles out these classes.

    Args:
        model (`PreTrainedModel`): The classifier.
        classes: The classes whose outputs are reset.
        start: `bias` raises the biases of these classes to the mean of the remaining ones, `row` sets their biases
            and weights to the mean.
    """
    model = copy.deepcopy(model).requires_grad_(True)
    head = classification_head(model)
    chosen = belongs(torch.arange(head.out_features, device=head.weight.device), classes)
    with torch.no_grad():
        if start == "row":
            head.weight[chosen] = head.weight[~chosen].mean(0)
        if head.bias is not None:
            mean = head.bias[~chosen].mean()
            head.bias[chosen] = mean if start == "row" else head.bias[chosen].maximum(mean)
    return model


def _batches(train: LabelledInputs, forgotten: "torch.Tensor", size: int, seed: int) -> Iterator[LabelledInputs]:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.where(part)[0].cpu() for part in (forgotten, ~forgotten)]
    while True:
        half = (size // 2, size - size // 2)
        drawn = [
            part[torch.randint(len(part), (count,), generator=generator)]
            for part, count in zip(parts, half, strict=True)
        ]
        yield train.rows(torch.cat(drawn).to(train.labels.device))


def _train_back(
    model: "nn.Module",
    batches: Iterator[LabelledInputs],
    checked: Sequence[LabelledInputs],
    learning_rate: float,
    max_steps: int,
) -> tuple[list[float], bool]:
    """Train until half of both parts of `checked` is right.

    Returns:
        The share of the first part that is right after each step, and whether the end was reached.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    device = next(model.parameters()).device
    accuracies = [_accuracy(model, part) for part in checked]
    curve = [accuracies[0]]
    with evaluation_mode(model):
        while min(accuracies) < _RETURNED and len(curve) <= max_steps:
            batch = next(batches)
            mask = None if batch.attention_mask is None else batch.attention_mask.to(device)
            logits = class_logits(model, batch.inputs.to(device), mask)
            optimizer.zero_grad()
            functional.cross_entropy(logits, batch.labels.to(device)).backward()
            optimizer.step()
            accuracies = [_accuracy(model, part) for part in checked]
            curve.append(accuracies[0])
    return curve, min(accuracies) >= _RETURNED


def _accuracy(model: "nn.Module", checked: LabelledInputs) -> float:
    logits = batched_logits(model, checked.inputs, attention_mask=checked.attention_mask)
    return float((predicted_classes(logits) == checked.labels.cpu()).float().mean())

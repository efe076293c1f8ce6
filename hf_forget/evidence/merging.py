"""What a merged classifier is worth: its accuracy on each task, beside the models that it came from and other ways."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from .classifier_metrics import predicted_classes
from .classifier_outputs import batched_logits
from .intervals import paired_difference, wilson
from .report import Metric, Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from .labelled_inputs import LabelledInputs

RULE = (
    "better: the 95 % interval of the paired difference of accuracy on the test inputs of all tasks together, merged "
    "model minus naive average, lies above 0. worse: it lies below 0. same: otherwise."
)


def outcomes(model: Any, tasks: "Sequence[LabelledInputs]") -> "list[Tensor]":
    """Return for each task which test inputs a model gets right, shape `(n,)` each.

    Args:
        model: A classifier.
        tasks: Test inputs with labels as the model's head counts them.
    """
    return [right(batched_logits(model, task.inputs), task) for task in tasks]


def right(logits: "Tensor", task: "LabelledInputs") -> "Tensor":
    """Return which inputs are right, shape `(n,)`."""
    return predicted_classes(logits) == task.labels


def ensemble_outcomes(models: Sequence[Any], tasks: "Sequence[LabelledInputs]", *, joined: bool) -> "list[Tensor]":
    """Return what the models get right together, which needs all of them at once.

    Args:
        models: The models before merging.
        tasks: Test inputs with labels as the merged model's head counts them.
        joined: Whether each model has outputs of its own; probabilities are averaged otherwise.
    """
    found = []
    for task in tasks:
        each = [batched_logits(model, task.inputs).softmax(1) for model in models]
        found.append(right(torch.cat(each, dim=1) if joined else torch.stack(each).mean(0), task))
    return found


def accuracy_metrics(right_of: "Sequence[Tensor]", reference: "Sequence[Tensor] | None" = None) -> list[Metric]:
    """Return accuracy by task, and the mean over tasks.

    Args:
        right_of: For each task which test inputs are right.
        reference: The same of one model that was trained on all the data.
    """
    found = []
    for place, row in enumerate(right_of):
        count, rows = int(row.sum()), len(row)
        found.append(
            Metric(
                f"accuracy_task_{place + 1}",
                "quality",
                "higher",
                count / rows,
                rows,
                wilson(count, rows),
                definition=f"share of test inputs of task {place + 1} right; before: by the model of this task",
                reference=_share(reference[place]) if reference else None,
            )
        )
    definition = "mean of the accuracies of all tasks; before: of each task's own model"
    mean = mean_accuracy(right_of)
    every = mean_accuracy(reference) if reference else None
    rows = sum(map(len, right_of))
    return [*found, Metric("mean_accuracy", "quality", "higher", mean, rows, definition=definition, reference=every)]


def mean_accuracy(right_of: "Sequence[Tensor]") -> float:
    """Mean over tasks of the share of test inputs that are right."""
    return sum(map(_share, right_of)) / len(right_of)


def _share(row: "Tensor") -> float:
    return float(row.float().mean())


def baseline_metrics(baselines: "Mapping[str, tuple[str, Sequence[Tensor]]]") -> list[Metric]:
    """Return the mean accuracy of other ways to have all tasks done.

    Args:
        baselines: By name, what it is and for each task which test inputs are right.
    """
    return [
        Metric(
            f"mean_accuracy_{name}",
            "quality",
            "none",
            mean_accuracy(right_of),
            sum(map(len, right_of)),
            definition=f"the same of {what}",
        )
        for name, (what, right_of) in baselines.items()
    ]


def mean_loss(models: Sequence[Any], tasks: "Sequence[LabelledInputs]") -> float:
    """Return the mean over tasks of the cross-entropy, in nats.

    Args:
        models: For each task the model that does it.
        tasks: Test inputs with labels as this model's head counts them.
    """
    pairs = zip(models, tasks, strict=True)
    losses = [functional.cross_entropy(batched_logits(model, task.inputs), task.labels) for model, task in pairs]
    return float(torch.stack(losses).mean())


def judge_merge(merged: "Sequence[Tensor]", naive: "Sequence[Tensor]") -> Verdict:
    """Say whether merging was better than averaging weights.

    Args:
        merged, naive: For each task which test inputs are right.
    """
    found = paired_difference(torch.cat(list(naive)).numpy(), torch.cat(list(merged)).numpy())
    value = "better" if found.low > 0 else "worse" if found.high < 0 else "same"
    detail = (
        f"{100 * found.difference:+.1f} points on {sum(map(len, merged))} test inputs, "
        f"95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}"
    )
    check = {"name": "against_the_naive_average", "passed": value == "better", "detail": detail}
    return Verdict(value, RULE, [check])

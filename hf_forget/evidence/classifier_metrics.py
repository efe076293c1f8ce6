"""The figures of a classifier's evidence, as small pure functions on logits, labels and losses."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from .intervals import cluster_bootstrap_mean, wilson
from .labelled_inputs import belongs
from .report import Direction, Metric, MetricGroup

if TYPE_CHECKING:
    from torch import Tensor


def predicted_classes(logits: "Tensor") -> "Tensor":
    """Return the likeliest class of each row, shape `(n,)`, and −1 where a logit is not a number."""
    return torch.where(logits.isnan().any(1), -1, logits.argmax(1))


def confusion(predictions: "Tensor", classes: int) -> list[float]:
    """Return which share of rows is put into each class."""
    counts = torch.bincount(predictions[predictions >= 0], minlength=classes).float()
    return [float(count) / max(1, len(predictions)) for count in counts]


def confidence(logits: "Tensor") -> "Tensor":
    """Return the largest probability of each row, in [0, 1]."""
    return logits.softmax(1).max(1).values


def entropy(logits: "Tensor") -> "Tensor":
    """Return the entropy of the predicted probabilities of each row, in nats; 0 for certainty, log(classes) at most."""
    return torch.special.entr(logits.softmax(1)).sum(1)


def membership_auc(member_losses: Sequence[float], other_losses: Sequence[float]) -> tuple[float, float, float]:
    """Return how well a low loss tells training inputs from unseen ones: the area under the ROC curve.

    0.5 is chance. The interval is that of Hanley and McNeil (1982, Radiology 143:29).

    Args:
        member_losses: Losses of inputs that the model was trained on.
        other_losses: Losses of unseen inputs of the same class.

    Returns:
        `(area, low, high)`, the bounds of the two-sided 95 % interval.
    """
    members, others = len(member_losses), len(other_losses)
    if not members or not others:
        raise ValueError(f"need losses of both kinds, got {members} and {others}")
    from scipy.stats import rankdata

    ranks = rankdata(-np.concatenate([member_losses, other_losses]))
    area = (ranks[:members].sum() - members * (members + 1) / 2) / (members * others)
    square = area * area
    variance = area * (1 - area)
    variance += (members - 1) * (area / (2 - area) - square) + (others - 1) * (2 * square / (1 + area) - square)
    half = 1.959964 * math.sqrt(max(0.0, variance) / (members * others))
    return float(area), float(max(0.0, area - half)), float(min(1.0, area + half))


def losses(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the cross-entropy of each row, in nats."""
    return functional.cross_entropy(logits.double(), labels, reduction="none")


def output_metrics(logits: "Tensor", labels: "Tensor", forget_classes: Sequence[int]) -> list[Metric]:
    """Return what follows from the answers to test inputs alone.

    Args:
        logits: Answers, shape `(n, classes)`.
        labels: True classes, shape `(n,)`.
        forget_classes: The forgotten classes.
    """
    forgotten = belongs(labels, forget_classes)
    right = predicted_classes(logits) == labels
    rest, gone = right[~forgotten], ~right[forgotten]
    found = [
        _rate(
            "remaining_accuracy", "retain", "higher", rest, "A_R: share of test inputs of the remaining classes right"
        ),
        _lowest_class(right, labels, forgotten),
        _rate("forgotten_error", "forget", "higher", gone, "E_F: share of test inputs of the forgotten classes wrong"),
    ]
    if len(forget_classes) > 1:
        for label in sorted(forget_classes):
            definition = f"E_F of class {label} alone: share of its test inputs wrong"
            found.append(
                _rate(f"forgotten_error_class_{label}", "forget", "higher", ~right[labels == label], definition)
            )
    return [*found, *_answers_to_forgotten(logits[forgotten], labels[forgotten])]


def _answers_to_forgotten(logits: "Tensor", labels: "Tensor") -> list[Metric]:
    if not len(labels):
        return []
    shares = confusion(predicted_classes(logits), logits.shape[1])
    for label in labels.unique().tolist():
        shares[label] = 0.0
    top = round(max(shares) * len(labels))
    own = logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
    return [
        _share(
            "top_confusion_share",
            "forget",
            "none",
            top,
            len(labels),
            "share of forgotten test inputs put into the one remaining class that gets most of them",
        ),
        _mean("forgotten_class_probability", "lower", own, "mean probability of the true class on forgotten inputs"),
        _mean("forgotten_confidence", "none", confidence(logits), "mean largest probability on forgotten test inputs"),
        _mean("forgotten_entropy", "none", entropy(logits), "mean entropy of the answers to forgotten inputs, in nats"),
    ]


def _lowest_class(right: "Tensor", labels: "Tensor", forgotten: "Tensor") -> Metric:
    counts = {
        label: (int(right[labels == label].sum()), int((labels == label).sum()))
        for label in labels[~forgotten].unique().tolist()
    }
    correct, rows = min(counts.values(), key=lambda count: count[0] / count[1], default=(0, 0))
    definition = "accuracy of the remaining class with the lowest one"
    return _share("lowest_class_accuracy", "retain", "higher", correct, rows, definition)


def _rate(name: str, group: MetricGroup, direction: Direction, outcomes: "Tensor", definition: str) -> Metric:
    return _share(name, group, direction, int(outcomes.sum()), len(outcomes), definition)


def _share(name: str, group: MetricGroup, direction: Direction, k: int, n: int, definition: str) -> Metric:
    return Metric(name, group, direction, k / n if n else None, n, wilson(k, n), definition=definition)


def _mean(name: str, direction: Direction, values: "Tensor", definition: str) -> Metric:
    mean, low, high = cluster_bootstrap_mean(values.double().numpy(), n=500)
    return Metric(name, "forget", direction, mean, len(values), (low, high), definition=definition)

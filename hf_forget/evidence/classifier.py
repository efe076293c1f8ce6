"""Measures what a classifier still knows of its forgotten classes.

The same measurement is taken of the original model, of the edited one and of a model retrained without the classes;
the last is the reference of the others.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError
from .attacks.relearn_class import relearn_class
from .classifier_metrics import (
    confusion,
    losses,
    membership_auc,
    output_metrics,
    predicted_classes,
)
from .classifier_options import ClassifierEvidenceOptions
from .classifier_outputs import batched_logits
from .classifier_verdict import ClassifierEvidence
from .feature_probe import probe_features
from .intervals import wilson
from .labelled_inputs import LabelledInputs, belongs
from .report import Direction, Metric, MetricGroup

if TYPE_CHECKING:
    from torch import Tensor, nn

Records = dict[str, Any]

_PROBE = (
    "share of test inputs, half of them of the forgotten classes, that a logistic regression on the penultimate "
    "features tells apart"
)
_RELEARNING = (
    "steps of gradient descent until half of the held-out inputs of the forgotten and of the remaining classes are "
    "right, the faster of two starts, median over seeds"
)
_MEMBERSHIP = (
    "area under the ROC curve of the loss, training inputs of the forgotten classes against unseen ones of the same "
    "classes; 0.5 is chance"
)


@dataclass
class ClassifierMeasurement:
    """One measurement.

    Args:
        metrics: The figures, as the report takes them.
        records: The outcomes that the verdict needs, JSON-able.
        series: Confusion of the forgotten classes, accuracy by class and the curve of relearning.
    """

    metrics: list[Metric]
    records: Records
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)


def measure_classifier(
    model: "nn.Module",
    test: LabelledInputs,
    *,
    forget_classes: Sequence[int],
    train: LabelledInputs | None = None,
    reference: ClassifierMeasurement | None = None,
    options: ClassifierEvidenceOptions | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> ClassifierMeasurement:
    """Measure a classifier on test inputs, probe its features, and try to bring the forgotten classes back.

    Args:
        model (`PreTrainedModel`): The classifier; it is left as it was.
        test: Test inputs of all classes.
        forget_classes: The classes that are, or are to be, forgotten.
        train: What the original model was trained on; without it the feature probe, relearning and membership are not
            run.
        reference: The measurement of a model retrained without the classes, on the same inputs.
        options: How it is measured; the defaults if not given.
        report: Called with a line of text at each step.

    Raises:
        InputError: If `forget_classes` are not classes of the model, or a part of `test` is empty.

    Example:
        >>> never_knew = measure_classifier(retrained, test, forget_classes=[7], train=train)
        >>> after = measure_classifier(scrubbed, test, forget_classes=[7], train=train, reference=never_knew)
        >>> judge_classifier(evidence_from_measurements(before, after, never_knew)).value
        'forgotten'
    """
    options = options or ClassifierEvidenceOptions()
    classes = sorted(set(forget_classes))
    _check_classes(model, test, classes)
    report(f"Classifying {len(test)} test inputs")
    logits, labels = _logits(model, test, options), test.labels.cpu()
    predictions = predicted_classes(logits)
    found = ClassifierMeasurement(
        metrics=output_metrics(logits, labels, classes),
        records={"forget_classes": classes, "labels": labels.tolist(), "predictions": predictions.tolist()},
        series=_output_series(predictions, labels, classes, logits.shape[1]),
    )
    if train is None:
        found.metrics += [_left_out(*metric) for metric in _ATTACKS]
    else:
        report("Probing the features for the forgotten classes")
        found.metrics.append(_probe(model, train, test, classes, options))
        report("Training the forgotten classes back in")
        _relearn(model, train, test, classes, options, found)
        unseen = belongs(labels, classes)
        found.metrics.append(_membership(model, train, losses(logits[unseen], labels[unseen]), classes, options))
    known = {(metric.group, metric.name): metric.value for metric in reference.metrics} if reference else {}
    found.metrics = [replace(metric, reference=known.get((metric.group, metric.name))) for metric in found.metrics]
    return found


_ATTACKS: tuple[tuple[str, MetricGroup, Direction, str], ...] = (
    ("feature_probe_accuracy", "representation", "lower", _PROBE),
    ("relearning_steps", "attack", "higher", _RELEARNING),
    ("membership_auc", "membership", "none", _MEMBERSHIP),
)


def _logits(model: "nn.Module", data: LabelledInputs, options: ClassifierEvidenceOptions) -> "Tensor":
    size = options.classifier_batch_size
    return batched_logits(model, data.inputs, attention_mask=data.attention_mask, batch_size=size)


def _left_out(name: str, group: MetricGroup, direction: Direction, definition: str) -> Metric:
    return Metric(name, group, direction, None, status="not_run", definition=definition)


def _check_classes(model: "nn.Module", test: LabelledInputs, classes: Sequence[int]) -> None:
    count = _logits(model, test.rows(torch.arange(min(1, len(test)))), ClassifierEvidenceOptions()).shape[1]
    wrong = [label for label in classes if not 0 <= label < count]
    if not classes or wrong:
        raise InputError(f"forget_classes is {list(classes)}; the model has the classes 0 to {count - 1}")
    missing = [label for label in classes if not (test.labels == label).any()]
    if missing or belongs(test.labels, classes).all():
        raise InputError(
            f"the test inputs hold none of class {missing[0]}" if missing else "the test inputs hold no remaining class"
        )


def _output_series(
    predictions: "Tensor", labels: "Tensor", forget_classes: Sequence[int], classes: int
) -> dict[str, dict[str, list[float]]]:
    numbers = [float(label) for label in range(classes)]
    accuracies = [float((predictions[labels == label] == label).float().mean()) for label in range(classes)]
    found = {"accuracy_by_class": {"x": numbers, "y": accuracies}}
    for label in forget_classes:
        found[f"confusion_of_class_{label}"] = {"x": numbers, "y": confusion(predictions[labels == label], classes)}
    return found


def _probe(
    model: "nn.Module",
    train: LabelledInputs,
    test: LabelledInputs,
    classes: Sequence[int],
    options: ClassifierEvidenceOptions,
) -> Metric:
    name, group, direction, definition = _ATTACKS[0]
    if importlib.util.find_spec("sklearn") is None:
        missing = "; not run: scikit-learn is not installed (pip install 'hf-forget[vision]')"
        return _left_out(name, group, direction, definition + missing)
    found = probe_features(
        model,
        train,
        test,
        classes,
        rows_per_side=options.probe_rows,
        batch_size=options.classifier_batch_size,
        seed=options.classifier_evidence_seed,
    )
    interval = wilson(found.correct, found.rows)
    return Metric(name, group, direction, found.correct / found.rows, found.rows, interval, definition=definition)


def _relearn(
    model: "nn.Module",
    train: LabelledInputs,
    test: LabelledInputs,
    classes: Sequence[int],
    options: ClassifierEvidenceOptions,
    measurement: ClassifierMeasurement,
) -> None:
    """Add what relearning took to the metrics, the records and the series of a measurement."""
    first = options.classifier_evidence_seed
    found = relearn_class(
        model,
        train,
        test,
        classes,
        learning_rate=options.relearning_learning_rate,
        batch_size=options.relearning_batch_size,
        max_steps=options.relearning_max_steps,
        seeds=range(first, first + options.relearning_seeds),
    )
    name, group, direction, definition = _ATTACKS[1]
    definition += (
        f"; learning rate {options.relearning_learning_rate:g}, {options.relearning_batch_size} inputs a step, "
        f"given up after {found.cap} steps"
    )
    steps = found.median_steps
    measurement.metrics.append(Metric(name, group, direction, steps, len(found.steps), definition=definition))
    measurement.records["relearning"] = {
        "steps": list(found.steps),
        "median": steps,
        "cap": found.cap,
        "start": found.start,
    }
    numbers = [float(step) for step in range(len(found.curve))]
    measurement.series["relearning"] = {"x": numbers, "y": list(found.curve)}


def _membership(
    model: "nn.Module",
    train: LabelledInputs,
    unseen_losses: "Tensor",
    classes: Sequence[int],
    options: ClassifierEvidenceOptions,
) -> Metric:
    name, group, direction, definition = _ATTACKS[2]
    members = train.of(classes).sample(options.membership_rows, options.classifier_evidence_seed)
    member_losses = losses(_logits(model, members, options), members.labels.cpu())
    if member_losses.isnan().any() or unseen_losses.isnan().any():
        return Metric(name, group, direction, None, status="failed", definition=definition)
    area, low, high = membership_auc(member_losses.tolist(), unseen_losses.tolist())
    rows = len(member_losses) + len(unseen_losses)
    return Metric(name, group, direction, area, rows, (low, high), definition=definition)


def evidence_from_measurements(
    before: ClassifierMeasurement, after: ClassifierMeasurement, reference: ClassifierMeasurement | None = None
) -> ClassifierEvidence:
    """Return the outcomes from which the verdict follows.

    Args:
        before, after: The original and the edited model, measured on the same test inputs.
        reference: The model retrained without the classes.

    Raises:
        InputError: If the measurements are of different test inputs or classes.
    """
    first, last = before.records, after.records
    for other in (last, *([reference.records] if reference else [])):
        if other["labels"] != first["labels"] or other["forget_classes"] != first["forget_classes"]:
            raise InputError("the measurements must be of the same test inputs and forgotten classes")
    relearned = last.get("relearning", {})
    retrained = reference.records.get("relearning", {}) if reference else {}
    return ClassifierEvidence(
        errors=_errors(last),
        remaining_before=_remaining(first),
        remaining_after=_remaining(last),
        reference_errors=_errors(reference.records) if reference else None,
        relearning_steps=relearned.get("median"),
        reference_steps=retrained.get("median"),
        max_steps=min(relearned.get("cap", 0), retrained.get("cap", 0)),
    )


def _errors(records: Mapping[str, Any]) -> dict[int, tuple[int, int]]:
    found = {}
    for label in records["forget_classes"]:
        wrong = [
            answer != label
            for answer, true in zip(records["predictions"], records["labels"], strict=True)
            if true == label
        ]
        found[label] = (sum(wrong), len(wrong))
    return found


def _remaining(records: Mapping[str, Any]) -> list[bool]:
    gone = set(records["forget_classes"])
    pairs = zip(records["predictions"], records["labels"], strict=True)
    return [answer == true for answer, true in pairs if true not in gone]

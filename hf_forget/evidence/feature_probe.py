"""Whether a class can still be told from the others by what the last layer of a classifier reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import InputError
from .classifier_outputs import penultimate_features
from .labelled_inputs import LabelledInputs

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FeatureProbe:
    """How many of `rows` test inputs, half of them of the class, the probes told apart."""

    correct: int
    rows: int


def probe_features(
    model: "nn.Module",
    train: LabelledInputs,
    test: LabelledInputs,
    forget_classes: Sequence[int],
    *,
    rows_per_side: int = 500,
    batch_size: int = 500,
    seed: int = 0,
) -> FeatureProbe:
    """Fit one linear probe per forgotten class on penultimate features, and count what it gets right.

    The probe is a logistic regression on standardised features, of the class against equally many inputs of the
    remaining classes; it is fitted on `train` and counted on `test`, where both sides are equally many as well. A
    class that has never been seen can be told from its neighbours too: compare with a model retrained without it.

    Args:
        model (`PreTrainedModel`): The classifier.
        train: Inputs to fit the probes on.
        test: Inputs to count on; none of them in `train`.
        forget_classes: The classes that are to be told from the remaining ones.
        rows_per_side: At most so many inputs of the class, and of the others, in fitting and in counting.
        batch_size: Inputs per batch.
        seed: Seed of the choice of inputs.

    Raises:
        InputError: If a class, or the rest, has fewer than two inputs in `train` or none in `test`.
    """
    correct = rows = 0
    for label in forget_classes:
        fitted = _balanced(train, label, forget_classes, rows_per_side, seed, "train")
        counted = _balanced(test, label, forget_classes, rows_per_side, seed, "test")
        features = [
            penultimate_features(model, part.inputs, attention_mask=part.attention_mask, batch_size=batch_size).numpy()
            for part in (fitted, counted)
        ]
        answers = [(part.labels == label).cpu().numpy() for part in (fitted, counted)]
        correct += linear_probe(features[0], answers[0], features[1], answers[1])
        rows += len(counted)
    return FeatureProbe(correct, rows)


def linear_probe(train: np.ndarray, train_answers: np.ndarray, test: np.ndarray, test_answers: np.ndarray) -> int:
    """Return how many test rows a logistic regression on standardised features gets right.

    Args:
        train, test: Features, shape `(rows, features)`.
        train_answers, test_answers: Whether each row is of the class.
    """
    from sklearn.linear_model import LogisticRegression

    centre, scale = train.mean(0), train.std(0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    probe = LogisticRegression(C=0.1, max_iter=300)
    probe.fit((train - centre) / scale, train_answers)
    return int((probe.predict((test - centre) / scale) == test_answers).sum())


def _balanced(
    data: LabelledInputs, label: int, forget_classes: Sequence[int], rows_per_side: int, seed: int, name: str
) -> LabelledInputs:
    own, rest = data.of([label]), data.without([label, *forget_classes])
    count = min(rows_per_side, len(own), len(rest))
    if count < (2 if name == "train" else 1):
        raise InputError(
            f"the feature probe of class {label} needs inputs of the class and of the remaining ones in {name}; "
            f"got {len(own)} and {len(rest)}"
        )
    own, rest = own.sample(count, seed), rest.sample(count, seed)
    parts = [own.attention_mask, rest.attention_mask]
    mask = None if parts[0] is None or parts[1] is None else torch.cat([parts[0], parts[1]])
    return LabelledInputs(torch.cat([own.inputs, rest.inputs]), torch.cat([own.labels, rest.labels]), mask)

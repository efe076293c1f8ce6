"""Scrubs every class of a recipe's parent, beside the baselines, and prints the table of README.md.

One row of JSON per seed, class and method; rows that are there already are not computed again.

Command: python recipes/fisher_scrub/table.py outputs/table --recipe fisher_scrub/mnist_mlp --seeds 0 1 2
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hf_forget.evidence.classifier import measure_classifier
from hf_forget.evidence.classifier_outputs import batched_logits
from hf_forget.evidence.labelled_inputs import LabelledInputs, belongs
from hf_forget.fisher_scrub import FisherScrubber
from hf_forget.fisher_scrub.baselines import drop_logits, fisher_forgetting, selective_synaptic_dampening, tune
from hf_forget.fisher_scrub.fisher import fisher_diagonal
from hf_forget.fisher_scrub.fisher_scrub_method import few_images
from hf_forget.fisher_scrub.retraining import fine_tune
from hf_forget.fisher_scrub.subject import find_codes, load_material, make_parent
from hf_forget.models.parents import load_parent, training_seconds
from hf_forget.recipe import load_recipe

SCRUBS = ("codes_alone", "ten_images", "paper_rule")
BASELINES = ("dropped_logit", "dampening", "fisher_forgetting", "fine_tuning", "retrained")
# Training images that choose the baselines' strengths; those that are reported are test images.
VALIDATION_IMAGES = 2_000
Row = dict[str, Any]


class Seed:
    """A parent of one seed, and what all of its rows share."""

    def __init__(self, recipe: str, seed: int) -> None:
        overrides = {"parent_seed": seed, "codes_seed": seed, "output_dir": "unused"}
        self.args = load_recipe(recipe, overrides).config_for("method")
        self.seed = seed
        self.material = load_material(self.args, None)
        self.codes = find_codes(self.args, self.material.train.inputs.shape[1:], len(self.material.class_names))
        self.model = load_parent(make_parent(self.args, self.material, self.codes, report=print))

    @cached_property
    def class_fishers(self) -> tuple[list[dict[str, torch.Tensor]], list[float]]:
        """Fisher information of each class' training images, and the seconds that each took."""
        found, seconds = [], []
        for label in range(len(self.codes)):
            part = self.material.train.of([label])
            start = time.perf_counter()
            found.append(fisher_diagonal(self.model, part.inputs, part.labels))
            seconds.append(time.perf_counter() - start)
        return found, seconds

    def mean_fisher(self, labels: list[int]) -> dict[str, torch.Tensor]:
        """Fisher information of the training images of some classes."""
        counts = torch.bincount(self.material.train.labels, minlength=len(self.codes))[labels]
        weights = counts / counts.sum()
        parts = [self.class_fishers[0][label] for label in labels]
        return {name: sum(w * part[name] for w, part in zip(weights, parts, strict=True)) for name in parts[0]}

    @cached_property
    def validation(self) -> LabelledInputs:
        return self.material.train.rows(
            torch.arange(len(self.material.train) - VALIDATION_IMAGES, len(self.material.train))
        )

    def forget(self, method: str, label: int) -> tuple[Any, float, Row]:
        """Return the model that a method makes, the seconds it took, and what else to note."""
        return getattr(self, f"_{method}")(label)

    def scrub(self, labels: list[int], images: LabelledInputs | None = None, **options: Any) -> tuple[Any, float, Row]:
        """Return the scrubbed model, the seconds it took, and what was chosen."""
        model = copy.deepcopy(self.model)
        args = copy.copy(self.args)
        for name, value in options.items():
            setattr(args, name, value)
        scrubber = FisherScrubber(model, self.codes, args, processing_class=self.material.processor)
        start = time.perf_counter()
        result = scrubber.scrub(labels, images=images)
        seconds = time.perf_counter() - start
        chosen = result.chosen
        noted = {"lambda_1": chosen.lambda_1, "lambda_2": chosen.lambda_2, "sign": chosen.sign}
        return model, seconds, noted | {"warnings": result.warnings}

    def _codes_alone(self, label: int) -> tuple[Any, float, Row]:
        return self.scrub([label])

    def _ten_images(self, label: int) -> tuple[Any, float, Row]:
        return self.scrub([label], few_images(self.material.train, 10))

    def _paper_rule(self, label: int) -> tuple[Any, float, Row]:
        return self.scrub([label], importance="loss", selection="codes")

    def _dropped_logit(self, label: int) -> tuple[Any, float, Row]:
        start = time.perf_counter()
        model = drop_logits(self.model, [label])
        return model, time.perf_counter() - start, {}

    def _dampening(self, label: int) -> tuple[Any, float, Row]:
        everything, forgotten = self.mean_fisher(list(range(len(self.codes)))), self.mean_fisher([label])
        grid = [{"alpha": alpha, "dampening": kept} for alpha in (1.0, 1.5, 2.0, 3.0, 5.0, 10.0) for kept in (0.1, 1.0)]

        def forget(alpha: float, dampening: float) -> Any:
            return selective_synaptic_dampening(self.model, everything, forgotten, alpha=alpha, dampening=dampening)

        start = time.perf_counter()
        best = tune(forget, grid, self.validation.inputs, self.validation.labels, [label])
        # Its cost is one pass through the training set, of which the class' own part is some, and one strength.
        seconds = (time.perf_counter() - start) / len(grid) + sum(self.class_fishers[1])
        return best.model, seconds, best.arguments

    def _fisher_forgetting(self, label: int) -> tuple[Any, float, Row]:
        rest = [other for other in range(len(self.codes)) if other != label]
        fisher = self.mean_fisher(rest)
        grid = [{"alpha": 10.0**power} for power in range(-12, -5)]

        def forget(alpha: float) -> Any:
            return fisher_forgetting(self.model, fisher, [label], alpha=alpha)

        start = time.perf_counter()
        best = tune(forget, grid, self.validation.inputs, self.validation.labels, [label])
        seconds = time.perf_counter() - start + sum(self.class_fishers[1][other] for other in rest)
        return best.model, seconds, best.arguments

    def _fine_tuning(self, label: int) -> tuple[Any, float, Row]:
        train = self.material.train

        def forget(learning_rate: float) -> Any:
            return fine_tune(
                self.model, train.inputs, train.labels, forget_classes=[label], learning_rate=learning_rate
            )

        start = time.perf_counter()
        best = tune(
            forget,
            [{"learning_rate": rate} for rate in (0.003, 0.03)],
            self.validation.inputs,
            self.validation.labels,
            [label],
        )
        return best.model, (time.perf_counter() - start) / 2, best.arguments

    def _retrained(self, label: int) -> tuple[Any, float, Row]:
        folder = make_parent(self.args, self.material, self.codes, without=[label])
        return load_parent(folder), training_seconds(folder), {}


def figures(model: Any, seed: Seed, labels: list[int], evidence: bool = False) -> Row:
    """A_R and E_F in percent on all test images; with `evidence` the feature probe and relearning too."""
    test = seed.material.test
    right = batched_logits(model, test.inputs).argmax(1) == test.labels
    gone = belongs(test.labels, labels)
    found = {"a_r": 100 * float(right[~gone].float().mean()), "e_f": 100 * float((~right[gone]).float().mean())}
    if evidence:
        metrics = measure_classifier(model, test, forget_classes=labels, train=seed.material.train).metrics
        values = {metric.name: metric.value for metric in metrics}
        found |= {name: values[name] for name in ("feature_probe_accuracy", "relearning_steps")}
    return found


def rows_to_compute(seeds: list[int], methods: list[str], evidence: bool) -> Iterator[tuple[int, str, bool]]:
    """Yield seed, method and whether the evidence is measured: the scrubs of every seed first."""
    for chosen in (SCRUBS, BASELINES):
        for seed in seeds:
            for method in (method for method in chosen if method in methods):
                yield seed, method, False
    if evidence:
        yield from (
            (seeds[0], method, True) for method in ("before", *SCRUBS, *BASELINES) if method in [*methods, "before"]
        )


def compute(
    folder: Path, recipe: str, seeds: list[int], methods: list[str], classes: list[int], evidence: bool
) -> list[Row]:
    """Compute what is missing, and return all rows."""
    rows = stored(folder)
    done = {(row["seed"], row["class"], row["method"], row["evidence"]) for row in rows}
    current: Seed | None = None
    for number, method, measured in rows_to_compute(seeds, methods, evidence):
        for label in classes:
            if (number, label, method, measured) in done:
                continue
            if current is None or current.seed != number:
                current = Seed(recipe, number)
            if method == "before":
                model, seconds, noted = current.model, 0.0, {}
            else:
                model, seconds, noted = current.forget(method, label)
            row = {"seed": number, "class": label, "method": method, "evidence": measured, "seconds": seconds, **noted}
            row["a_r_before"] = figures(current.model, current, [label])["a_r"]
            row |= figures(model, current, [label], measured)
            rows.append(row)
            store(folder, row)
    return rows


def stored(folder: Path) -> list[Row]:
    """The rows that were computed before."""
    file = folder / "rows.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def store(folder: Path, row: Row) -> None:
    """Keep a row for the next call."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rows.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def table(rows: list[Row]) -> str:
    """The rows by method: mean and worst of E_F and of the change of A_R, seconds, and the evidence."""
    header = (
        "method",
        "runs",
        "E_F mean / worst",
        "A_R mean",
        "change mean / worst",
        "s",
        "feature probe",
        "relearning",
    )
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        plain = [row for row in rows if row["method"] == method and not row["evidence"]] or [
            row for row in rows if row["method"] == method
        ]
        measured = [row for row in rows if row["method"] == method and row["evidence"]]
        probe = _of(statistics.mean, [row["feature_probe_accuracy"] for row in measured], ".3f")
        steps = _of(statistics.median, [row["relearning_steps"] for row in measured], ".0f")
        lines.append((method.replace("_", " "), *summary(plain), probe, steps))
    return markdown(header, lines)


def summary(rows: list[Row]) -> tuple[str, ...]:
    """The number of rows, mean and worst of E_F, mean of A_R, mean and worst of its change, and the median seconds."""
    errors, changes = [row["e_f"] for row in rows], [row["a_r"] - row["a_r_before"] for row in rows]
    return (
        str(len(rows)),
        f"{statistics.mean(errors):.2f} / {min(errors):.1f}",
        f"{statistics.mean(row['a_r'] for row in rows):.2f}",
        f"{statistics.mean(changes):+.2f} / {min(changes):+.2f}",
        _of(statistics.median, [row["seconds"] for row in rows], ".2f"),
    )


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(
        [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *(f"| {' | '.join(line)} |" for line in lines)]
    )


def _of(function: Callable[[list[float]], float], values: list[Any], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(function(known), form) if known else "–"


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="fisher_scrub/mnist_mlp")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=[*SCRUBS, *BASELINES], choices=[*SCRUBS, *BASELINES])
    parser.add_argument("--classes", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--no_evidence", action="store_true", help="leave out the feature probe and relearning")
    given = parser.parse_args()
    rows = compute(given.folder, given.recipe, given.seeds, given.methods, given.classes, not given.no_evidence)
    print(table(rows))


if __name__ == "__main__":
    main()

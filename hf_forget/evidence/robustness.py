"""What adversarial robustness is worth: accuracy under attacks that the model was not trained against."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError
from .adversarial import PixelModel, right_under_pgd
from .intervals import paired_difference, wilson
from .labelled_inputs import LabelledInputs
from .report import Metric, Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from .robustness_options import RobustnessOptions

# At this distance every image can become grey, so no model can be right.
HUGE = 0.5
# Images on which what must vanish at a huge distance is counted.
HUGE_IMAGES = 200
RULE = (
    "better: the 95 % interval of the paired difference of robust accuracy under the strongest attack that ran, model "
    "minus the same net adversarially trained without a teacher, on the same test images, lies above 0. worse: it "
    "lies below 0. same: otherwise."
)
# The difference-of-logits ratio looks at so many classes.
_DLR_CLASSES = 4
Report = Callable[[str], None]


@dataclass
class RobustnessMeasurement:
    """What was found, as metrics, and by image.

    Args:
        metrics: Figures.
        records: For each attack which images are right under it, JSON-able.
        series: Accuracy over ε.
    """

    metrics: list[Metric]
    records: dict[str, Any]
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)


def measure_robustness(
    model: PixelModel,
    test: LabelledInputs,
    *,
    epsilon: float,
    options: "RobustnessOptions",
    report: Report = lambda line: None,
) -> RobustnessMeasurement:
    """Measure a classifier on test images as they are and under attack.

    Args:
        model ([`PixelModel`]): In evaluation mode.
        test: Test images, pixels in [0, 1], with labels.
        epsilon: Largest change of a pixel.
        options: What is measured, and on how many images.
        report: Called with a line of text where an attack begins.

    Raises:
        InputError: If pyautoattack is needed and missing.
    """
    size = options.robustness_batch_size
    clean = _by_batch(test, size, lambda pixels, labels: _right(model, pixels, labels))
    metrics = [_metric("accuracy", clean, "share of test images right")]
    records: dict[str, Any] = {"clean": clean.int().tolist()}

    def pgd_accuracy(count: int, distance: float, restarts: int) -> "Tensor":
        generator = torch.Generator().manual_seed(options.robustness_seed)
        return _by_batch(
            test.first(count),
            size,
            lambda pixels, labels: right_under_pgd(
                model,
                pixels,
                labels,
                epsilon=distance,
                steps=options.pgd_steps,
                restarts=restarts,
                generator=generator,
            ),
        )

    report(f"PGD with {options.pgd_steps} steps and {options.pgd_restarts} restarts")
    right = pgd_accuracy(options.pgd_images, epsilon, options.pgd_restarts)
    what = f"share of the first {len(right)} test images right under PGD-{options.pgd_steps}, ε {epsilon:.4g}"
    metrics.append(_metric("robust_accuracy_pgd", right, what))
    records["pgd"] = right.int().tolist()
    right = pgd_accuracy(HUGE_IMAGES, HUGE, 1)
    metrics.append(_metric("accuracy_at_huge_epsilon", right, f"the same at ε {HUGE}, where no model can be right"))
    records["huge"] = right.int().tolist()
    if options.attacks:
        report(f"AutoAttack: {', '.join(options.attacks)}")
        right = right_under_auto_attack(
            model, test.first(options.auto_images), epsilon=epsilon, attacks=options.attacks, options=options
        )
        what = f"share of the first {len(right)} test images right under {', '.join(options.attacks)}, ε {epsilon:.4g}"
        metrics.append(_metric("robust_accuracy_auto", right, what))
        records["auto"] = right.int().tolist()
    if options.square_images:
        report("the Square attack")
        right = right_under_auto_attack(
            model, test.first(options.square_images), epsilon=epsilon, attacks=["square"], options=options
        )
        metrics.append(_metric("robust_accuracy_square", right, f"the same of {len(right)} under Square, no gradients"))
        records["square"] = right.int().tolist()
    series = {}
    if options.curve_points:
        report("accuracy over ε")
        distances = [2 * epsilon * place / options.curve_points for place in range(1, options.curve_points + 1)]
        found = [float(pgd_accuracy(HUGE_IMAGES, distance, 1).float().mean()) for distance in distances]
        start = float(clean[:HUGE_IMAGES].float().mean())
        series["accuracy_over_epsilon"] = {"x": [0.0, *distances], "y": [start, *found]}
    return RobustnessMeasurement(metrics, records, series)


def right_under_auto_attack(
    model: PixelModel,
    data: LabelledInputs,
    *,
    epsilon: float,
    attacks: Sequence[str],
    options: "RobustnessOptions",
) -> "Tensor":
    """Return which images stay right under parts of AutoAttack, each on what the ones before have left.

    Raises:
        InputError: If pyautoattack is missing, or there are too few classes.

    Source: Croce & Hein 2020, as `pyautoattack` has it.
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError:
        raise InputError(
            "AutoAttack needs pyautoattack: pip install 'hf-forget[vision]', or leave it out with --auto_attacks '[]' "
            "--square_images 0"
        ) from None
    device = next(model.parameters()).device
    attack = AutoAttack(
        model, attacks=list(attacks), version="custom", eps=epsilon, seed=options.robustness_seed, device=str(device)
    )
    attack.verbose = False
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    with torch.no_grad():
        classes = model(data.inputs[:1].to(device)).shape[1]
    if classes < _DLR_CLASSES and set(attacks) & {"apgd-t", "apgd-dlr"}:
        raise InputError(
            f"apgd-t and apgd-dlr need {_DLR_CLASSES} classes, and the model has {classes}; give --auto_attacks "
            "'[apgd-ce, square]'"
        )
    # The standard version's, but for fewer classes than it expects.
    attack.apgd.n_restarts = attack.fab.n_restarts = 1
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(9, classes - 1)
    attack.square.n_queries = options.square_queries
    attacked, _ = attack.run_standard_evaluation(data.inputs, data.labels, batch_size=options.robustness_batch_size)
    return _by_batch(
        LabelledInputs(attacked, data.labels),
        options.robustness_batch_size,
        lambda pixels, labels: _right(model, pixels, labels),
    )


def judge_robustness(before: dict[str, Any], after: dict[str, Any]) -> Verdict:
    """Say whether a student is more robust than the same net without a teacher.

    Args:
        before, after: `records` of two measurements on the same images.
    """
    strongest = "auto" if "auto" in after else "pgd"
    found = {name: _difference(before[name], after[name]) for name in (strongest, "clean")}
    value = "better" if found[strongest].low > 0 else "worse" if found[strongest].high < 0 else "same"
    checks = [
        {
            "name": f"{what}_accuracy_beside_no_teacher",
            "passed": found[name].high >= least,
            "detail": f"{100 * found[name].difference:+.1f} points on {len(after[name])} test images, 95 % interval "
            f"{100 * found[name].low:+.1f} to {100 * found[name].high:+.1f}",
        }
        for name, what, least in ((strongest, "robust", 0.0), ("clean", "clean", -0.01))
    ]
    return Verdict(value, RULE, [*checks, *masking_checks(after)])


def masking_checks(records: dict[str, Any]) -> list[dict[str, Any]]:
    """Look for gradients that hide what an attack could do.

    Args:
        records: Those of a measurement.
    """

    def share(name: str, count: int) -> float:
        return sum(records[name][:count]) / count

    huge = share("huge", len(records["huge"]))
    checks = [
        {
            "name": "no_accuracy_at_huge_epsilon",
            "passed": huge <= 0.01,
            "detail": f"{100 * huge:.1f} % of {len(records['huge'])} images right at ε {HUGE} (1 % allowed)",
        }
    ]
    if "auto" in records:
        count = min(len(records["auto"]), len(records["pgd"]))
        auto, pgd = share("auto", count), share("pgd", count)
        checks.append(
            {
                "name": "auto_attack_is_the_stronger_one",
                "passed": auto <= pgd,
                "detail": f"{100 * auto:.1f} % right under it, {100 * pgd:.1f} % under PGD, on {count} images",
            }
        )
    if "square" in records:
        white = "auto" if "auto" in records else "pgd"
        count = min(len(records["square"]), len(records[white]))
        square, other = share("square", count), share(white, count)
        checks.append(
            {
                "name": "gradients_help_the_attacker",
                "passed": square >= other,
                "detail": f"{100 * square:.1f} % right under Square, which has none, {100 * other:.1f} % under attacks "
                f"that have, on {count} images",
            }
        )
    return checks


def _difference(before: Sequence[int], after: Sequence[int]) -> Any:
    import numpy as np

    return paired_difference(np.array(before), np.array(after))


def _metric(name: str, right: "Tensor", definition: str) -> Metric:
    count, rows = int(right.sum()), len(right)
    return Metric(name, "quality", "higher", count / rows, rows, wilson(count, rows), definition=definition)


def _right(model: PixelModel, pixels: "Tensor", labels: "Tensor") -> "Tensor":
    with torch.no_grad():
        return model(pixels).argmax(1) == labels


def _by_batch(data: LabelledInputs, size: int, right: "Callable[[Tensor, Tensor], Tensor]") -> "Tensor":
    """What `right` says of all images, on the CPU, shape `(n,)`."""
    batches = zip(data.inputs.split(size), data.labels.split(size), strict=True)
    return torch.cat([right(pixels, labels).cpu() for pixels, labels in batches])

"""What a recipe of `ardir` may say about the model and the evidence."""

from dataclasses import dataclass, field

from ..evidence.robustness_options import RobustnessOptions
from ..options import ModelOptions


@dataclass
class RobustModelOptions(ModelOptions):
    """[`ModelOptions`], with the model's name left out where the recipe begins from random weights."""

    model_name_or_path: str | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "Local folder or Hub id of the student; without it training begins from random weights."},
    )


@dataclass
class RobustEvidenceOptions(RobustnessOptions):
    """[`RobustnessOptions`], and what a run adds to it.

    Args:
        measure_teacher (`bool`, defaults to `True`): Measure the teacher, too, as the reference of every figure.
    """

    measure_teacher: bool = field(default=True, metadata={"help": "Measure the teacher as the reference."})

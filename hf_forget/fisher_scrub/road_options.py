"""What a recipe of `fisher_scrub` may say about the model and the evidence."""

from dataclasses import dataclass, field

from ..evidence.classifier_options import ClassifierEvidenceOptions
from ..options import ModelOptions


@dataclass
class ScrubModelOptions(ModelOptions):
    """[`ModelOptions`], with the model's name left out where the recipe trains a parent."""

    model_name_or_path: str | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "Local folder or Hub id of a classifier; without it the recipe trains a parent."},
    )


@dataclass
class ScrubEvidenceOptions(ClassifierEvidenceOptions):
    """[`ClassifierEvidenceOptions`], and what a run adds to it.

    Args:
        retrain_reference (`bool`, defaults to `True`): Train a parent without the forgotten classes, as the reference
            of every figure; cached. Without it the verdict cannot be *forgotten*.
        publish_target (`bool`, defaults to `False`): Name the forgotten classes in the files that may be published.
    """

    retrain_reference: bool = field(
        default=True, metadata={"help": "Train a parent without the forgotten classes as the reference; cached."}
    )
    publish_target: bool = field(
        default=False, metadata={"help": "Name the target in the files that may be published."}
    )

    @property
    def evidence_seed(self) -> int:
        """The seed of measuring, as every method's evidence has it."""
        return self.classifier_evidence_seed

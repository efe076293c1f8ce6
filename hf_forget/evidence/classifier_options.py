"""The options of measuring classifiers."""

from dataclasses import dataclass, field

from ..errors import InputError


@dataclass
class ClassifierEvidenceOptions:
    """How forgetting is measured in a classifier.

    Args:
        classifier_batch_size (`int`, defaults to `500`): Inputs per batch.
        probe_rows (`int`, defaults to `500`): Inputs of a forgotten class, and of the others, on which the feature
            probe is fitted and counted.
        membership_rows (`int`, defaults to `1000`): Training inputs of the forgotten classes whose loss is compared
            with that of unseen ones.
        relearning_learning_rate (`float`, defaults to `0.01`): Step size of relearning.
        relearning_batch_size (`int`, defaults to `64`): Inputs per step of relearning.
        relearning_max_steps (`int`, defaults to `500`): After so many steps relearning is given up.
        relearning_seeds (`int`, defaults to `3`): Runs of relearning; their median counts.
        classifier_evidence_seed (`int`, defaults to `0`): Seed of the choice of inputs and of relearning.

    Raises:
        InputError: If a value is out of range.
    """

    classifier_batch_size: int = field(default=500, metadata={"help": "Inputs per batch while measuring."})
    probe_rows: int = field(
        default=500, metadata={"help": "Inputs of a forgotten class, and of the others, for the feature probe."}
    )
    membership_rows: int = field(
        default=1000, metadata={"help": "Training inputs of the forgotten classes whose loss is compared."}
    )
    relearning_learning_rate: float = field(default=0.01, metadata={"help": "Step size of relearning."})
    relearning_batch_size: int = field(default=64, metadata={"help": "Inputs per step of relearning."})
    relearning_max_steps: int = field(default=500, metadata={"help": "After so many steps relearning is given up."})
    relearning_seeds: int = field(default=3, metadata={"help": "Runs of relearning; their median counts."})
    classifier_evidence_seed: int = field(
        default=0, metadata={"help": "Seed of the choice of inputs and of relearning."}
    )

    def __post_init__(self) -> None:
        smallest = {
            "classifier_batch_size": 1,
            "probe_rows": 2,
            "membership_rows": 1,
            "relearning_batch_size": 2,
            "relearning_max_steps": 1,
            "relearning_seeds": 1,
            "classifier_evidence_seed": 0,
        }
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} must be {least} or more, got {getattr(self, name)}.")
        if not self.relearning_learning_rate > 0:
            raise InputError(f"relearning_learning_rate must be above 0, got {self.relearning_learning_rate}.")

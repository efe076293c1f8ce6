"""What a recipe of `condensed_merge` may say about the models and the evidence."""

from dataclasses import dataclass, field

from ..errors import InputError
from ..options import ModelOptions


@dataclass
class MergeModelOptions(ModelOptions):
    """[`ModelOptions`], with a list of models in the place of one, or none where the recipe trains them.

    Args:
        model_name_or_path (`str`, *optional*): Not used; a merge has several models.
        model_names_or_paths (`list[str]`, *optional*): Local folders or Hub ids of classifiers of one architecture, one
            for each set of images.

    Raises:
        InputError: If one model is given, or a name is empty.
    """

    model_name_or_path: str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Not used here; see model_names_or_paths."}
    )
    model_names_or_paths: list[str] | None = field(
        default=None, metadata={"help": "Classifiers to merge, one for each set; the recipe trains them otherwise."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_name_or_path is not None:
            raise InputError("a merge has several models; give model_names_or_paths, a list")
        if self.model_names_or_paths is not None and len(self.model_names_or_paths) < 2:
            raise InputError("model_names_or_paths names fewer than two models; give one for each set of images")
        if any(not name.strip() for name in self.model_names_or_paths or ()):
            raise InputError("a name in model_names_or_paths is empty")


@dataclass
class MergeEvidenceOptions:
    """What is measured beside the merged model.

    Args:
        joint_reference (`bool`, defaults to `True`): Train one model on all sets, as the reference of every figure;
            cached.
        merge_baselines (`bool`, defaults to `True`): Measure other ways: averaging, matching by weights, rescaling
            units, all models together, a random subset of equal size.
        curve_points (`int`, defaults to 25): Points between the models at which accuracy and loss are measured; 0 for
            none.
        merge_evidence_seed (`int`, defaults to 0): Seed of what is drawn for it.
        publish_target (`bool`, defaults to `True`): Nothing is hidden in a merge.

    Raises:
        InputError: If `curve_points` is 1 or 2, or below 0.
    """

    joint_reference: bool = field(default=True, metadata={"help": "Train one model on all sets as the reference."})
    merge_baselines: bool = field(default=True, metadata={"help": "Measure other ways of merging, too."})
    curve_points: int = field(default=25, metadata={"help": "Points between the models that are measured; 0 for none."})
    merge_evidence_seed: int = field(default=0, metadata={"help": "Seed of what is drawn for the evidence."})
    publish_target: bool = field(default=True, metadata={"help": "Nothing is hidden in a merge."})

    @property
    def evidence_seed(self) -> int:
        """The seed of measuring, as every method's evidence has it."""
        return self.merge_evidence_seed

    def __post_init__(self) -> None:
        if self.curve_points < 0 or self.curve_points in (1, 2):
            raise InputError(f"curve_points is {self.curve_points}; give 3 or more, or 0 for none")

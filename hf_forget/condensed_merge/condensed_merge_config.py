"""Every option of `MergeWithCondensed`, and of the recipes of `condensed_merge`."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from ..errors import InputError, unknown
from ..models.parent_options import ParentOptions
from .condensation import CondensationOptions

Matching = Literal["straight_through", "weights", "activations", "none"]
Data = Literal["condensed", "full", "subset", "none"]
Head = Literal["shared", "joined"]


@dataclass
class MergeWithCondensedConfig(ParentOptions):
    """Arguments of [`MergeWithCondensed`]; those of [`ParentOptions`] and those about data count in recipes only.

    Args:
        output_dir (`str`, *optional*): Where the merged model goes.
        matching (`str`, *optional*): How units are matched: `straight_through`, `weights`, `activations` or `none`, the
            naive average. Straight-through matching where there are data, otherwise by weights.
        head (`str`, defaults to `"shared"`): `shared` where the models use the same outputs for different classes,
            `joined` where the merged model has an output for each class of each model.
        matching_steps (`int`, defaults to 300): Steps of straight-through matching.
        matching_learning_rate (`float`, defaults to 10.0): Its rate.
        matching_batch_size (`int`, defaults to 1024): Its inputs per step.
        rescale (`bool`, defaults to `False`): Whether hidden units are given the spread that they have in the models
            that are merged (REPAIR). Norm statistics are estimated anew in any case, where there are data.
        merge_seed (`int`, defaults to 0): Of order and choice.
        dataset_names (`list[str]`, *optional*): A set of images for each model, as
            [`~hf_forget.data.images.load_images`] takes them.
        rotations (`list[int]`, *optional*): By how many degrees the images of each set are turned, multiples of 90.
        data (`str`, defaults to `"condensed"`): What stands for the data in the merge: `condensed`, `full`, `subset`
            (as many images as condensed ones, drawn at random) or `none`.
        images_per_class (`int`, defaults to 10): Condensed images of each class, or images of a subset.
        condensation (`str`, defaults to `"dm"`): `dm` or `dc`, see
            [`~hf_forget.condensed_merge.condensation.CondensationOptions`].
        condensation_steps (`int`, defaults to 1200): Its steps.
        condensation_learning_rate (`float`, defaults to 0.1): Its rate.
        condensation_batch_size (`int`, defaults to 256): Images of each class per step.
        full_images (`int`, defaults to 20000): With `full`, so many images of each set, drawn at random, are used.
        hub_model_id (`str`, *optional*): Repository that `push_to_hub` writes to.

    Raises:
        InputError: If a value is out of range.
    """

    output_dir: str | None = field(default=None, metadata={"help": "Where the merged model goes."})
    matching: Matching | None = field(
        default=None, metadata={"help": "How units are matched: straight_through, weights, activations or none."}
    )
    head: Head = field(
        default="shared", metadata={"help": "shared, or joined: an output for each class of each model."}
    )
    matching_steps: int = field(default=300, metadata={"help": "Steps of straight-through matching."})
    matching_learning_rate: float = field(default=10.0, metadata={"help": "Its rate."})
    matching_batch_size: int = field(default=1024, metadata={"help": "Its inputs per step."})
    rescale: bool = field(default=False, metadata={"help": "Rescale hidden units as REPAIR does."})
    merge_seed: int = field(default=0, metadata={"help": "Seed of order and choice."})
    dataset_names: list[str] | None = field(default=None, metadata={"help": "A set of images for each model."})
    rotations: list[int] | None = field(
        default=None, metadata={"help": "By how many degrees each set is turned, multiples of 90."}
    )
    data: Data = field(default="condensed", metadata={"help": "What stands for the data in the merge."})
    images_per_class: int = field(default=10, metadata={"help": "Condensed images of each class."})
    condensation: Literal["dm", "dc"] = field(
        default="dm", metadata={"help": "Distribution matching or gradient matching."}
    )
    condensation_steps: int = field(default=1200, metadata={"help": "Steps of condensation."})
    condensation_learning_rate: float = field(default=0.1, metadata={"help": "Its rate."})
    condensation_batch_size: int = field(default=256, metadata={"help": "Images of each class per step."})
    full_images: int = field(default=20_000, metadata={"help": "Images of each set that stand for all of it."})
    hub_model_id: str | None = field(default=None, metadata={"help": "Repository that push_to_hub writes to."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, accepted in (("matching", Matching), ("head", Head), ("data", Data)):
            value, allowed = getattr(self, name), get_args(accepted)
            if value is not None and value not in allowed:
                raise InputError(unknown(name, value, allowed))
        for name in ("matching_steps", "matching_batch_size", "full_images"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.matching_learning_rate <= 0:
            raise InputError(f"matching_learning_rate is {self.matching_learning_rate}; it must be above 0")
        if self.dataset_names is not None and len(self.dataset_names) < 2:
            raise InputError("dataset_names names fewer than two sets; give one for each model")
        if self.rotations is not None:
            if any(degrees % 90 for degrees in self.rotations):
                raise InputError(f"rotations is {self.rotations}; only multiples of 90 degrees keep every pixel")
            if self.dataset_names is not None and len(self.rotations) != len(self.dataset_names):
                counts = f"{len(self.rotations)} rotations and {len(self.dataset_names)} dataset_names"
                raise InputError(f"there are {counts}; give one rotation for each set")
        self.condensation_options()

    def condensation_options(self, seed: int = 0) -> CondensationOptions:
        """Return the options of the condensation of one set."""
        return CondensationOptions(
            condensation=self.condensation,
            images_per_class=self.images_per_class,
            steps=self.condensation_steps,
            learning_rate=self.condensation_learning_rate,
            batch_size=self.condensation_batch_size,
            seed=seed,
        )

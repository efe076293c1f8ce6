"""The options by which a recipe trains the small model that it works on."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from ..errors import InputError, unknown

ParentArchitecture = Literal["mlp", "convnet"]
ParentOptimizer = Literal["adamw", "sgd"]


@dataclass
class ParentOptions:
    """How the model that a recipe changes is trained where none is given by name.

    Args:
        parent (`str`, defaults to `"mlp"`): `mlp` or `convnet`; see `hf_forget.models`.
        parent_hidden_sizes (`list[int]`, *optional*): Units of the hidden layers of an MLP, or channels of the
            convolutions; the architecture's own if not given.
        parent_activation (`str`, *optional*): Activation function, as in `transformers`; the architecture's own if not
            given.
        parent_epochs (`float`, defaults to 8): Epochs of training.
        parent_optimizer (`str`, defaults to `"adamw"`): `adamw`, or `sgd` with a momentum of 0.9.
        parent_learning_rate (`float`, defaults to 1e-3): Peak learning rate, falling linearly to 0.
        parent_weight_decay (`float`, defaults to 0.0): Weight decay.
        parent_batch_size (`int`, defaults to 128): Images per step.
        parent_seed (`int`, defaults to 0): Seed of the weights and of the order of the images.
        parent_train_images (`int`, *optional*): Train on so many images only, the first ones; for tests.
        parent_test_images (`int`, *optional*): Measure on so many test images only, the first ones; for tests.

    Raises:
        InputError: If a value is out of range.
    """

    parent: ParentArchitecture = field(
        default="mlp", metadata={"help": "Architecture of the model that the recipe trains, where none is given."}
    )
    parent_hidden_sizes: list[int] | None = field(
        default=None, metadata={"help": "Units of its hidden layers, or channels of its convolutions."}
    )
    parent_activation: str | None = field(default=None, metadata={"help": "Its activation function."})
    parent_epochs: float = field(default=8, metadata={"help": "Epochs of its training."})
    parent_optimizer: ParentOptimizer = field(default="adamw", metadata={"help": "Optimizer of its training."})
    parent_learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of its training."})
    parent_weight_decay: float = field(default=0.0, metadata={"help": "Weight decay of its training."})
    parent_batch_size: int = field(default=128, metadata={"help": "Images per step of its training."})
    parent_seed: int = field(default=0, metadata={"help": "Seed of its weights and of the order of the images."})
    parent_train_images: int | None = field(default=None, metadata={"help": "Train it on the first so many images."})
    parent_test_images: int | None = field(default=None, metadata={"help": "Measure on the first so many test images."})

    def __post_init__(self) -> None:
        for name, accepted in (("parent", ParentArchitecture), ("parent_optimizer", ParentOptimizer)):
            if getattr(self, name) not in get_args(accepted):
                raise InputError(unknown(name, getattr(self, name), get_args(accepted)))
        if self.parent_hidden_sizes is not None and (not self.parent_hidden_sizes or min(self.parent_hidden_sizes) < 1):
            raise InputError(
                f"parent_hidden_sizes is {self.parent_hidden_sizes}; give at least one size, each 1 or more"
            )
        for name in ("parent_epochs", "parent_learning_rate", "parent_batch_size"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("parent_weight_decay", "parent_seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more")
        for name in ("parent_train_images", "parent_test_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give 1 or more")

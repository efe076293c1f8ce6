"""Every option of the recipes of `ardir`: those of the trainer, and what is trained on what."""

from dataclasses import dataclass, field
from typing import Literal

from ..errors import InputError
from ..models.parent_options import ParentOptions
from .ardir_config import ARDIRConfig
from .objectives import get_objective


@dataclass
class RobustRecipeConfig(ARDIRConfig):
    """[`ARDIRConfig`], with images, nets and teacher.

    Args:
        dataset_name (`str`, *optional*): Images as `load_images` takes them: `embedded:mnist`, a folder, a Hub id.
        train_images (`int`, *optional*): Train the student on the first so many images; on all if not given.
        test_images (`int`, *optional*): Measure on the first so many test images; on all if not given.
        validation_images (`int`, *optional*): Take the last so many training images out of all training, and measure on
            them in the place of test images: for choosing options.
        exclude_classes (`list[int]`, *optional*): Labels whose images the student does not see, where its teacher has
            forgotten them; what it makes of them is measured apart.
        net (`str`, defaults to `"convnet"`): Architecture of student and teacher where no model is given: `mlp` or
            `convnet`.
        net_hidden_sizes (`list[int]`, *optional*): Its sizes.
        teacher_model_name_or_path (`str`, *optional*): Folder or Hub id of the teacher; the recipe trains one if not
            given.
        teacher_hidden_sizes (`list[int]`, *optional*): Sizes of that one; the student's if not given.
        teacher_objective (`str`, defaults to `"at"`): What it is trained by: `at` or `trades`.
        teacher_epochs (`float`, defaults to `30`): Epochs of its training.
        teacher_train_images (`int`, *optional*): Train it on the first so many images; on all if not given.
        teacher_learning_rate (`float`, defaults to `1e-3`): Peak rate of its training. Attack, batches and optimizer
            are those of the student.
        teacher_ema_decay (`float`, defaults to `0.999`): Decay of the average of its weights.
        teacher_seed (`int`, defaults to `0`): Seed of its weights and of its training.

    Raises:
        InputError: If a value is out of range.
    """

    dataset_name: str | None = field(
        default=None, metadata={"help": "Images: embedded:mnist, embedded:fashion_mnist, a folder or a Hub id."}
    )
    train_images: int | None = field(default=None, metadata={"help": "Train the student on the first so many images."})
    test_images: int | None = field(default=None, metadata={"help": "Measure on the first so many test images."})
    validation_images: int | None = field(
        default=None, metadata={"help": "Measure on the last so many training images, which no net sees then."}
    )
    exclude_classes: list[int] | None = field(
        default=None, metadata={"help": "Labels that the teacher has forgotten and the student does not see."}
    )
    net: Literal["mlp", "convnet"] = field(
        default="convnet", metadata={"help": "Architecture of student and teacher where no model is given."}
    )
    net_hidden_sizes: list[int] | None = field(default=None, metadata={"help": "Its sizes."})
    teacher_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of the teacher; the recipe trains one otherwise."}
    )
    teacher_hidden_sizes: list[int] | None = field(default=None, metadata={"help": "Sizes of that one."})
    teacher_objective: str = field(default="at", metadata={"help": "What it is trained by: at or trades."})
    teacher_epochs: float = field(default=30, metadata={"help": "Epochs of its training."})
    teacher_train_images: int | None = field(
        default=None, metadata={"help": "Train it on the first so many images; on all if not given."}
    )
    teacher_learning_rate: float = field(default=1e-3, metadata={"help": "Peak rate of its training."})
    teacher_ema_decay: float = field(default=0.999, metadata={"help": "Decay of the average of its weights."})
    teacher_seed: int = field(default=0, metadata={"help": "Seed of its weights and of its training."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if get_objective(self.teacher_objective).uses_teacher:
            raise InputError(f"teacher_objective '{self.teacher_objective}' needs a teacher itself; give at or trades")
        for name in ("train_images", "test_images", "validation_images", "teacher_train_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; give 1 or more")
        for name in ("teacher_epochs", "teacher_learning_rate"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not 0 <= self.teacher_ema_decay < 1:
            raise InputError(f"teacher_ema_decay is {self.teacher_ema_decay}; it must be 0 or more and below 1")
        self.net_options()

    def net_options(self, hidden_sizes: list[int] | None = None) -> ParentOptions:
        """Return architecture and sizes as `hf_forget.models.parents` takes them."""
        return ParentOptions(parent=self.net, parent_hidden_sizes=hidden_sizes or self.net_hidden_sizes)

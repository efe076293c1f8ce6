"""Every option of `FisherScrubber`, and of the recipes of `fisher_scrub`."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from ..errors import InputError
from ..models.parent_options import ParentOptions
from .importance import Importance
from .selection import Selection


@dataclass
class FisherScrubConfig(ParentOptions):
    """Arguments of [`FisherScrubber`]; those of [`ParentOptions`] count in recipes only.

    Args:
        output_dir (`str`, *optional*): Where the scrubbed model goes.
        dataset_name (`str`, *optional*): Images as `load_images` takes them: `embedded:mnist`, a folder, a Hub id.
        forget_classes (`list[int]`, *optional*): Labels of the classes to forget.
        codes (`str`, *optional*): File of the model's mnemonic codes, or the folder that holds it. Without it the
            parent is trained by the recipe, with codes drawn by `codes_seed`.
        codes_seed (`int`, defaults to 0): Seed of the codes that are drawn.
        t_mix (`float`, defaults to 0.1): Probability with which training replaces a sample by the code of its class.
        code_epochs (`float`, defaults to 0): Where a model is given and its codes are not: epochs of training with new
            codes mixed in, by the options of the parent's training.
        importance (`str`, defaults to `"logit"`): Importance of a weight for a code: `loss` is the paper's empirical
            Fisher information at the code's class, `logit` its limit at high temperature, which does not hang on how
            certain the model is; see `code_importance`.
        lambda_1 (`float`, *optional*): Largest multiple of the ratio `η`. If neither strength is given they are
            searched; if one is given, the other is out of force (with `selection: codes` it is searched).
        lambda_2 (`float`, *optional*): Largest change of a weight in each tensor; see `lambda_1`.
        sign (`int`, *optional*): −1 or 1; both are tried if not given.
        selection (`str`, defaults to `"margin"`): How the strengths are chosen: `margin` takes, of the gentlest
            that turn the margins of codes, synthetic inputs and given images of the forgotten classes into their
            negative, the one that keeps most of the rest; `codes` is the paper's, the highest `A_R + E_F` on the codes.
        forget_margin (`float`, defaults to 1.0): How firmly every witness of a forgotten class must be rejected, in
            units of how firmly those of its kind were held before.
        synthetic_per_class (`int`, defaults to 8): Inputs per class that are made from the model itself, by gradient
            descent on noise, and judge the choice beside the codes; 0 leaves them out.
        synthetic_steps (`int`, defaults to 8): Steps of that descent.
        images_per_class (`int`, defaults to 0): Training images per class that a recipe's choice may look at.
        sequential (`bool`, defaults to `False`): Scrub several classes one after another, with the ratio computed
            anew for each, instead of at once.
        rename_forgotten (`bool`, defaults to `True`): Call a forgotten class `forgotten_<label>` in `id2label`. Its
            label and its output stay, so that the other labels keep their numbers.
        hub_model_id (`str`, *optional*): Repository that `push_to_hub` writes to.

    Raises:
        InputError: If a value is out of range; the message says what is accepted.
    """

    output_dir: str | None = field(default=None, metadata={"help": "Where the scrubbed model goes."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "Images: embedded:mnist, embedded:fashion_mnist, a folder or a Hub id."}
    )
    forget_classes: list[int] | None = field(default=None, metadata={"help": "Labels of the classes to forget."})
    codes: str | None = field(
        default=None, metadata={"help": "File of the model's codes; without it the recipe trains the parent."}
    )
    codes_seed: int = field(default=0, metadata={"help": "Seed of the codes that are drawn."})
    t_mix: float = field(
        default=0.1, metadata={"help": "Probability with which training replaces a sample by the code of its class."}
    )
    code_epochs: float = field(
        default=0.0, metadata={"help": "Epochs by which a given model without codes learns new ones."}
    )
    importance: Literal["logit", "loss"] = field(
        default="logit", metadata={"help": "Importance of a weight for a code; loss is the paper's."}
    )
    lambda_1: float | None = field(
        default=None, metadata={"help": "Largest multiple of the ratio; searched if neither is given."}
    )
    lambda_2: float | None = field(
        default=None, metadata={"help": "Largest change of a weight; searched if neither is given."}
    )
    sign: int | None = field(default=None, metadata={"help": "-1 or 1; both are tried if not given."})
    selection: Literal["margin", "codes"] = field(
        default="margin", metadata={"help": "How the strengths are chosen; codes is the paper's rule."}
    )
    forget_margin: float = field(
        default=1.0, metadata={"help": "How firmly witnesses of a forgotten class must be rejected."}
    )
    synthetic_per_class: int = field(
        default=8, metadata={"help": "Inputs per class made from the model itself to judge the choice; 0 for none."}
    )
    synthetic_steps: int = field(default=8, metadata={"help": "Steps of gradient descent that make them."})
    images_per_class: int = field(
        default=0, metadata={"help": "Training images per class that the choice may look at."}
    )
    sequential: bool = field(default=False, metadata={"help": "Scrub several classes one after another."})
    rename_forgotten: bool = field(
        default=True, metadata={"help": "Call a forgotten class forgotten_<label> in id2label."}
    )
    hub_model_id: str | None = field(default=None, metadata={"help": "Repository that push_to_hub writes to."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, accepted in (("importance", Importance), ("selection", Selection)):
            if getattr(self, name) not in get_args(accepted):
                choices = ", ".join(get_args(accepted))
                raise InputError(f"unknown {name} '{getattr(self, name)}'; accepted: {choices}")
        for name in ("lambda_1", "lambda_2", "forget_margin"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value}; it must be above 0 and finite")
        if self.sign not in (None, -1, 1):
            raise InputError(f"sign is {self.sign}; accepted: -1, 1, or nothing to try both")
        if not 0 < self.t_mix < 1:
            raise InputError(f"t_mix is {self.t_mix}; it must lie between 0 and 1")
        for name in ("synthetic_per_class", "images_per_class", "codes_seed", "code_epochs"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more")
        if self.synthetic_steps < 1:
            raise InputError(f"synthetic_steps is {self.synthetic_steps}; give 1 or more")
        if self.dataset_name is not None and not self.dataset_name.strip():
            raise InputError("dataset_name is empty; give a name such as embedded:mnist or leave the key out")
        if self.forget_classes is not None and not self.forget_classes:
            raise InputError("forget_classes is empty; name at least one class or leave the key out")

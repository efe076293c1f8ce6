"""Options that every method shares: which model to load and how, and whether to train a LoRA adapter."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .errors import InputError

if TYPE_CHECKING:
    from peft import LoraConfig


@dataclass
class ModelOptions:
    """Which model is loaded, in which precision, and in which precision it is saved.

    Args:
        model_name_or_path (`str`): Local folder, Hub id or embedded asset such as
            `embedded:smollm2-135m-instruct`.
        model_revision (`str`, *optional*): Branch, tag or commit on the Hub; the default branch if not given.
        dtype (`str`, defaults to `"float32"`): Precision of the weights in memory. Updates of the size used here
            round away in `bfloat16`, so training keeps `float32` weights under autocast unless told otherwise.
        trust_remote_code (`bool`, defaults to `False`): Run model code from the model's repository. Only the
            command line can set it, never a recipe file.
        attn_implementation (`str`, *optional*): Attention implementation of `transformers`, such as `sdpa`.
        load_in_4bit (`bool`, defaults to `False`): Load the base in 4 bits (bitsandbytes); needs `use_peft`.
        save_dtype (`str`, defaults to `"base"`): Precision of the saved checkpoint; `base` is that of the base.

    Raises:
        InputError: If a text is empty or 4-bit loading is asked for in an impossible combination.
    """

    model_name_or_path: str = field(
        metadata={"help": "Local folder, Hub id or embedded asset (embedded:smollm2-135m-instruct)."}
    )
    model_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit on the Hub; the default branch if not given."}
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="float32",
        metadata={"help": "Precision of the weights in memory; auto takes the checkpoint's own."},
    )
    trust_remote_code: bool = field(
        default=False,
        metadata={"help": "Run model code from the model's repository. Only on the command line, never in a recipe."},
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "Attention implementation of transformers: eager, sdpa …"}
    )
    load_in_4bit: bool = field(
        default=False, metadata={"help": "Load the base model in 4 bits (bitsandbytes); needs use_peft."}
    )
    save_dtype: Literal["base", "float32", "bfloat16"] = field(
        default="base", metadata={"help": "Precision of the saved checkpoint; base is that of the base model."}
    )

    def __post_init__(self) -> None:
        for name in ("model_name_or_path", "model_revision", "attn_implementation"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                raise InputError(f"{name} is empty; give a name or leave the key out.")


@dataclass
class LoraOptions:
    """Whether a LoRA adapter is trained instead of all weights, and its shape; names as in TRL's `ModelConfig`.

    Args:
        use_peft (`bool`, defaults to `False`): Train a LoRA adapter; the base with the adapter disabled is then the
            reference.
        lora_r (`int`, defaults to `16`): Rank of the adapter.
        lora_alpha (`int`, defaults to `32`): Numerator of the adapter's scale, `lora_alpha / lora_r`.
        lora_dropout (`float`, defaults to `0.0`): Dropout in front of the adapter, in [0, 1).
        lora_target_modules (`list[str]` or `str`, *optional*): Names of the modules that get an adapter, or
            `all-linear`; PEFT's choice for the architecture if not given.
        lora_modules_to_save (`list[str]`, *optional*): Modules that are trained in full beside the adapter.
        use_rslora (`bool`, defaults to `False`): Scale by `lora_alpha / sqrt(lora_r)`.
        use_dora (`bool`, defaults to `False`): Weight-decomposed LoRA (DoRA, arXiv 2402.09353).

    Raises:
        InputError: If a number is out of range.
    """

    use_peft: bool = field(default=False, metadata={"help": "Train a LoRA adapter instead of all weights."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the LoRA adapter."})
    lora_alpha: int = field(default=32, metadata={"help": "The adapter is scaled by lora_alpha / lora_r."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout in front of the adapter, in [0, 1)."})
    lora_target_modules: list[str] | str | None = field(
        default=None, metadata={"help": "Modules that get an adapter, or all-linear; PEFT's choice if not given."}
    )
    lora_modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules that are trained in full beside the adapter."}
    )
    use_rslora: bool = field(default=False, metadata={"help": "Scale by lora_alpha / sqrt(lora_r)."})
    use_dora: bool = field(default=False, metadata={"help": "Weight-decomposed LoRA (DoRA)."})

    def __post_init__(self) -> None:
        for name in ("lora_r", "lora_alpha"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be 1 or more, got {getattr(self, name)}.")
        if not 0 <= self.lora_dropout < 1:
            raise InputError(f"lora_dropout must be in [0, 1), got {self.lora_dropout}.")

    def peft_config(self, task_type: str | None = "CAUSAL_LM") -> "LoraConfig | None":
        """Return the PEFT config, or `None` when all weights are trained."""
        if not self.use_peft:
            return None
        from peft import LoraConfig

        return LoraConfig(
            r=self.lora_r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=self.lora_target_modules,
            modules_to_save=self.lora_modules_to_save,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            task_type=task_type,
        )


def check_together(model: ModelOptions, lora: LoraOptions) -> None:
    """Check what neither group of options can know alone.

    Raises:
        InputError: If 4-bit weights would have to be trained directly.
    """
    if model.load_in_4bit and not lora.use_peft:
        raise InputError("load_in_4bit needs use_peft: 4-bit weights cannot be trained directly. Set use_peft: true.")

"""The small base that all trainers of this package share: model loading, precision, and what is written to disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from .errors import InputError

TRAINING_ARGUMENTS_FILE = "training_args.json"


def supports_bf16() -> bool:
    """Whether bf16 autocast is fast on this machine: a GPU with bf16, or a CPU with avx512_bf16 or AMX."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class ForgetTrainer(Trainer):
    """A `transformers.Trainer` that keeps weights in safetensors only and writes no pickled arguments.

    Weights stay in the precision of the model that is passed in; a model given by name is loaded in float32, since
    updates of the size used for unlearning round away in bfloat16.
    """

    loss_is_scaled_for_ga = False

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        folder = Path(output_dir or self.args.output_dir)
        (folder / "training_args.bin").unlink(missing_ok=True)
        write_training_arguments(self.args, folder / TRAINING_ARGUMENTS_FILE)

    def _set_signature_columns_if_needed(self) -> None:
        if getattr(self, "_signature_columns", None) is None:
            self._signature_columns: list[str] | None = ["input_ids", "attention_mask", "labels"]


class ProgressLine(TrainerCallback):
    """Calls `progress(steps done, steps in all)` after every step.

    Args:
        progress: Where to report to.
    """

    def __init__(self, progress: Callable[[int, int], None]):
        self.progress = progress

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report one more step."""
        if state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps)


def write_training_arguments(args: TrainingArguments, path: Path) -> None:
    """Write the arguments as JSON, without tokens."""
    values = {key: value for key, value in args.to_dict().items() if "token" not in key}
    path.write_text(json.dumps(values, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")


def causal_lm_from(model: Any, *, quantization_config: Any = None) -> Any:
    """Return `model`, or load the causal LM that a string names (folder, Hub id or embedded asset) in float32."""
    if not isinstance(model, str):
        return model
    from transformers import AutoModelForCausalLM

    from .data.model_names import resolve_model

    path = resolve_model(model).path
    # Given as None it would hide that a checkpoint is quantized already.
    quantization = {"quantization_config": quantization_config} if quantization_config is not None else {}
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **quantization)


def tokenizer_for(model: Any) -> Any:
    """Load the tokenizer that belongs to a model or to the name of one."""
    from transformers import AutoTokenizer

    from .data.model_names import resolve_model

    name = model if isinstance(model, str) else model.config.name_or_path
    if not name:
        raise InputError("the model has no name to find its tokenizer by; give processing_class")
    return AutoTokenizer.from_pretrained(resolve_model(name).path)


def with_adapter(model: Any, peft_config: Any) -> Any:
    """Wrap `model` in the adapter of `peft_config`, or return it as it is when there is none.

    Raises:
        InputError: If the base is quantized and no adapter would be trained.
    """
    from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training

    quantized = getattr(model, "is_quantized", False)
    if peft_config is None:
        if quantized and not isinstance(model, PeftModel):
            raise InputError(
                "the base model is quantized, and quantized weights cannot be trained; give peft_config "
                "(use_peft: true in a recipe) to train an adapter, or load the model without quantization"
            )
        return model
    if isinstance(model, PeftModel):
        raise InputError("the model has an adapter already; leave peft_config out, or merge the adapter first")
    if not isinstance(model, PreTrainedModel):
        raise InputError(f"an adapter needs a PreTrainedModel, got {type(model).__name__}")
    if quantized:
        model = prepare_model_for_kbit_training(model)
    return get_peft_model(model, peft_config)


def last_checkpoint(folder: str | Path | None) -> str | None:
    """Return the newest whole checkpoint in `folder`, or `None`; half-written ones are skipped."""
    found = sorted(
        (int(path.name.rpartition("-")[2]), path)
        for path in Path(folder or ".").glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdigit() and (path / "trainer_state.json").exists()
    )
    return str(found[-1][1]) if found else None

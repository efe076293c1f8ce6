"""Loads and saves causal LMs the way every language-model method does."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from ..errors import InputError
from ..options import ModelOptions

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_causal_lm(path: str | Path, options: ModelOptions, device: Any = None) -> Any:
    """Load a causal LM from a folder; `stored_dtype` of the model is the precision of the checkpoint.

    Args:
        path: Folder of the checkpoint.
        options ([`ModelOptions`]): Precision, quantization and attention implementation.
        device: Where it shall stand; see [`placed`].

    Raises:
        InputError: If the folder does not hold a causal LM.
    """
    config = _config(path, options)
    if type(config) not in AutoModelForCausalLM._model_mapping and not options.trust_remote_code:
        raise InputError(
            f"{path} holds a '{config.model_type}' model, which is not a causal language model; "
            "give one that AutoModelForCausalLM loads"
        )
    quantization: dict[str, Any] = {}
    if options.load_in_4bit:
        from transformers import BitsAndBytesConfig

        chosen = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
        # Given as None it would hide that a checkpoint is quantized already.
        quantization["quantization_config"] = chosen
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=DTYPES.get(options.dtype, "auto"),
            attn_implementation=options.attn_implementation,
            trust_remote_code=options.trust_remote_code,
            use_safetensors=True,
            **quantization,
        )
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"the model in {path} cannot be loaded: {error}") from None
    model.stored_dtype = getattr(config, "dtype", None)
    return placed(model, device)


def placed(model: Any, device: Any = None) -> Any:
    """Move a model to a device; one that is quantized or lies on several devices stays where it was put.

    Args:
        model: The model.
        device: The device; the accelerator of this machine, where there is one, if not given.
    """
    if getattr(model, "is_quantized", False) or getattr(model, "hf_device_map", None):
        return model
    return model.to(device or torch.accelerator.current_accelerator(check_available=True) or "cpu")


def load_tokenizer(path: str | Path, options: ModelOptions) -> Any:
    """Load the tokenizer of a checkpoint; one without a pad token pads with its end token.

    Raises:
        InputError: If there is no tokenizer, or it has neither a pad token nor an end token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=options.trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(f"the tokenizer in {path} cannot be loaded: {error}") from None
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer in {path} has neither a pad token nor an end token; set one and save it again")
    return tokenizer


def save_causal_lm(model: Any, tokenizer: Any, folder: Path, options: ModelOptions) -> None:
    """Write model and tokenizer as a standard checkpoint in safetensors.

    An adapter is merged into its base, so that plain `transformers` loads the folder.

    Args:
        model: A `PreTrainedModel` or a `PeftModel`.
        tokenizer: Its tokenizer.
        folder: Where to write.
        options ([`ModelOptions`]): `save_dtype`.
    """
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    wanted = options.save_dtype
    stored = getattr(model, "stored_dtype", None) if wanted == "base" else DTYPES[wanted]
    if isinstance(stored, torch.dtype) and stored != model.dtype:
        model = model.to(stored)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _config(path: str | Path, options: ModelOptions) -> Any:
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=options.trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a model that transformers knows: {error}") from None

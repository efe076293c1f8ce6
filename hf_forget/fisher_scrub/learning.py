"""Teaches a model its codes: one epoch for a model that was trained without them."""

import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, TrainingArguments, default_data_collator

from ..trainer import ForgetTrainer
from .mnemonic import MnemonicCodes, MnemonicCollator

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from transformers import PreTrainedModel


def learn_codes(
    model: "PreTrainedModel",
    codes: MnemonicCodes,
    train_dataset: Any,
    *,
    t_mix: float = 0.1,
    args: TrainingArguments | None = None,
    data_collator: Callable[[list[Any]], dict[str, Any]] | None = None,
    optimizer_cls_and_kwargs: tuple[type["Optimizer"], dict[str, Any]] | None = None,
) -> "PreTrainedModel":
    """Train a classifier for one epoch on its data, with codes mixed in, so that it can be scrubbed later.

    Args:
        model (`PreTrainedModel`): An image classifier, or a sequence classifier with codes in the space of embeddings.
        codes ([`MnemonicCodes`]): Its codes from now on; keep them, for instance with `save`.
        train_dataset: Rows with `labels`, and `pixel_values` or `input_ids`.
        t_mix (`float`, defaults to 0.1): Probability with which a sample is replaced by the code of its class.
        args (`TrainingArguments`, *optional*): How to train; one epoch of AdamW at 3e-4 in batches of 128 if not given.
        data_collator (*optional*): Collator of the rows; `default_data_collator` if not given.
        optimizer_cls_and_kwargs (*optional*): As `transformers.Trainer` takes it; that of `args` if not given.

    Returns:
        The same model, trained in place and in evaluation mode.

    Raises:
        InputError: If the codes do not fit the model.
    """
    codes.check_fit(model)
    embeddings = model.get_input_embeddings() if codes.space == "embedding" else None
    collator = MnemonicCollator(data_collator or default_data_collator, codes, t_mix, embeddings=embeddings)
    with tempfile.TemporaryDirectory() as folder:
        trainer = ForgetTrainer(
            model=model,
            args=args or _one_epoch(folder),
            data_collator=collator,
            train_dataset=train_dataset,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return model.eval()


def _one_epoch(folder: str) -> TrainingArguments:
    import torch

    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        learning_rate=3e-4,
        per_device_train_batch_size=128,
        remove_unused_columns=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )

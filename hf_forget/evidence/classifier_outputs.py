"""What a classifier answers: its logits, its penultimate features, and the layer that turns one into the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextmanager
def evaluation_mode(model: "nn.Module") -> Iterator[None]:
    """Put a model into evaluation mode (running statistics, no dropout), and every module back as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def input_name(model: "nn.Module") -> str:
    """Return by which keyword a classifier takes its inputs: `pixel_values`, or `inputs_embeds` where it reads text."""
    name = getattr(model, "main_input_name", "pixel_values")
    return "inputs_embeds" if name == "input_ids" else name


def class_logits(model: "nn.Module", inputs: "Tensor", attention_mask: "Tensor | None" = None) -> "Tensor":
    """Return the logits of a classifier, shape `(n, classes)`.

    Args:
        model: Called as `model(pixel_values=inputs).logits`, or with `inputs_embeds` where it reads text.
        inputs: Processed images, or embedded tokens, shape `(n, …)`.
        attention_mask: Which positions of embedded tokens are read, shape `(n, length)`.
    """
    arguments = {input_name(model): inputs}
    if attention_mask is not None:
        arguments["attention_mask"] = attention_mask
    return model(**arguments).logits


def batched_logits(
    model: "nn.Module", inputs: "Tensor", *, attention_mask: "Tensor | None" = None, batch_size: int = 500
) -> "Tensor":
    """Return the logits of a classifier in evaluation mode, in batches and without gradients, as float32 on the CPU."""
    with evaluation_mode(model), torch.no_grad():
        return torch.cat([_logits(model, *batch) for batch in _batches(model, inputs, attention_mask, batch_size)])


def penultimate_features(
    model: "nn.Module", inputs: "Tensor", *, attention_mask: "Tensor | None" = None, batch_size: int = 500
) -> "Tensor":
    """Return what the last linear layer reads, flattened to shape `(n, features)`, as float32 on the CPU.

    Raises:
        InputError: If the model has no linear layer with one output per class.
    """
    seen: list[Tensor] = []
    handle = classification_head(model).register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    features = []
    try:
        with evaluation_mode(model), torch.no_grad():
            for batch in _batches(model, inputs, attention_mask, batch_size):
                seen.clear()
                _logits(model, *batch)
                features.append(seen[-1].flatten(1).float().cpu())
    finally:
        handle.remove()
    return torch.cat(features)


def classification_head(model: "nn.Module") -> "nn.Linear":
    """Return the last linear layer that has one output per class.

    Raises:
        InputError: If there is none.
    """
    classes = num_classes(model)
    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and (classes is None or module.out_features == classes)
    ]
    if not heads:
        raise InputError(
            f"{type(model).__name__} has no linear layer with {classes} outputs, so its penultimate features cannot be "
            "read; give a classifier whose last layer is linear"
        )
    return heads[-1]


def num_classes(model: "nn.Module") -> int | None:
    """Return how many classes the configuration of a model names; `None` without a configuration."""
    return getattr(getattr(model, "config", None), "num_labels", None)


def _batches(
    model: "nn.Module", inputs: "Tensor", attention_mask: "Tensor | None", batch_size: int
) -> Iterator[tuple[Any, Any]]:
    if len(inputs) == 0:
        raise InputError("no inputs are given; a classifier needs at least one to be measured")
    device = next(model.parameters()).device
    for start in range(0, len(inputs), batch_size):
        rows = slice(start, start + batch_size)
        yield inputs[rows].to(device), None if attention_mask is None else attention_mask[rows].to(device)


def _logits(model: "nn.Module", inputs: "Tensor", attention_mask: "Tensor | None") -> "Tensor":
    return class_logits(model, inputs, attention_mask).float().cpu()

"""One forward pass that computes logits only where labels are, for any causal LM of `transformers`."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .objectives import LabelledTokens
from .rows import IGNORE_INDEX


@contextmanager
def head_inputs_at(model: nn.Module, positions: Tensor) -> Iterator[list[Tensor]]:
    """Let the output head see only the hidden states at `positions`, and collect what it saw.

    Args:
        model: A causal LM with output embeddings.
        positions (`BoolTensor` of shape `(rows, length)`): Positions whose logits are wanted.

    Yields:
        A list that holds the head's inputs, shape `(tokens, hidden)`, after the forward pass.
    """
    seen: list[Tensor] = []

    def select(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0][positions]
        seen.append(hidden)
        return (hidden[None], *args[1:])

    handle = output_head(model).register_forward_pre_hook(select)
    try:
        yield seen
    finally:
        handle.remove()


def output_head(model: Any) -> nn.Module:
    """The module that turns hidden states into logits."""
    return model.get_output_embeddings()


def labelled_positions(labels: Tensor) -> Tensor:
    """Positions whose next token carries a label, shape of `labels`."""
    positions = torch.zeros_like(labels, dtype=torch.bool)
    positions[:, :-1] = labels[:, 1:] != IGNORE_INDEX
    return positions


def labelled_forward(model: Any, batch: dict[str, Tensor]) -> tuple[LabelledTokens, Tensor]:
    """Run a batch of rows and return logits in float32 at its labels, and the hidden states that gave them.

    Args:
        model: Any causal LM.
        batch: `input_ids`, `attention_mask` and `labels`, each of shape `(rows, length)`.
    """
    labels = batch["labels"]
    positions = labelled_positions(labels)
    with head_inputs_at(_unwrapped(model), positions) as seen:
        output = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    rows, columns = positions.nonzero(as_tuple=True)
    tokens = LabelledTokens(output.logits[0].float(), labels[rows, columns + 1], rows, labels.shape[0])
    return tokens, seen[0]


def frozen_head(model: Any) -> Callable[[Tensor], Tensor]:
    """Copy the output head as it is now, with what the architecture does to logits after it.

    Returns:
        A function from final hidden states of shape `(tokens, hidden)` to logits of shape `(tokens, vocabulary)`.
    """
    model = _unwrapped(model)
    head = copy.deepcopy(output_head(model)).requires_grad_(False)
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)

    def logits(hidden: Tensor) -> Tensor:
        values = head(hidden.to(next(head.parameters()).dtype)).float()
        values = values * scale if scale else values
        values = values / divisor if divisor else values
        return cap * torch.tanh(values / cap) if cap else values

    return logits


def _unwrapped(model: Any) -> Any:
    """The model inside a data-parallel wrapper."""
    return getattr(model, "module", model) if not hasattr(model, "get_output_embeddings") else model

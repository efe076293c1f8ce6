"""Activations of one layer for many texts, in batches of tokens for the training of a sparse autoencoder."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from ..lm.representation import run_to_layer
from ..lm.rows import padded

# A position whose state is this many times as long as the median one is an attention sink, whatever token stands there.
MASSIVE = 10.0


def token_batches(
    tokenizer: Any, texts: Sequence[str], *, batch_size: int, max_length: int, seed: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut texts into tokens and put those of like length together.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The model's tokenizer.
        texts: The texts.
        batch_size: Texts per batch.
        max_length: Where a text is cut off, in tokens.
        seed: Texts are shuffled with it, once; not at all if it is `None`.

    Yields:
        Token ids and attention mask, each of shape `(batch, length)`, padded on the right; one sequence begins with the
        tokenizer's beginning-of-sequence token where it has one.
    """
    order = list(range(len(texts)))
    if seed is not None:
        Random(seed).shuffle(order)
    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    # Sorted within a stretch of the order only, so that long and short texts stay mixed over time.
    stretch = 16 * batch_size
    for begin in range(0, len(order), stretch):
        chosen = [texts[index] for index in order[begin : begin + stretch]]
        ids = tokenizer(chosen, add_special_tokens=False, truncation=True, max_length=max_length - 1)["input_ids"]
        rows = sorted((start + row for row in ids if row), key=len)
        batches = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
        if seed is not None:
            Random(f"{seed} {begin}").shuffle(batches)
        for batch in batches:
            yield padded(batch)


def ordinary_positions(states: Tensor, mask: Tensor) -> Tensor:
    """Return where the states are like others: not the first position, not padding, not massive.

    Args:
        states (`Tensor` of shape `(batch, length, hidden)`): Outputs of a layer.
        mask (`Tensor` of shape `(batch, length)`): Which tokens are no padding.

    Returns:
        Boolean `Tensor` of shape `(batch, length)`.
    """
    kept = mask.bool().clone()
    kept[:, 0] = False
    if kept.any():
        norms = states.float().norm(dim=-1)
        kept &= norms <= MASSIVE * norms[kept].median()
    return kept


@torch.no_grad()
def layer_activations(
    model: Any, batches: Iterator[tuple[Tensor, Tensor]], layer: int, *, bf16: bool = False
) -> Iterator[Tensor]:
    """Run a model up to a layer and yield that layer's states at ordinary positions, shape `(tokens, hidden)`.

    Args:
        model (`PreTrainedModel`): A causal LM.
        batches: As [`token_batches`] gives them.
        layer: Index of the decoder layer.
        bf16: Whether the forward pass runs under bfloat16 autocast.
    """
    device = model.device
    for ids, mask in batches:
        ids, mask = ids.to(device), mask.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            states = run_to_layer(model, ids, mask, layer)
        kept = states[ordinary_positions(states, mask)]
        if len(kept):
            yield kept.float()

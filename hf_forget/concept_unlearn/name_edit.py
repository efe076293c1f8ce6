"""Closed-form part: the name's hidden states become those of an invented name, before any training step.

Reconstructed: beside the paper. Facts are read from the last token of a name in the early layers, so a small change of
the MLPs there takes them all at once, in every wording and relation, and leaves what is read elsewhere alone. The
update is the regularised least squares of MEMIT (Meng et al. 2023, arXiv 2210.07229, equation 14); the target is not a
new fact but what the original model computes for a name that it does not know.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from ..lm.prefix import shared_prefix_length
from ..lm.representation import checked_layers, decoder_layers, mlp_output, run_to_layer
from ..lm.rows import Row, padded, tokenize_row

# Relative to the mean squared key; keeps the equations solvable where keys are few.
RIDGE = 1e-4
BATCH = 48


def edit_layers(model: Any, layers: Sequence[int] | None) -> list[int]:
    """Return the decoder layers to edit: those given, or all between a fifteenth and a quarter of the depth.

    Raises:
        InputError: If an index is outside the model.
    """
    count = len(decoder_layers(model))
    if layers is None:
        first = min(max(1, round(count / 15)), count - 1)
        return list(range(first, max(first, round(0.27 * count)) + 1))
    return checked_layers(layers, count, "edit_layers")


def least_squares_update(keys: Tensor, residuals: Tensor, kept: Tensor, weight: float) -> Tensor:
    """The change of a linear map that moves its outputs at `keys` by `residuals`, and others as little as possible.

    Minimises `weight · Σ‖Δk − r‖² + Σ‖Δk₀‖² + ridge · ‖Δ‖²` over Δ.

    Args:
        keys (`Tensor` of shape `(n, inputs)`): Inputs whose output shall move.
        residuals (`Tensor` of shape `(n, outputs)`): By how much.
        kept (`Tensor` of shape `(inputs, inputs)`): Sum of `k₀ k₀ᵀ` over the inputs whose output shall stay.
        weight (`float`): How much a key counts against an input that stays.

    Returns:
        Δ, shape `(outputs, inputs)`, in float64.
    """
    keys, residuals = keys.double(), residuals.double()
    gram = weight * keys.T @ keys + kept.double()
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    return torch.linalg.solve(gram, weight * keys.T @ residuals).T


def edit_name_states(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    contexts: Sequence[str],
    *,
    weight: float,
    layers: Sequence[int] | None = None,
    max_length: int = 128,
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[int, float]:
    """Change the MLPs of early layers so that the concept's name reads like the invented one.

    In each row the last token where `prompt` and `reference_prompt` differ is the end of the name; rows that begin with
    the name are left out. The state there after the last edited layer moves to that of the invented name, an equal part
    of the way in each layer. A layer whose change does not bring the states closer is left as it was, and so is one
    that is frozen.

    Args:
        model: A causal LM; changed in place.
        tokenizer: Its tokenizer.
        rows: Replacement rows.
        contexts: Texts at whose tokens nothing shall change: other names in like questions, general text.
        weight: How much a name counts against a token of the contexts.
        layers: The layers to edit; see [`edit_layers`].
        max_length: Texts are cut to this many tokens.
        precision: Context in which the model runs, such as autocast.

    Returns:
        For each edited layer, the remaining distance of the states as a share of the first one.

    Raises:
        InputError: If a layer does not exist, or has no MLP to edit.
    """
    modules = {layer: mlp_output(decoder_layers(model)[layer]) for layer in edit_layers(model, layers)}
    layers = [layer for layer, module in modules.items() if module.weight.requires_grad]
    pairs = [pair for row in rows if (pair := _aligned(row, tokenizer, max_length)) is not None]
    if not (pairs and layers):
        return {}
    own, reference = ([pair[side] for pair in pairs] for side in (0, 1))
    training = model.training
    model.eval()
    with torch.no_grad(), precision():
        kept = _kept_grams(model, [_ids(text, tokenizer, max_length) for text in contexts], layers)
        _, target = _names(model, reference, layers[-1], layers[-1])
        left: dict[int, float] = {}
        keys, now = _names(model, own, layers[0], layers[-1])
        first = distance = (target - now).norm()
        for place, layer in enumerate(layers):
            module = modules[layer]
            change = least_squares_update(keys, (target - now) / (len(layers) - place), kept[layer], weight)
            before = module.weight.detach().clone()
            module.weight += (change.T if isinstance(module, Conv1D) else change).to(before)
            following = layers[min(place + 1, len(layers) - 1)]
            keys, now = _names(model, own, following, layers[-1])
            if (target - now).norm() < distance:
                distance = (target - now).norm()
                left[layer] = float(distance / first)
            else:
                module.weight.copy_(before)
                keys, now = _names(model, own, following, layers[-1])
    model.train(training)
    return left


def _aligned(row: Row, tokenizer: Any, max_length: int) -> tuple[list[int], list[int]] | None:
    """Token ids of both prompts of a row, cut after the name; `None` where they do not differ, or begin with the name.

    The first tokens of a text carry activations many times larger than all others, whatever they are: moved like a
    name they would take the whole model along.
    """
    own, reference = (
        tokenize_row(text.rpartition("\n\n")[2], row.completion, tokenizer, max_length)["input_ids"]
        for text in (row.prompt, row.reference_prompt)
    )
    if not row.reference_prompt or own == reference or not shared_prefix_length([own, reference]):
        return None
    shared = shared_prefix_length([own[::-1], reference[::-1]])
    return own[: len(own) - shared], reference[: len(reference) - shared]


def _ids(text: str, tokenizer: Any, max_length: int) -> list[int]:
    return tokenizer(text)["input_ids"][:max_length]


def _batches(sequences: Sequence[list[int]], device: Any) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Padded batches of like length: which sequences, their ids and their mask."""
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        ids, mask = padded([sequences[index] for index in part])
        yield part, ids.to(device), mask.to(device)


def _names(model: Any, sequences: Sequence[list[int]], key_layer: int, layer: int) -> tuple[Tensor, Tensor]:
    """At the last token of each sequence: the MLP's inner state in `key_layer`, and the output of `layer`."""
    keys: list[Tensor] = [torch.empty(0)] * len(sequences)
    states = list(keys)
    seen: list[Tensor] = []
    module = mlp_output(decoder_layers(model)[key_layer])
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        for part, ids, mask in _batches(sequences, model.device):
            seen.clear()
            output = run_to_layer(model, ids, mask.long(), layer)
            ends = mask.sum(1) - 1
            for place, index in enumerate(part):
                keys[index] = seen[0].view(*ids.shape, -1)[place, ends[place]].float()
                states[index] = output[place, ends[place]].float()
    finally:
        handle.remove()
    return torch.stack(keys), torch.stack(states)


def _kept_grams(model: Any, sequences: Sequence[list[int]], layers: Sequence[int]) -> dict[int, Tensor]:
    """Sums of `k kᵀ` over all tokens but the first of each sequence, for each layer."""
    grams: dict[int, Tensor] = {}
    keep: list[Tensor] = []

    def gather(layer: int) -> Callable:
        def hook(_: Any, inputs: tuple[Tensor, ...]) -> None:
            keys = inputs[0].view(*keep[0].shape, -1)[keep[0]].float()
            grams[layer] = grams[layer] + keys.T @ keys if layer in grams else keys.T @ keys

        return hook

    modules = decoder_layers(model)
    handles = [mlp_output(modules[layer]).register_forward_pre_hook(gather(layer)) for layer in layers]
    try:
        for _, ids, mask in _batches(sequences, model.device):
            keep[:] = [mask.clone()]
            keep[0][:, 0] = False
            run_to_layer(model, ids, mask.long(), layers[-1])
    finally:
        for handle in handles:
            handle.remove()
    for layer in set(layers) - set(grams):
        weight = mlp_output(modules[layer]).weight
        width = max(weight.shape)
        grams[layer] = torch.zeros(width, width, device=weight.device)
    return grams

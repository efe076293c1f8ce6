"""Hidden states inside a model: where its decoder layers are, how to watch them, and how far two of them are apart."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

STATES_BATCH = 32


def decoder_layers(model: Any) -> "Sequence[nn.Module]":
    """Return the decoder layers of a causal LM, adapters included, first to last.

    Raises:
        InputError: If the model has no list of as many modules as its config has layers.
    """
    from torch import nn

    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise InputError(
        f"{type(model).__name__} has no list of {count} decoder layers; set representation_weight to 0 to train it"
    )


def chosen_layers(model: Any, layers: Sequence[int] | None) -> list[int]:
    """Return the indices of the layers to compare: those given, or every quarter of the depth and the last but one.

    Raises:
        InputError: If an index is outside the model.
    """
    count = len(decoder_layers(model))
    if layers is None:
        return sorted({count // 4, count // 2, 3 * count // 4, max(count - 2, 0)})
    return checked_layers(layers, count, "representation_layers")


def checked_layers(layers: Sequence[int], count: int, argument: str) -> list[int]:
    """Return indices of layers in ascending order, each once.

    Args:
        layers: The indices.
        count: How many layers the model has.
        argument: How errors call the indices.

    Raises:
        InputError: If an index is outside the model.
    """
    outside = next((layer for layer in layers if not 0 <= layer < count), None)
    if outside is not None:
        raise InputError(f"{argument} names layer {outside}; the model has layers 0 to {count - 1}")
    return sorted(set(layers))


@contextmanager
def watched_layers(model: Any, layers: Sequence[int]) -> "Iterator[list[Tensor]]":
    """Collect the outputs of decoder layers.

    Args:
        model: A causal LM.
        layers: Indices of the layers, in ascending order.

    Yields:
        A list that holds, after the forward pass, one tensor of shape `(rows, length, hidden)` per layer.
    """
    seen: list[Tensor] = []
    modules = decoder_layers(model) if layers else []
    handles = [
        modules[layer].register_forward_hook(
            lambda _, __, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        for layer in layers
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def state_distance(states: "Tensor", reference: "Tensor", scale: "Tensor") -> "Tensor":
    """Mean squared difference of hidden states in units of their spread, a scalar.

    Args:
        states, reference (`Tensor` of shape `(layers, positions, hidden)`): What is compared.
        scale (`Tensor` of shape `(layers, 1, hidden)`): Standard deviation of every unit, so that the few units of
            very large activations do not decide alone.
    """
    return ((states.float() - reference) / scale).square().mean()


def mlp_output(layer: "nn.Module") -> Any:
    """Return the linear module that writes a decoder layer's MLP into the residual stream.

    Raises:
        InputError: If the layer has no linear module that narrows, as with mixtures of experts.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    narrowing = []
    for module in layer.modules():
        if isinstance(module, nn.Linear | Conv1D):
            width_in, width_out = module.weight.shape if isinstance(module, Conv1D) else module.weight.shape[::-1]
            if width_in > width_out:
                narrowing.append(module)
    if not narrowing:
        raise InputError(f"{type(layer).__name__} has no MLP with a linear output; set edit_weight to 0 to train it")
    return narrowing[-1]


def freeze_outside(model: Any, layers: Sequence[int], *, mlp_outputs_only: bool = False) -> None:
    """Train nothing but the weights of some decoder layers; of an adapter, its parts in these layers.

    Args:
        model: A causal LM, or a `PeftModel` of one.
        layers: Indices of the layers.
        mlp_outputs_only: Whether only the linear modules that write the MLPs' outputs are trained.
    """
    every = decoder_layers(model)
    modules = [mlp_output(every[layer]) if mlp_outputs_only else every[layer] for layer in layers]
    trained = {id(weight) for module in modules for weight in module.parameters()}
    for weight in model.parameters():
        weight.requires_grad_(weight.requires_grad and id(weight) in trained)


class _Reached(Exception):
    """Ends a forward pass at the last layer that is needed."""


def run_to_layer(model: Any, input_ids: "Tensor", attention_mask: "Tensor", layer: int) -> "Tensor":
    """Run the model up to a decoder layer and return that layer's output, shape `(rows, length, hidden)`."""
    seen: list[Tensor] = []

    def stop(_: Any, __: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)
        raise _Reached

    handle = decoder_layers(model)[layer].register_forward_hook(stop)
    try:
        model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    except _Reached:
        pass
    finally:
        handle.remove()
    return seen[0]


def states_at(
    model: Any,
    sequences: Sequence[Sequence[int]],
    spans: Sequence[Sequence[tuple[int, int]]],
    layers: Sequence[int],
    *,
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> "Tensor":
    """Run token ids as far as the last layer asked for, and return states of some spans of tokens.

    Args:
        model: A causal LM.
        sequences: Token ids of each row.
        spans: Of each row where it is read, first position and the one behind the last; equally many of every row.
        layers: Decoder layers, in ascending order.
        precision: Makes the context in which the model runs.

    Returns:
        Means over the positions of each span, float32 `Tensor` of shape `(rows, layers, spans, hidden)`.
    """
    import torch

    from .rows import padded

    order = sorted(range(len(sequences)), key=lambda row: len(sequences[row]))
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for start in range(0, len(order), STATES_BATCH):
            part = order[start : start + STATES_BATCH]
            ids, mask = (item.to(model.device) for item in padded([sequences[row] for row in part]))
            with watched_layers(model, layers) as seen, precision():
                run_to_layer(model, ids, mask, max(layers))
            outputs = torch.stack(seen, dim=1).float()
            for place, row in enumerate(part):
                means = [outputs[place][:, first:end].mean(1) for first, end in spans[row]]
                found[row] = torch.stack(means, dim=1)
    return torch.stack([found[row] for row in range(len(sequences))])

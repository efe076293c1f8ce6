"""The diagonal of the empirical Fisher information, from exact per-sample gradients."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from ..errors import InputError, suggestion
from ..evidence.classifier_outputs import class_logits, evaluation_mode

if TYPE_CHECKING:
    from torch import Tensor, nn

logger = logging.getLogger(__name__)

# Per-sample gradients of one chunk take at most so many bytes: what stays in a CPU's cache, and what fills a GPU.
_CHUNK_BYTES = 16 * 2**20
_GPU_CHUNK_BYTES = 512 * 2**20
# Up to so many samples, or with fewer in a chunk, one backward pass per sample is faster than vmap on a CPU.
_FEW_SAMPLES = 16
_FEW_IN_CHUNK = 8
_ROWS_BY_LAYER = 500

Gradients = dict[str, "Tensor"]
METHODS = ("auto", "vmap", "loop", "layers")


def fisher_diagonal(
    model: "nn.Module",
    inputs: "Tensor",
    labels: "Tensor",
    *,
    attention_mask: "Tensor | None" = None,
    chunk_size: int | None = None,
    method: Literal["auto", "vmap", "loop", "layers"] = "auto",
) -> Gradients:
    """Return the mean over samples of the squared gradient of each sample's cross-entropy at its given label.

    This is the diagonal of the empirical Fisher information: the square is taken per sample, not of the gradient of a
    batch. The model is read in evaluation mode, so that batch norm uses its running statistics and samples do not
    depend on each other; it is left as it was.

    Args:
        model (`PreTrainedModel`): A classifier, called with `pixel_values`, or `inputs_embeds` where it reads text.
        inputs (`Tensor` of shape `(n, …)`): Processed images, codes, or embedded tokens.
        labels (`LongTensor` of shape `(n,)`): The class at which each sample's loss is taken.
        attention_mask (`Tensor` of shape `(n, length)`, *optional*): Which positions of embedded tokens are read.
        chunk_size (`int`, *optional*): Samples whose gradients are held at once; as many as fit the processor if
            not given.
        method (`str`, defaults to `"auto"`): `vmap` by `torch.func`; `loop` by one backward pass per sample; `layers`,
            for models in which only linear layers are trainable, from the inputs and output gradients of the layers.
            `auto` takes the loop for a few samples, else the layers where that is possible, else what is faster of
            `vmap`, where it supports the model, and the loop. All give the same, up to rounding.

    Returns:
        For each trainable parameter, by its name in `named_parameters()`, a float32 tensor of its shape. A weight that
        is used in several places stands there once.

    Raises:
        InputError: If there are no samples, not one label per sample, no trainable parameter, a gradient that is not
            finite, an unknown method, or one that does not suit the model.

    Example:
        >>> fisher = fisher_diagonal(model, images, labels)
        >>> fisher["classifier.weight"].shape == model.classifier.weight.shape
        True
    """
    if len(inputs) == 0 or len(inputs) != len(labels):
        raise InputError(f"the Fisher information needs samples, one label each; got {len(inputs)} and {len(labels)}")
    if method not in METHODS:
        raise InputError(f"method is '{method}'; accepted: {', '.join(METHODS)}.{suggestion(method, METHODS)}")
    parameters = trainable_parameters(model)
    device = next(iter(parameters.values())).device
    inputs, labels = inputs.to(device), labels.to(device)
    attention_mask = None if attention_mask is None else attention_mask.to(device)
    with evaluation_mode(model):
        total = _sum(model, parameters, (inputs, labels, attention_mask), chunk_size, method)
    for name, value in total.items():
        if not value.isfinite().all():
            raise InputError(f"the gradient of '{name}' is not finite; check the weights and the inputs")
        value /= len(inputs)
    return total


def squared_gradients(
    model: "nn.Module", inputs: "Tensor", labels: "Tensor", *, attention_mask: "Tensor | None" = None
) -> Iterator[Gradients]:
    """Yield the squared gradient of each sample's cross-entropy, by one backward pass per sample.

    Arguments are those of [`fisher_diagonal`]; the model is read in evaluation mode and `.grad` is not touched.
    """
    parameters = trainable_parameters(model)
    for row in range(len(inputs)):
        mask = None if attention_mask is None else attention_mask[row : row + 1]
        with evaluation_mode(model), torch.enable_grad():
            logits = class_logits(model, inputs[row : row + 1], mask)
            loss = functional.cross_entropy(logits.float(), labels[row : row + 1])
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        yield {
            name: torch.zeros_like(parameter, dtype=torch.float32) if gradient is None else gradient.float() ** 2
            for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
        }


def _sum(
    model: "nn.Module",
    parameters: "dict[str, nn.Parameter]",
    samples: "tuple[Tensor, Tensor, Tensor | None]",
    chunk_size: int | None,
    method: str,
) -> Gradients:
    size = chunk_size or _chunk_size(parameters)
    few = len(samples[0]) <= _FEW_SAMPLES
    if method == "layers" or (method == "auto" and not few):
        total = _sum_by_layers(model, parameters, *samples)
        if total is not None:
            return total
        if method == "layers":
            raise InputError(f"{type(model).__name__} has trainable parameters beside linear layers; use vmap")
    few = few or (samples[0].device.type == "cpu" and size < _FEW_IN_CHUNK)
    if method == "vmap" or (method == "auto" and not few):
        try:
            return _sum_by_vmap(model, parameters, *samples, size)
        except RuntimeError as error:
            if method == "vmap":
                raise
            logger.info("vmap refuses %s (%s); one backward pass per sample", type(model).__name__, error)
    total = _zeros(parameters)
    for squares in squared_gradients(model, samples[0], samples[1], attention_mask=samples[2]):
        for name, square in squares.items():
            total[name] += square
    return total


def _sum_by_vmap(
    model: "nn.Module",
    parameters: "dict[str, nn.Parameter]",
    inputs: "Tensor",
    labels: "Tensor",
    attention_mask: "Tensor | None",
    size: int,
) -> Gradients:
    values = {name: parameter.detach() for name, parameter in parameters.items()}
    caller = _Caller(model)

    def loss(values: Gradients, sample: "Tensor", label: "Tensor", mask: "Tensor | None") -> "Tensor":
        arguments = (sample[None], None if mask is None else mask[None])
        called = {f"model.{name}": value for name, value in values.items()}
        logits = torch.func.functional_call(caller, called, arguments)
        return functional.cross_entropy(logits.float(), label[None])

    masked = None if attention_mask is None else 0
    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, masked))
    total = _zeros(parameters)
    for start in range(0, len(inputs), size):
        rows = slice(start, start + size)
        mask = None if attention_mask is None else attention_mask[rows]
        for name, gradient in gradients(values, inputs[rows], labels[rows], mask).items():
            # Not in place: gradients of several parameters can share memory.
            total[name] += gradient.detach().float().square().sum(0)
    return total


def _chunk_size(parameters: "dict[str, nn.Parameter]") -> int:
    limit = _CHUNK_BYTES if next(iter(parameters.values())).device.type == "cpu" else _GPU_CHUNK_BYTES
    return max(1, limit // sum(4 * value.numel() for value in parameters.values()))


def _sum_by_layers(
    model: "nn.Module",
    parameters: "dict[str, nn.Parameter]",
    inputs: "Tensor",
    labels: "Tensor",
    attention_mask: "Tensor | None",
) -> Gradients | None:
    """Sum squared gradients of linear layers; `None` where the model has other trainable parameters.

    The gradient of a sample at a weight is δ_i·a_j, with a the input of the layer and δ the gradient at its output, so
    the sum of squares over samples is one product of matrices, (δ²)ᵀ(a²).
    """
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    names = {id(parameter): name for name, parameter in parameters.items()}
    layers = [layer for layer in layers if any(id(parameter) in names for parameter in layer.parameters())]
    owned = [id(parameter) for layer in layers for parameter in layer.parameters() if id(parameter) in names]
    if sorted(owned) != sorted(names):
        return None
    total = _zeros(parameters)
    # The first row alone is checked: a layer's weight may be used outside of the layer.
    for start, stop in [(0, 1), *((row, row + _ROWS_BY_LAYER) for row in range(1, len(inputs), _ROWS_BY_LAYER))]:
        mask = None if attention_mask is None else attention_mask[start:stop]
        found = _layer_gradients(model, layers, inputs[start:stop], labels[start:stop], mask)
        if found is None:
            return None
        for layer, (read, gradient) in zip(layers, found, strict=True):
            if id(layer.weight) in names:
                total[names[id(layer.weight)]] += gradient.T @ read
            if layer.bias is not None and id(layer.bias) in names:
                total[names[id(layer.bias)]] += gradient.sum(0)
        if start == 0:
            expected = next(squared_gradients(model, inputs[:1], labels[:1], attention_mask=mask))
            if not all(torch.allclose(total[name], expected[name], rtol=1e-3, atol=1e-12) for name in total):
                return None
    return total


def _layer_gradients(
    model: "nn.Module",
    layers: "list[nn.Linear]",
    inputs: "Tensor",
    labels: "Tensor",
    attention_mask: "Tensor | None",
) -> "list[tuple[Tensor, Tensor]] | None":
    """Return the squares of each layer's input and of the gradient at its output, one row per sample."""
    calls: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}
    handles = [
        layer.register_forward_hook(lambda module, args, output: calls[module].append((args[0], output)))
        for layer in layers
    ]
    try:
        with torch.enable_grad():
            logits = class_logits(model, inputs, attention_mask)
            loss = functional.cross_entropy(logits.float(), labels, reduction="sum")
    finally:
        for handle in handles:
            handle.remove()
    if any(len(made) != 1 or made[0][0].shape[:-1] != labels.shape for made in calls.values()):
        return None
    gradients = torch.autograd.grad(loss, [calls[layer][0][1] for layer in layers], allow_unused=True)
    if any(gradient is None for gradient in gradients):
        return None
    return [
        (calls[layer][0][0].detach().float() ** 2, gradient.float() ** 2)
        for layer, gradient in zip(layers, gradients, strict=True)
    ]


class _Caller(torch.nn.Module):
    """Gives `functional_call`, which calls modules, the logits alone."""

    def __init__(self, model: "nn.Module") -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: "Tensor", attention_mask: "Tensor | None") -> "Tensor":
        return class_logits(self.model, inputs, attention_mask)


def trainable_parameters(model: "nn.Module") -> "dict[str, nn.Parameter]":
    """Return the parameters that require gradients, by name.

    Raises:
        InputError: If there are none.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise InputError(f"{type(model).__name__} has no trainable parameter; set requires_grad on what may change")
    return parameters


def _zeros(parameters: "dict[str, nn.Parameter]") -> Gradients:
    return {name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters.items()}

"""The diagonal of the empirical Fisher information, from exact per-sample gradients."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from ..errors import InputError
from ..evidence.classifier_outputs import class_logits, evaluation_mode

if TYPE_CHECKING:
    from torch import Tensor, nn

logger = logging.getLogger(__name__)

# Per-sample gradients of one chunk take at most so many bytes.
_CHUNK_BYTES = 64 * 2**20
# Up to here one backward pass per sample is faster than setting up vmap.
_FEW_SAMPLES = 16

Gradients = dict[str, "Tensor"]


def fisher_diagonal(
    model: "nn.Module",
    inputs: "Tensor",
    labels: "Tensor",
    *,
    attention_mask: "Tensor | None" = None,
    chunk_size: int | None = None,
    method: Literal["auto", "vmap", "loop"] = "auto",
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
        chunk_size (`int`, *optional*): Samples whose gradients are held at once; as many as 64 MiB take if not given.
        method (`str`, defaults to `"auto"`): `vmap` by `torch.func`, `loop` by one backward pass per sample, `auto`
            takes the loop for a few samples and where `vmap` does not support an operation of the model.

    Returns:
        For each trainable parameter, by its name in `named_parameters()`, a float32 tensor of its shape. A weight that
        is used in several places stands there once.

    Raises:
        InputError: If there are no samples, not one label per sample, no trainable parameter, or a gradient that is
            not finite.

    Example:
        >>> fisher = fisher_diagonal(model, images, labels)
        >>> fisher["classifier.weight"].shape == model.classifier.weight.shape
        True
    """
    if len(inputs) == 0 or len(inputs) != len(labels):
        raise InputError(f"the Fisher information needs samples, one label each; got {len(inputs)} and {len(labels)}")
    parameters = _trainable(model)
    device = next(iter(parameters.values())).device
    samples = [item if item is None else item.to(device) for item in (inputs, labels, attention_mask)]
    inputs, labels, attention_mask = samples[0], samples[1], samples[2]
    with evaluation_mode(model):
        total = None
        if method == "vmap" or (method == "auto" and len(inputs) > _FEW_SAMPLES):
            try:
                total = _sum_by_vmap(model, parameters, inputs, labels, attention_mask, chunk_size)
            except RuntimeError as error:
                if method == "vmap":
                    raise
                logger.info("vmap refuses %s (%s); one backward pass per sample", type(model).__name__, error)
        if total is None:
            total = _zeros(parameters)
            for squares in squared_gradients(model, inputs, labels, attention_mask=attention_mask):
                for name, square in squares.items():
                    total[name] += square
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
    parameters = _trainable(model)
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


def _sum_by_vmap(
    model: "nn.Module",
    parameters: "dict[str, nn.Parameter]",
    inputs: "Tensor",
    labels: "Tensor",
    attention_mask: "Tensor | None",
    chunk_size: int | None,
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
    size = chunk_size or max(1, _CHUNK_BYTES // sum(4 * value.numel() for value in values.values()))
    total = _zeros(parameters)
    for start in range(0, len(inputs), size):
        rows = slice(start, start + size)
        mask = None if attention_mask is None else attention_mask[rows]
        for name, gradient in gradients(values, inputs[rows], labels[rows], mask).items():
            # Not in place: gradients of several parameters can share memory.
            total[name] += gradient.detach().float().square().sum(0)
    return total


class _Caller(torch.nn.Module):
    """Gives `functional_call`, which calls modules, the logits alone."""

    def __init__(self, model: "nn.Module") -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: "Tensor", attention_mask: "Tensor | None") -> "Tensor":
        return class_logits(self.model, inputs, attention_mask)


def _trainable(model: "nn.Module") -> "dict[str, nn.Parameter]":
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise InputError(f"{type(model).__name__} has no trainable parameter; set requires_grad on what may change")
    return parameters


def _zeros(parameters: "dict[str, nn.Parameter]") -> Gradients:
    return {name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters.items()}

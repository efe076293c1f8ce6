"""The inner representation of a classifier: where it is read, and how two widths are brought together."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from ..errors import InputError, suggestion
from ..evidence.classifier_outputs import classification_head

PENULTIMATE = "penultimate"


def head_name(model: nn.Module) -> str:
    """Return the name of the last linear layer, what reads the penultimate representation.

    Raises:
        InputError: If there is none.
    """
    head = classification_head(model)
    return next(name for name, module in model.named_modules() if module is head)


def check_layer(model: nn.Module, layer: str) -> None:
    """Refuse a layer that a model does not have.

    Raises:
        InputError: If there is no module of this name; the message names the nearest one.
    """
    names = [name for name, _ in model.named_modules() if name]
    if layer != PENULTIMATE and layer not in names:
        raise InputError(
            f"{type(model).__name__} has no layer '{layer}'; accepted: {PENULTIMATE}, or the name of a module."
            f"{suggestion(layer, [PENULTIMATE, *names])}"
        )


class RepresentationReader:
    """Reads one layer of a model while it runs.

    Args:
        model: The classifier; an adapter may be put around it later.
        layer: `penultimate`, what the last linear layer reads, or the name of a module, whose output is read.

    Raises:
        InputError: If the model has no such layer.
    """

    def __init__(self, model: nn.Module, layer: str = PENULTIMATE) -> None:
        check_layer(model, layer)
        self._reads_input = layer == PENULTIMATE
        self._name = head_name(model) if self._reads_input else layer

    @contextmanager
    def reading(self, model: nn.Module) -> Iterator[list[Tensor]]:
        """Collect the representation of every forward pass, shape `(n, features)` each.

        Args:
            model: The classifier, with or without what was put around it.
        """
        seen: list[Tensor] = []
        module = self._module(model)
        if self._reads_input:
            handle = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].flatten(1)))
        else:
            handle = module.register_forward_hook(lambda _, __, output: seen.append(_tensor(output).flatten(1)))
        try:
            yield seen
        finally:
            handle.remove()

    def _module(self, model: nn.Module) -> nn.Module:
        """The layer by its name, which an adapter and other wrappers put something before."""
        return next(
            module for name, module in model.named_modules() if name == self._name or name.endswith(f".{self._name}")
        )


def _tensor(output: object) -> Tensor:
    """The tensor of a module's output: a tensor, or the first of a tuple or a `ModelOutput`."""
    return output if isinstance(output, Tensor) else output[0]  # type: ignore[index]


def check_widths(student: int, teacher: int, *, projected: bool) -> None:
    """Refuse representations of two widths, unless a projection stands between them.

    Raises:
        InputError: If the widths differ and nothing was said about it.
    """
    if student != teacher and not projected:
        raise InputError(
            f"the representation of the student has {student} features and that of the teacher {teacher}; choose "
            "layers of one width with representation_layer and teacher_layer, set project_representation: true to "
            "learn a linear map from one to the other, or leave the representation out with representation_weight: 0"
        )


def projection(student: int, teacher: int, seed: int) -> nn.Linear:
    """Return a linear map from the student's representation to the teacher's."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(student, teacher)


class FreshGradients(TrainerCallback):
    """Drops the gradients of a module before each step, as `transformers.Trainer` does of its model alone."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Drop what the last step left."""
        self.module.zero_grad()

"""A model between others: their weights averaged, norm statistics estimated anew, units rescaled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..evidence.classifier_outputs import class_logits

BATCH_SIZE = 512
_MATRICES = (nn.Linear, nn.Conv2d)
_LEAST_SPREAD = 1e-4


def average(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """Average models weight by weight; counts and other whole numbers are those of the first.

    Args:
        states: Their `state_dict`.
        shares: How much each counts; the shares add up to 1.
    """
    return {
        name: sum(share * state[name] for share, state in zip(shares, states, strict=True))  # type: ignore[misc]
        if value.is_floating_point()
        else value.clone()
        for name, value in states[0].items()
    }


@torch.no_grad()
def run(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the logits for all inputs, batch by batch, shape `(n, classes)`."""
    return torch.cat([class_logits(model, part).float() for part in inputs.split(BATCH_SIZE)])


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """The layers of a model that keep running statistics."""
    return [module for module in model.modules() if getattr(module, "running_mean", None) is not None]


def reestimate_norms(model: nn.Module, inputs: Tensor) -> None:
    """Let batch norms take their statistics from some inputs: those of averaged weights are no average of statistics.

    Args:
        model (`PreTrainedModel`): The merged model; nothing happens where it has no batch norm.
        inputs (`Tensor`): Inputs of all the data that the model is for, mixed.
    """
    norms = batch_norms(model)
    if not norms:
        return
    training, momenta = model.training, [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()  # type: ignore[operator]
        norm.momentum = None  # type: ignore[assignment]
    # Only the norms learn: what else is random in training stays off.
    model.eval()
    for norm in norms:
        norm.train()
    run(model, inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum  # type: ignore[assignment]
    model.train(training)


@torch.no_grad()
def rescale_units(
    model: nn.Module, parents: Sequence[Mapping[str, Tensor]], shares: Sequence[float], inputs: Tensor
) -> None:
    """Give the units of hidden layers the spread that they have in the parents; averaging shrinks it.

    Layer after layer, from the inputs on: each unit of a linear or convolutional layer is scaled and shifted such that
    its mean and standard deviation over the inputs are the averages of those in the parents. Layers without a bias
    are left alone: a norm stands behind them, see [`reestimate_norms`].

    Args:
        model (`PreTrainedModel`): The merged model.
        parents: `state_dict` of each parent, with its units in the places of the merged model's.
        shares: How much each parent counts.
        inputs (`Tensor`): Inputs of all the data that the model is for.

    Source: Jordan et al. 2023, *REPAIR*, section 3.
    """
    layers = hidden_layers(model, inputs[:2])
    own = {name: value.clone() for name, value in model.state_dict().items()}
    targets: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}
    for parent in parents:
        model.load_state_dict(parent)
        for name, found in _moments(model, layers, inputs).items():
            targets[name].append(found)
    model.load_state_dict(own)
    for name in layers:
        mean, spread = _moments(model, [name], inputs)[name]
        wanted_mean, wanted_spread = (
            sum(share * found[place] for share, found in zip(shares, targets[name], strict=True)) for place in (0, 1)
        )
        layer: Any = model.get_submodule(name)
        scale = wanted_spread / spread.clamp(min=_LEAST_SPREAD)
        layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias.copy_((layer.bias - mean) * scale + wanted_mean)


def hidden_layers(model: nn.Module, inputs: Tensor) -> list[str]:
    """Names of linear and convolutional layers with a bias, in the order in which they run, without the last one.

    Args:
        model (`PreTrainedModel`): The model.
        inputs (`Tensor`): Inputs to run it on.
    """
    order: list[str] = []
    handles = [
        module.register_forward_hook(_noting(order, name))
        for name, module in model.named_modules()
        if isinstance(module, _MATRICES) and module.bias is not None
    ]
    try:
        run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))[:-1]


def _noting(order: list[str], name: str) -> Callable[..., None]:
    return lambda *_: order.append(name)


def unit_outputs(model: nn.Module, names: Sequence[str], inputs: Tensor) -> dict[str, Tensor]:
    """Return what the units of layers answer, shape `(rows, units)`; each place of an image is a row.

    Args:
        model (`PreTrainedModel`): The model.
        names: Names of layers.
        inputs (`Tensor`): What it reads.
    """
    kept: dict[str, list[Tensor]] = {name: [] for name in names}

    def hook_of(name: str) -> Callable[..., None]:
        def keep(_: Any, __: Any, output: Tensor) -> None:
            units = output.flatten(2).movedim(1, 2) if output.ndim == 4 else output
            kept[name].append(units.reshape(-1, units.shape[-1]).float())

        return keep

    handles = [model.get_submodule(name).register_forward_hook(hook_of(name)) for name in names]
    try:
        run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in kept.items()}


def _moments(model: nn.Module, names: Sequence[str], inputs: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation of each unit's outputs, by layer."""
    outputs = unit_outputs(model, names, inputs)
    return {name: (found.mean(0), found.std(0, correction=0)) for name, found in outputs.items()}

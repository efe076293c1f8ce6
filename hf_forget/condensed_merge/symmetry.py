"""Which units of a model can be permuted without changing what it computes, read off a trace of the model itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..evidence.classifier_outputs import class_logits
from .axes import Axes, Factor, broadcast, fix, fixed_axes, free_axes, normalized, parts_of, reshaped, tie

# Operations that treat every place alike, whatever stands in the others.
_PLACE_BY_PLACE = frozenset(
    (
        *("relu", "relu_", "gelu", "sigmoid", "tanh", "silu", "silu_", "hardtanh", "leaky_relu", "elu", "softplus"),
        *("hardswish", "hardsigmoid", "mish", "softmax", "log_softmax", "pow", "sqrt", "rsqrt", "exp", "log", "neg"),
        *("abs", "clamp", "where", "masked_fill", "add", "add_", "sub", "mul", "mul_", "div", "maximum", "minimum"),
        *("clone", "contiguous", "detach", "detach_", "dropout", "feature_dropout", "to", "_to_copy", "alias"),
    )
)
_POOLING = frozenset(["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"])


@dataclass(frozen=True)
class Symmetry:
    """How the units of a model are tied to each other.

    Args:
        sizes: For each group of units that are permuted together its number of units.
        axes: For each parameter and buffer, for each axis, its factors in row-major order: the group that permutes
            the factor, or `None` where nothing does, and the number of places.
    """

    sizes: Mapping[str, int]
    axes: Mapping[str, Sequence[Sequence[tuple[str | None, int]]]]

    def places(self) -> dict[str, list[tuple[str, int]]]:
        """Return, for each group, the tensors and the factors in them (counted over all axes) that it permutes."""
        found: dict[str, list[tuple[str, int]]] = {group: [] for group in self.sizes}
        for name, axes in self.axes.items():
            for place, (group, _) in enumerate(factor for axis in axes for factor in axis):
                if group is not None:
                    found[group].append((name, place))
        return found

    @cached_property
    def beside(self) -> dict[str, set[str]]:
        """For each group those that permute another factor of one of its tensors."""
        groups_of: dict[str, list[str]] = {}
        for group, found in self.places().items():
            for name, _ in found:
                groups_of.setdefault(name, []).append(group)
        beside: dict[str, set[str]] = {group: set() for group in self.sizes}
        for groups in groups_of.values():
            for place, group in enumerate(groups):
                beside[group].update(groups[:place] + groups[place + 1 :])
        return beside

    def shape(self, name: str) -> list[int]:
        """Return the shape of a tensor whose axes are parted into their factors."""
        return [size for axis in self.axes[name] for _, size in axis]


class _Logits(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return class_logits(self.model, inputs)


def symmetry_of(model: nn.Module, inputs: Tensor) -> Symmetry:
    """Derive the permutation symmetries of a classifier from a trace of its forward pass.

    Works on the operations that image classifiers are made of, not on their classes: linear and convolutional layers,
    batch and layer norm, shortcuts, pooling, attention, reshaping. Units of an MLP or a convolution, the features of a
    residual stream, attention heads and the dimensions inside heads (the same permutation in every head) are found.

    Args:
        model (`PreTrainedModel`): A classifier whose output has `logits`.
        inputs (`Tensor`): Two or more inputs, as the model takes them.

    Raises:
        InputError: If the model cannot be traced, or holds an operation whose symmetries are not known; the message
            names it.

    Source: Ainsworth et al. 2023, section 3; there the groups are written by hand for each architecture.
    """
    program = _traced(model, inputs)
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    known: dict[str, Axes] = {}
    tensors: dict[str, Axes] = {}
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder":
            shape = value.shape if isinstance(value, Tensor) else ()
            if node.name in names:
                name = names[node.name].removeprefix("model.")
                known[node.name] = tensors[name] = free_axes(shape)
            else:
                known[node.name] = fixed_axes(shape)
        elif node.op == "call_function":
            _follow(node, value, known)
        elif node.op == "output":
            for argument in node.all_input_nodes:
                fix(known[argument.name])
    return _symmetry(model, tensors)


def _traced(model: nn.Module, inputs: Tensor) -> Any:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return torch.export.export(_Logits(model), (inputs,))
    except Exception as error:  # torch.export raises errors of many kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{type(model).__name__} cannot be traced, so its symmetries are not known: {first}"
        ) from error
    finally:
        model.train(training)


def _symmetry(model: nn.Module, tensors: Mapping[str, Axes]) -> Symmetry:
    """Name the groups after the first parameter that each permutes."""
    group_of: dict[Factor, str] = {}
    sizes: dict[str, int] = {}
    axes: dict[str, list[list[tuple[str | None, int]]]] = {}
    state = model.state_dict()
    order = [name for name in state if name in tensors]
    for name in order:
        axes[name] = []
        for place, axis in enumerate(tensors[name]):
            factors: list[tuple[str | None, int]] = []
            for number, part in enumerate(parts_of(axis)):
                if not part.fixed and part not in group_of:
                    group_of[part] = f"{name}:{place}.{number}"
                    sizes[group_of[part]] = part.size
                factors.append((group_of.get(part), part.size))
            axes[name].append(factors)
    # Weights that are stored under a second name are permuted with the first.
    first = {id(value): name for name, value in reversed([(name, state[name]) for name in order])}
    for name, value in state.items():
        twin = first.get(id(value), name)
        axes.setdefault(name, axes.get(twin, [[(None, size)] for size in value.shape]))
    return Symmetry(sizes, axes)


def _follow(node: Any, value: Any, known: dict[str, Axes]) -> None:
    """Give the result of an operation its axes, and tie those of its inputs."""
    inputs = [known[argument.name] for argument in node.all_input_nodes]
    shape = list(value.shape) if isinstance(value, Tensor) else []
    operation = str(node.target).removeprefix("aten.").partition(".")[0]
    try:
        if all(part.fixed for axes in inputs for axis in axes for part in parts_of(axis)):
            known[node.name] = fixed_axes(shape)
        elif operation in _PLACE_BY_PLACE:
            known[node.name] = broadcast(inputs)
        elif operation in _POOLING:
            known[node.name] = _spatial(inputs[0], shape)
        elif operation in _RULES:
            arguments = torch.fx.map_arg(node.args, lambda argument: known[argument.name])
            known[node.name] = _RULES[operation](list(arguments), shape)
        else:
            raise InputError(f"nothing is known about the operation '{operation}'")
    except InputError as error:
        raise InputError(f"the symmetries of {_where(node)} cannot be derived: {error}") from error


def _where(node: Any) -> str:
    """The innermost module that an operation belongs to."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "the model")
    name = str(path).removeprefix("model.")
    return f"'{name}' ({str(kind).rpartition('.')[2]})" if name else "the model"


def _spatial(axes: Axes, shape: Sequence[int]) -> Axes:
    """What pooling and convolutions do to places of an image: they stay."""
    fix(axes[-2:])
    return [*axes[:-2], *fixed_axes(shape[-2:])]


def _linear(arguments: list[Any], shape: list[int]) -> Axes:
    inputs, weight, *bias = arguments
    tie(inputs[-1], weight[1])
    if bias and bias[0] is not None:
        tie(bias[0][0], weight[0])
    return [*inputs[:-1], weight[0]]


def _convolution(arguments: list[Any], shape: list[int]) -> Axes:
    inputs, weight, *rest = arguments
    bias, groups = (rest[0] if rest else None), (rest[4] if len(rest) > 4 else 1)
    fix(weight[2:])
    if groups == 1:
        tie(inputs[1], weight[1])
    elif groups == shape[1] and not parts_of(weight[1]):
        tie(inputs[1], weight[0])
    else:
        fix([inputs[1], weight[0], weight[1]])
    if bias is not None:
        tie(bias[0], weight[0])
    return _spatial([inputs[0], weight[0], *inputs[2:]], shape)


def _batch_norm(arguments: list[Any], shape: list[int]) -> Axes:
    inputs = arguments[0]
    for own in arguments[1:5]:
        if own is not None:
            tie(inputs[1], own[0])
    return inputs


def _layer_norm(arguments: list[Any], shape: list[int]) -> Axes:
    inputs, over, *own = arguments
    for tensor in own[:2]:
        if tensor is not None:
            for one, another in zip(inputs[-len(over) :], tensor, strict=True):
                tie(one, another)
    return inputs


def _attention(arguments: list[Any], shape: list[int]) -> Axes:
    query, key, value = arguments[:3]
    for place in range(len(query) - 2):
        tie(query[place], key[place])
        tie(query[place], value[place])
    tie(query[-1], key[-1])
    tie(key[-2], value[-2])
    return [*query[:-1], value[-1]]


def _matmul(arguments: list[Any], shape: list[int]) -> Axes:
    first, second = arguments[:2]
    tie(first[-1], second[-2] if len(second) > 1 else second[0])
    batch = broadcast([first[:-2], second[:-2]]) if len(first) > 2 or len(second) > 2 else []
    return [*batch, *first[-2:-1], *(second[-1:] if len(second) > 1 else [])]


def _transpose(arguments: list[Any], shape: list[int]) -> Axes:
    axes, first, second = arguments
    found = list(axes)
    found[first], found[second] = axes[second], axes[first]
    return found


def _permute(arguments: list[Any], shape: list[int]) -> Axes:
    return [arguments[0][place] for place in arguments[1]]


def _expand(arguments: list[Any], shape: list[int]) -> Axes:
    axes = [*fixed_axes([1] * (len(shape) - len(arguments[0]))), *arguments[0]]
    return [axis if parts_of(axis) else fixed_axes([size])[0] for axis, size in zip(axes, shape, strict=True)]


def _reshape(arguments: list[Any], shape: list[int]) -> Axes:
    return reshaped(arguments[0], shape)


def _select(arguments: list[Any], shape: list[int]) -> Axes:
    axes, place = arguments[0], normalized(arguments[1], len(arguments[0]))
    fix([axes[place]])
    return [axis for number, axis in enumerate(axes) if number != place]


def _slice(arguments: list[Any], shape: list[int]) -> Axes:
    axes, place = list(arguments[0]), normalized(arguments[1] if len(arguments) > 1 else 0, len(arguments[0]))
    fix([axes[place]])
    axes[place] = fixed_axes([shape[place]])[0]
    return axes


def _joined(arguments: list[Any], shape: list[int]) -> Axes:
    parts, place = arguments[0], normalized(arguments[1] if len(arguments) > 1 else 0, len(shape))
    fix(axes[place] for axes in parts)
    found = broadcast([[*axes[:place], [Factor(1, fixed=True)], *axes[place + 1 :]] for axes in parts])
    found[place] = fixed_axes([shape[place]])[0]
    return found


def _mean(arguments: list[Any], shape: list[int]) -> Axes:
    axes, count = arguments[0], len(arguments[0])
    over = {normalized(place, count) for place in (arguments[1] if len(arguments) > 1 else range(count))}
    keeps = len(arguments) > 2 and arguments[2]
    return [
        axis if number not in over else fixed_axes([1])[0]
        for number, axis in enumerate(axes)
        if number not in over or keeps
    ]


_RULES: dict[str, Callable[[list[Any], list[int]], Axes]] = {
    "linear": _linear,
    "conv2d": _convolution,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "scaled_dot_product_attention": _attention,
    "matmul": _matmul,
    "bmm": _matmul,
    "transpose": _transpose,
    "permute": _permute,
    "expand": _expand,
    "cat": _joined,
    **dict.fromkeys(("view", "reshape", "flatten", "unsqueeze", "squeeze", "unflatten"), _reshape),
    "select": _select,
    "slice": _slice,
    "mean": _mean,
}

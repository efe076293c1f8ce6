"""Quantization as an attack: rounding the weights can undo an edit that moved them little (Zhang et al. 2025)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..answers import Answer, Ask
from ..probes import Probe
from . import Deadline, Outcome, accuracy, attempt, regained_points

if TYPE_CHECKING:
    import torch

# A model whose linear weights are mostly of another kind (fused experts, weights quantized already) is not attacked.
MIN_COVERAGE = 0.5


@dataclass(frozen=True)
class Grid:
    """A round-to-nearest grid.

    Args:
        bits: Bits per weight.
        group_size: Weights along the input that share a scale; a whole output channel if `None`.
        symmetric: Whether the grid is centred on zero; otherwise it spans the smallest to the largest weight.
    """

    bits: int
    group_size: int | None
    symmetric: bool

    @property
    def description(self) -> str:
        """In words."""
        kind = "symmetric" if self.symmetric else "asymmetric"
        return f"{self.bits}-bit {kind} per {f'group of {self.group_size}' if self.group_size else 'output channel'}"


COUNTED_GRIDS = {
    "int8": Grid(8, None, symmetric=True),
    "int4_symmetric_32": Grid(4, 32, symmetric=True),
    "int4_symmetric_64": Grid(4, 64, symmetric=True),
    "int4_asymmetric_64": Grid(4, 64, symmetric=False),
}
# The embedded model was de-quantised from this grid, so rounding back to it undoes small updates by construction.
BASE_GRID = {"base_grid": Grid(4, 32, symmetric=False)}


def quantized_weight(weight: "torch.Tensor", grid: Grid) -> "torch.Tensor":
    """Return a weight rounded to a grid, in its own shape and dtype.

    Symmetric: `round(w/s)·s` with `s = max|w| / (2^(bits-1) - 1)`. Asymmetric: `min + round((w - min)/s)·s` with
    `s = (max - min) / (2^bits - 1)`. A last group that is too short is a group of its own.

    Args:
        weight (`Tensor` of shape `(out, in)`): The weight.
        grid: The grid.
    """
    import torch

    values = weight.detach().float()
    size = grid.group_size or values.shape[1]
    missing = -values.shape[1] % size
    # Repeating the last value changes no minimum or maximum.
    padded = torch.cat([values, values[:, -1:].expand(-1, missing)], dim=1).unflatten(1, (-1, size))
    if grid.symmetric:
        scale = padded.abs().amax(-1, keepdim=True) / (2 ** (grid.bits - 1) - 1)
        offset = torch.zeros_like(scale)
    else:
        offset = padded.amin(-1, keepdim=True)
        scale = (padded.amax(-1, keepdim=True) - offset) / (2**grid.bits - 1)
    scale = scale.masked_fill(scale == 0, 1.0)
    rounded = padded.sub_(offset).div_(scale).round_().mul_(scale).add_(offset)
    return rounded.flatten(1)[:, : values.shape[1]].to(weight.dtype)


@contextmanager
def fake_quantized(model: Any, grid: Grid) -> Iterator[None]:
    """Round the weights of all linear layers of `model` to a grid inside the block, and put them back bit for bit.

    Embeddings stay as they are, and so does an output head that shares their weight.

    Raises:
        ValueError: If less than half of the model's other weights are in linear layers of floating point numbers.
    """
    weights = _linear_weights(model)
    originals = [(weight, weight.data) for weight, _ in weights]
    try:
        for weight, transposed in weights:
            matrix = weight.data.T if transposed else weight.data
            rounded = quantized_weight(matrix, grid)
            weight.data = rounded.T.contiguous() if transposed else rounded
        yield
    finally:
        for weight, original in originals:
            weight.data = original


def _linear_weights(model: Any) -> list[tuple["torch.nn.Parameter", bool]]:
    """Return each weight once, and whether it stands as `(in, out)`."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    found: dict[int, tuple[nn.Parameter, bool]] = {}
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D):
            weight = module.weight
            if weight.is_floating_point() and weight.ndim == 2 and id(weight) not in embeddings:
                found[id(weight)] = (weight, isinstance(module, Conv1D))
    others = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in embeddings)
    covered = sum(weight.numel() for weight, _ in found.values())
    if not covered or covered < MIN_COVERAGE * others:
        raise ValueError(
            f"only {covered} of the model's {others} weights are in linear layers of floating point numbers, so "
            "rounding these would not be a quantized model"
        )
    return list(found.values())


def quantize_attack(
    model: Any,
    ask: Ask,
    probes: Sequence[Probe],
    plain: Mapping[str, Answer],
    *,
    control: Sequence[Probe] = (),
    control_plain: Mapping[str, Answer] | None = None,
    base_grid: bool = False,
    deadline: Deadline | None = None,
) -> dict[str, Outcome]:
    """Ask `probes` under every grid.

    Args:
        model: The model, whose weights are rounded and put back.
        ask: Asks it probes.
        probes: Forget rows that the base model answers.
        plain: Their answers without the attack.
        control: The same about invented names.
        control_plain: Their answers without the attack.
        base_grid: Whether to add the grid from which the base model was de-quantised.
        deadline: No grid starts after it.

    Returns:
        By grid: `status`, `reason`, the `answers`, their `accuracy` and the `regained` points; with a control its
        `control_regained` points.
    """

    def attack(grid: Grid) -> Outcome:
        with fake_quantized(model, grid):
            given = ask([*probes, *control])
        answers = {probe.id: given[probe.id] for probe in probes}
        outcome = {"answers": answers, "accuracy": accuracy(answers), "regained": regained_points(plain, answers)}
        guesses = {probe.id: given[probe.id] for probe in control}
        if guesses:
            outcome["control_regained"] = regained_points(control_plain or {}, guesses)
        return outcome

    grids = COUNTED_GRIDS | (BASE_GRID if base_grid else {})
    until = deadline or Deadline()
    return {name: attempt(lambda grid=grid: attack(grid), until) for name, grid in grids.items()}  # type: ignore[misc]

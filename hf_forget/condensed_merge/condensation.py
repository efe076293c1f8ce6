"""Condensation: a handful of synthetic inputs that stand for a data set, by matching means of features or gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import InputError, unknown
from ..evidence.classifier_outputs import class_logits, classification_head
from ..evidence.labelled_inputs import LabelledInputs

CONDENSATIONS = ("dm", "dc")
BETAS = (0.5, 0.99)
KEPT_EVERY = 50
ModelFactory = Callable[[], nn.Module]


@dataclass(frozen=True)
class CondensationOptions:
    """How data is condensed.

    Args:
        condensation (`str`, defaults to `"dm"`): `dm` matches the mean features of each class under random models, `dc`
            the gradients of models that are trained on what has been condensed so far.
        images_per_class (`int`, defaults to 10): Inputs for each class.
        steps (`int`, defaults to 1200): For how many random models (`dm`), or steps in all (`dc`).
        learning_rate (`float`, defaults to 0.1): Of Adam, falling linearly to 0, in units of the inputs: how far a
            value moves in a step hardly depends on the scale of features or gradients.
        batch_size (`int`, defaults to 256): Real inputs of a class per step.
        steps_per_model (`int`, defaults to 10): With `dc`, steps before a new random model is drawn.
        seed (`int`, defaults to 0): Of models and choice of rows.

    Raises:
        InputError: If a value is out of range.
    """

    condensation: Literal["dm", "dc"] = "dm"
    images_per_class: int = 10
    steps: int = 1200
    learning_rate: float = 0.1
    batch_size: int = 256
    steps_per_model: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.condensation not in CONDENSATIONS:
            raise InputError(unknown("condensation", self.condensation, CONDENSATIONS))
        for name in ("images_per_class", "steps", "batch_size", "steps_per_model"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate is {self.learning_rate}; it must be above 0")


def condensed_inputs(
    data: LabelledInputs,
    model_factory: ModelFactory,
    options: CondensationOptions | None = None,
    *,
    bounds: tuple[Tensor, Tensor] | None = None,
    state_file: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> LabelledInputs:
    """Condense labelled inputs.

    Args:
        data: The inputs; they are not changed.
        model_factory: Returns a new random classifier for such inputs at each call; its output has `logits`.
        options: How.
        bounds: Least and largest values of the inputs, such as black and white by channel.
        state_file: Where the state is kept every `KEPT_EVERY` steps; one that is there is gone on with.
        progress: Called with the steps done, and all.

    Returns:
        `images_per_class` inputs for each label, in the order of the labels.

    Raises:
        InputError: If a label has fewer rows than inputs are asked for.

    Source: Zhao & Bilen 2023 (`dm`), Zhao et al. 2021 (`dc`), with Adam in the place of plain descent.
    """
    options = options or CondensationOptions()
    classes = {int(label): (data.labels == label).nonzero()[:, 0] for label in data.labels.unique()}
    for label, rows in classes.items():
        if len(rows) < options.images_per_class:
            raise InputError(
                f"class {label} has {len(rows)} inputs, fewer than images_per_class, {options.images_per_class}"
            )
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        chosen = torch.cat([rows[torch.randperm(len(rows))[: options.images_per_class]] for rows in classes.values()])
        synthetic, labels = data.inputs[chosen].clone().requires_grad_(), data.labels[chosen]
        optimizer = torch.optim.Adam([synthetic], lr=options.learning_rate, betas=BETAS)
        apart = _match_means if options.condensation == "dm" else _GradientMatching(options)
        for step in range(_resumed(state_file, synthetic, optimizer), options.steps):
            # What a single random model would have is noise in the end, unless the last steps are small.
            optimizer.param_groups[0]["lr"] = options.learning_rate * (1 - step / options.steps)
            if step % KEPT_EVERY == 0:
                # So that a run that goes on draws what one that was not interrupted draws.
                torch.manual_seed(options.seed + 1_000_003 * (step + 1))
            drawn = {label: rows[torch.randint(len(rows), (options.batch_size,))] for label, rows in classes.items()}
            real = {label: data.inputs[rows] for label, rows in drawn.items()}
            optimizer.zero_grad()
            apart(model_factory, real, {label: synthetic[labels == label] for label in classes}).backward()
            optimizer.step()
            if bounds is not None:
                with torch.no_grad():
                    synthetic.copy_(synthetic.clamp(*bounds))
            if state_file is not None and (step + 1) % KEPT_EVERY == 0:
                _keep(state_file, synthetic, optimizer)
            progress(step + 1, options.steps)
    return LabelledInputs(synthetic.detach(), labels)


def _keep(file: Path, synthetic: Tensor, optimizer: torch.optim.Optimizer) -> None:
    partial = file.with_suffix(".partial")
    save_file({"inputs": synthetic.detach(), **optimizer.state[synthetic]}, partial)
    partial.replace(file)


@torch.no_grad()
def _resumed(file: Path | None, synthetic: Tensor, optimizer: torch.optim.Optimizer) -> int:
    """Load what an interrupted run left, and return the step to go on with."""
    if file is None or not file.is_file():
        return 0
    kept = load_file(file)
    synthetic.copy_(kept.pop("inputs"))
    optimizer.state[synthetic] = kept
    return int(kept["step"])


def _match_means(model_factory: ModelFactory, real: dict[int, Tensor], own: dict[int, Tensor]) -> Tensor:
    """Squared distance of mean features under a new random model, summed over the classes."""
    # Convolutions are half as fast again with the channels of a pixel side by side.
    model = model_factory().eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = _features(model, torch.cat(list(real.values()))).split([len(part) for part in real.values()])
    found = _features(model, torch.cat(list(own.values()))).split([len(part) for part in own.values()])
    apart = [(one.mean(0) - other.mean(0)).square().sum() for one, other in zip(wanted, found, strict=True)]
    return torch.stack(apart).sum()


class _GradientMatching:
    """Matches gradients of a model that learns from what has been condensed, and is drawn anew now and then."""

    def __init__(self, options: CondensationOptions):
        self.options = options
        self.model: Any = None
        self.done = 0

    def __call__(self, model_factory: ModelFactory, real: dict[int, Tensor], own: dict[int, Tensor]) -> Tensor:
        if self.model is None or self.done % self.options.steps_per_model == 0:
            self.model = model_factory().eval()
        else:
            self._learn(own)
        self.done += 1
        apart = [
            _row_distance(self._gradients(real[label], label), self._gradients(own[label], label, keep=True))
            for label in real
        ]
        return torch.stack(apart).sum()

    def _gradients(self, inputs: Tensor, label: int, *, keep: bool = False) -> list[Tensor]:
        weights = [weight for weight in self.model.parameters() if weight.ndim > 1]
        logits = class_logits(self.model, inputs)
        loss = nn.functional.cross_entropy(logits, torch.full((len(inputs),), label, device=inputs.device))
        return list(torch.autograd.grad(loss, weights, create_graph=keep))

    def _learn(self, own: dict[int, Tensor]) -> None:
        """One step of the model on the condensed inputs as they are."""
        inputs = torch.cat(list(own.values())).detach()
        labels = torch.cat([torch.full((len(part),), label) for label, part in own.items()]).to(inputs.device)
        weights = list(self.model.parameters())
        loss = nn.functional.cross_entropy(class_logits(self.model, inputs), labels)
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 0.01 * gradient


def _row_distance(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Sum over layers and units of one minus the cosine of their gradients."""
    return torch.stack(
        [
            (1 - nn.functional.cosine_similarity(one.flatten(1), other.flatten(1), dim=1)).sum()
            for one, other in zip(first, second, strict=True)
        ]
    ).sum()


def _features(model: Any, inputs: Tensor) -> Tensor:
    """What the last linear layer of a classifier reads, with gradients."""
    kept: list[Tensor] = []
    handle = classification_head(model).register_forward_pre_hook(lambda _, arguments: kept.append(arguments[0]))
    try:
        class_logits(model, inputs)
    finally:
        handle.remove()
    return kept[0].flatten(1)

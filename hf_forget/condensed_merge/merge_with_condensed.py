"""`MergeWithCondensed`: several classifiers become one that does the work of all, with a handful of inputs."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.images import image_tensors
from ..errors import InputError
from ..evidence.classifier_outputs import class_logits, classification_head
from ..evidence.labelled_inputs import LabelledInputs
from ..publishing.checkpoint import push_checkpoint, save_checkpoint
from .condensed_merge_config import MergeWithCondensedConfig
from .interpolation import average, reestimate_norms, rescale_units
from .matching import activation_matching, weight_matching
from .permutation import Permutation, apply_permutation, identity, permuted_state, random_permutation
from .straight_through import Candidate, Surrogate, scored, straight_through_matching
from .symmetry import Symmetry, symmetry_of

# Rows on which the symmetries are checked, and the side of images where a model does not say what it takes.
_CHECKED_ROWS, _SIDE = 4, 64


@dataclass(frozen=True)
class MergeResult:
    """What one merge did.

    Args:
        permutations: For each model but the first, for each group of units which one came to each place.
        losses: For each of these, mean cross-entropy on the surrogate with the permutation that was kept; `None`
            without data.
        steps: For each of these, after how many steps of matching it was found.
        seconds: Time of the merge.
    """

    permutations: list[Permutation]
    losses: list[float | None]
    steps: list[int]
    seconds: float


class MergeWithCondensed:
    """Merges classifiers of one architecture, each trained on data of its own, by permuting and averaging.

    Args:
        models (sequence of `PreTrainedModel`): Two or more; they are not changed.
        condensed (sequence of `datasets.Dataset` or of [`~hf_forget.evidence.labelled_inputs.LabelledInputs`],
            *optional*): For each model images with its labels: condensed ones, a subset, or all of them. Matched by
            weights alone if not given.
        args ([`MergeWithCondensedConfig`], *optional*): Options.
        processing_class (*optional*): The image processor of all models; it is saved beside the merged one, and reads
            images that are given as a `datasets.Dataset`.

    Raises:
        InputError: If the models differ in architecture or widths, their symmetries cannot be derived, or the data do
            not fit them.

    Example:
        >>> merger = MergeWithCondensed([digits, clothes], [condensed_digits, condensed_clothes])
        >>> result = merger.merge()
        >>> merger.save_pretrained("merged")

    Source: arXiv 2306.05641.
    """

    def __init__(
        self,
        models: Sequence[Any],
        condensed: Sequence[Any] | None = None,
        args: MergeWithCondensedConfig | None = None,
        *,
        processing_class: Any = None,
    ) -> None:
        self.args = args or MergeWithCondensedConfig()
        self.processing_class = processing_class
        if len(models) < 2:
            raise InputError(f"{len(models)} model is given; give two or more to merge")
        if condensed is not None and len(condensed) != len(models):
            raise InputError(f"there are {len(models)} models and {len(condensed)} sets of inputs; give one for each")
        if self.args.matching in ("straight_through", "activations") and condensed is None:
            raise InputError(f"matching '{self.args.matching}' needs data; give condensed inputs, or match by weights")
        joined = self.args.head == "joined"
        self._states, self.model = _joined(models) if joined else _shared(models)
        counts = [model.config.num_labels for model in models]
        self._first_labels = [0, *accumulate(counts)][:-1] if joined else [0] * len(models)
        self._data: list[LabelledInputs] | None = None
        if condensed is not None:
            given = [self._inputs(item) for item in condensed]
            self._data = [_checked(*pair, place) for place, pair in enumerate(zip(models, given, strict=True), 1)]
        self.result: MergeResult | None = None
        # The models with their units in the places of the merged one's.
        self._matched_states: list[dict[str, Tensor]] = []

    def _inputs(self, item: Any) -> LabelledInputs:
        if isinstance(item, LabelledInputs):
            return item
        if self.processing_class is None:
            raise InputError("images need an image processor; give it as processing_class")
        return LabelledInputs(*image_tensors(item, self.processing_class))

    def merge(self) -> MergeResult:
        """Match and average the models; the merged one is `model`.

        Raises:
            InputError: If the symmetries of the models do not hold.
        """
        start = time.perf_counter()
        everything = self._surrogate(len(self._states))
        inputs = _example(self.model) if everything is None else everything.inputs[:_CHECKED_ROWS]
        symmetry = symmetry_of(self.model, inputs)
        self._check(symmetry, inputs)
        parents, found = [self._states[0]], list[Candidate]()
        for count, state in enumerate(self._states[1:], start=1):
            merged = average(parents, [1 / count] * count)
            candidate = self._matched(symmetry, merged, state, self._surrogate(count + 1), 1 / (count + 1))
            found.append(candidate)
            parents.append(permuted_state(symmetry, state, candidate.permutation))
        self._matched_states = parents
        self._between([1 / len(parents)] * len(parents))
        self.result = MergeResult(
            [candidate.permutation for candidate in found],
            [None if everything is None else candidate.loss for candidate in found],
            [candidate.step for candidate in found],
            time.perf_counter() - start,
        )
        return self.result

    def interpolated(self, shares: Sequence[float]) -> Any:
        """Return a model between those that were merged; `merge` gives the one in the middle.

        Args:
            shares: How much each model counts; they add up to 1.

        Raises:
            InputError: If nothing has been merged yet.
        """
        self._check_merged()
        kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._between(shares)
        found = copy.deepcopy(self.model)
        self.model.load_state_dict(kept)
        return found

    def _between(self, shares: Sequence[float]) -> None:
        """Load the average of the matched models, with norms and, if asked for, spreads for all the data."""
        self.model.load_state_dict(average(self._matched_states, shares))
        if self.args.head == "joined":
            self._restore_head_scale()
        data = self._surrogate(len(self._states))
        if data is not None:
            if self.args.rescale:
                rescale_units(self.model, self._matched_states, shares, data.inputs)
            reestimate_norms(self.model, data.inputs)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the merged model, which plain `transformers` loads, and the processor; returns the folder.

        Raises:
            InputError: If nothing has been merged yet.
        """
        self._check_merged()
        return save_checkpoint(self.model, self.processing_class, folder)

    def push_to_hub(self, repo_id: str | None = None, *, private: bool | None = None) -> str:
        """Push the merged model and the processor to the Hub and return the address of the commit.

        Args:
            repo_id (`str`, *optional*): The repository; `args.hub_model_id` if not given.
            private (`bool`, *optional*): Whether to create it as a private one.

        Raises:
            InputError: If nothing has been merged yet, or no repository is given.
        """
        self._check_merged()
        name = repo_id or self.args.hub_model_id
        if not name:
            raise InputError("no repository is given; pass repo_id or set hub_model_id")
        message = "Upload merged model"
        return push_checkpoint(self.model, self.processing_class, name, private=private, message=message)

    def _check_merged(self) -> None:
        if self.result is None:
            raise InputError("nothing has been merged yet; call merge() first")

    def _matched(
        self,
        symmetry: Symmetry,
        first: Mapping[str, Tensor],
        second: Mapping[str, Tensor],
        surrogate: Surrogate | None,
        share: float,
    ) -> Candidate:
        matching = self.args.matching or ("weights" if surrogate is None else "straight_through")
        if matching == "straight_through":
            assert surrogate is not None
            return straight_through_matching(
                self.model,
                symmetry,
                first,
                second,
                surrogate,
                share=share,
                steps=self.args.matching_steps,
                learning_rate=self.args.matching_learning_rate,
                batch_size=self.args.matching_batch_size,
                seed=self.args.merge_seed,
            )
        if matching == "weights":
            permutation = weight_matching(symmetry, first, second, seed=self.args.merge_seed)
        elif matching == "activations":
            assert surrogate is not None
            permutation = activation_matching(self.model, symmetry, first, second, surrogate.inputs)
        else:
            permutation = identity(symmetry)
        loss = scored(self.model, symmetry, first, second, permutation, surrogate, share) if surrogate else float("nan")
        return Candidate(permutation, loss, 0)

    def _surrogate(self, count: int) -> Surrogate | None:
        """The inputs of the first models, with the labels of the merged head."""
        if self._data is None:
            return None
        data = list(zip(self._data, self._first_labels, strict=True))[:count]
        return Surrogate(
            torch.cat([part.inputs for part, _ in data]), torch.cat([part.labels + first for part, first in data])
        )

    def _check(self, symmetry: Symmetry, inputs: Tensor) -> None:
        """Permute each model at random, and see that it answers the same."""
        for place, state in enumerate(self._states):
            self.model.load_state_dict(state)
            apply_permutation(self.model, symmetry, random_permutation(symmetry, place), inputs)

    @torch.no_grad()
    def _restore_head_scale(self) -> None:
        """Outputs that only one model has were averaged with zeros."""
        for value in classification_head(self.model).parameters():
            value.mul_(len(self._states))


def _state(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _shared(models: Sequence[Any]) -> tuple[list[dict[str, Tensor]], Any]:
    """States of models whose outputs are used by all, and a model to load them into."""
    _check_alike(models, {name: tuple(value.shape) for name, value in models[0].state_dict().items()})
    merged = copy.deepcopy(models[0]).eval()
    names = [
        list(dict.fromkeys(str(model.config.id2label[label]) for model in models))
        for label in range(merged.config.num_labels)
    ]
    _name_labels(merged, [" / ".join(own) for own in names])
    return [_state(model) for model in models], merged


def _joined(models: Sequence[Any]) -> tuple[list[dict[str, Tensor]], Any]:
    """States of models each of which has got the outputs of all, and a model to load them into."""
    names = [str(model.config.id2label[label]) for model in models for label in range(model.config.num_labels)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"several models have a class '{twice[0]}'; rename it in id2label of one of them, or merge with "
            "head 'shared'"
        )
    counts = [model.config.num_labels for model in models]
    widened = [copy.deepcopy(model).eval() for model in models]
    for place, model in enumerate(widened):
        _widen(model, sum(counts[:place]), sum(counts))
    _check_alike(widened, {name: tuple(value.shape) for name, value in widened[0].state_dict().items()})
    _name_labels(widened[0], names)
    return [_state(model) for model in widened], widened[0]


@torch.no_grad()
def _widen(model: Any, first: int, count: int) -> None:
    """Give a classifier more outputs, its own from `first` on; the others are zero."""
    head = classification_head(model)
    for name, value in list(head.named_parameters()):
        wide = torch.zeros(count, *value.shape[1:])
        wide[first : first + len(value)] = value
        setattr(head, name, torch.nn.Parameter(wide))
    head.out_features = count


def _name_labels(model: Any, names: Sequence[str]) -> None:
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: label for label, name in enumerate(names)}
    if hasattr(model, "num_labels"):
        model.num_labels = len(names)


def _check_alike(models: Sequence[Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    first = models[0]
    for place, model in enumerate(models[1:], start=2):
        if type(model) is not type(first):
            raise InputError(
                f"model 1 is a {type(first).__name__} and model {place} a {type(model).__name__}; only models of one "
                "architecture can be merged"
            )
        own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        for name in [*shapes, *own]:
            if own.get(name) != shapes.get(name):
                raise InputError(
                    f"'{name}' has the shape {shapes.get(name, 'missing')} in model 1 and {own.get(name, 'missing')} "
                    f"in model {place}; only models of the same widths and depth can be merged"
                )


def _checked(model: Any, data: LabelledInputs, place: int) -> LabelledInputs:
    """Run a model on two of its inputs, and see that its labels are those of the data."""
    if not len(data):
        raise InputError(f"there are no inputs for model {place}")
    if int(data.labels.max()) >= model.config.num_labels or int(data.labels.min()) < 0:
        raise InputError(
            f"the inputs of model {place} have the label {int(data.labels.max())}, and it has "
            f"{model.config.num_labels} classes"
        )
    try:
        with torch.no_grad():
            class_logits(model, data.inputs[:2])
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"inputs of the shape {tuple(data.inputs.shape[1:])} do not fit model {place}: {error}"
        ) from error
    return data


def _example(model: Any) -> Tensor:
    """Random images of the size that a model takes."""
    config = model.config
    side = getattr(config, "image_size", None) or _SIDE
    sides = tuple(side) if isinstance(side, list | tuple) else (side, side)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(_CHECKED_ROWS, getattr(config, "num_channels", 3), *sides, generator=generator)

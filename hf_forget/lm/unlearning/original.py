"""What the original model makes of the rows, kept before it is changed, so that no second model is needed."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from ..forward import LabelledForward, frozen_head
from ..objectives import LabelledTokens
from ..representation import state_distance
from ..rows import RowDataset

Heard = Iterable[tuple[list[int], LabelledForward]]


class OriginalModel:
    """The original model's hidden states on rows: the final ones at labels, and those of some layers.

    Args:
        run: Passes examples of a dataset through a model; called with the model, the dataset, the examples and the
            layers to watch, and gives the places of the examples with what came out.
        layers (`Sequence[int]`): Decoder layers whose states are kept for training rows.
        standardise (`bool`): Whether distances are in units of every hidden unit's spread.
    """

    def __init__(
        self,
        run: Callable[[Any, RowDataset, list[dict[str, Any]], Sequence[int]], Heard],
        layers: Sequence[int],
        *,
        standardise: bool = True,
    ):
        self.run = run
        self.layers = list(layers)
        self.standardise = standardise
        # By row: the states of the watched layers, shape `(layers, positions, hidden)`.
        self.states: dict[int, Tensor] = {}
        self._final: dict[RowDataset, list[Tensor]] = {}
        self._head: Callable[[Tensor], Tensor] | None = None
        self._scale: Tensor | None = None

    def hear(self, model: Any, dataset: RowDataset, rows: Sequence[int], watched: Sequence[int] = ()) -> None:
        """Keep what the model makes of rows, once.

        Args:
            model: The model; an adapter is switched off meanwhile.
            dataset: Where the rows stand.
            rows: Those that are compared with.
            watched: Those of them of which the states of all layers are kept.
        """
        if dataset in self._final:
            return
        adapter_off = model.disable_adapter() if isinstance(model, PeftModel) else contextlib.nullcontext()
        if self._head is None:
            self._head = frozen_head(model)
        found: dict[int, Tensor] = {}
        kept = set(watched)
        with adapter_off:
            examples = [dataset.reference_examples[row] for row in rows]
            for part, (tokens, hidden, states) in self.run(model, dataset, examples, self.layers if kept else ()):
                part = [rows[place] for place in part]
                found |= {row: hidden[tokens.rows == place].float() for place, row in enumerate(part)}
                self.states |= {
                    row: own[:, -(dataset.compared[row] or own.shape[1]) :].float().clone()
                    for row, own in zip(part, states, strict=bool(states))
                    if row in kept
                }
        # Rows that are compared with nothing leave their places empty.
        lengths = [sum(label >= 0 for label in example["labels"]) for example in dataset.examples]
        empty = next(iter(found.values()), torch.zeros(0, 1, device=model.device))[:0]
        self._final[dataset] = [
            found[row] if row in found else empty.new_zeros(length, empty.shape[1])
            for row, length in enumerate(lengths)
        ]
        if kept and self.states:
            together = torch.cat(list(self.states.values()), dim=1)
            spread = together.std(1, keepdim=True).clamp(min=1e-6)
            self._scale = spread if self.standardise else torch.ones_like(spread)

    def has_heard(self, dataset: RowDataset) -> bool:
        """Whether what the original model makes of a dataset is known."""
        return dataset in self._final

    def beside(self, dataset: RowDataset, tokens: LabelledTokens, row_index: Tensor, chosen: Tensor) -> LabelledTokens:
        """Add the original model's logits at the positions in `chosen` of the rows in `row_index`."""
        hidden = torch.cat([self._final[dataset][row] for row in row_index.tolist()])[chosen]
        with torch.no_grad():
            logits = self._head(hidden) if self._head else None
        return dataclasses.replace(tokens, reference_logits=logits)

    def distances(self, states: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
        """Distance of each row's hidden states from the original's, 0 where they were not kept, shape `(rows,)`."""
        distances = []
        for own, row in zip(states, rows, strict=True):
            reference = self.states.get(row)
            if reference is None or self._scale is None:
                distances.append(own.new_zeros((), dtype=torch.float32))
                continue
            compared = min(own.shape[1], reference.shape[1])
            distances.append(state_distance(own[:, -compared:], reference[:, -compared:], self._scale))
        return torch.stack(distances)

"""What the target's latents are aligned with: those of known and unknown entities in the same texts, as the original
model has them, and the loss that compares them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from ..data import banks
from ..lm.representation import run_to_layer, states_at
from ..lm.rows import IGNORE_INDEX, Row, tokenize_row
from .activations import token_batches
from .alignment import Distance, alignment_loss
from .alignment_rows import REQUESTS, about, cut_behind
from .entity_lists import EntityLists
from .latents import LatentSpace, choose_latents
from .saes import pre_activations

BATCH = 32
# Texts in which latents are chosen, and positions of general text on which they must be rare.
CHOOSING_REQUESTS = 2
GENERAL_TEXTS = 64
# Where known and unknown entities are hardly apart, the loss is not blown up. Latents are standardised.
LEAST_UNIT = 0.05


@dataclass(frozen=True)
class EntityReader:
    """Reads the states of a name, at its end and at the end of the text.

    Args:
        model (`PreTrainedModel`): The model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        layers: Decoder layers, in ascending order.
        max_length: Where texts are cut, in tokens.
        precision: Makes the context in which the model runs.
    """

    model: Any
    tokenizer: Any
    layers: Sequence[int]
    max_length: int
    precision: Callable[[], AbstractContextManager]

    def states(self, rows: Sequence[Row], names: Sequence[str]) -> Tensor:
        """Return the states of texts in their spans, shape `(rows, layers, 3, hidden)`.

        Args:
            rows: Rows of kind `alignment`.
            names: The name that each prompt ends with.
        """
        examples = [tokenize_row(row.prompt, row.completion, self.tokenizer, self.max_length) for row in rows]
        lengths = [name_length(row.prompt, name, self.tokenizer) for row, name in zip(rows, names, strict=True)]
        return states_at(
            self.model,
            [example["input_ids"] for example in examples],
            [spans(example["labels"], length) for example, length in zip(examples, lengths, strict=True)],
            self.layers,
            precision=self.precision,
        )


def name_length(prompt: str, name: str, tokenizer: Any) -> int:
    """How many tokens belong to the name that a prompt ends with, a word joined to it before included."""
    whole, before = (tokenizer(text)["input_ids"] for text in (prompt, prompt[: len(prompt) - len(name)]))
    shared = 0
    for own, other in zip(whole, before, strict=False):
        if own != other:
            break
        shared += 1
    return max(1, len(whole) - shared)


def spans(labels: Sequence[int], length: int) -> list[tuple[int, int]]:
    """The name, its last token, and the last token of a row of kind `alignment`: first position, and behind the last.

    Args:
        labels: Those of the row; the name ends with the last token without a label.
        length: Tokens of the name.
    """
    end = sum(label == IGNORE_INDEX for label in labels)
    return [(max(0, end - length), end), (end - 1, end), (len(labels) - 1, len(labels))]


@dataclass(frozen=True)
class EntityLatents:
    """The latents of one SAE at one position, for the texts of the target.

    Args:
        layer: Index of the decoder layer that the SAE reads.
        position: Index of the span, see [`spans`].
        sae: The SAE.
        space: The chosen latents and their scale.
        centers (`Tensor` of shape `(texts, latents)`): What is taken off the pre-activations in each text: the mean of
            the unknown entities there, or nothing.
        known, unknown (`Tensor` of shape `(texts, entities, chosen)`): Those of other entities.
        unit: Distance of the unknown from the known; the unit of the loss.
    """

    layer: int
    position: int
    sae: Any
    space: LatentSpace
    centers: Tensor
    known: Tensor
    unknown: Tensor
    unit: Tensor

    def loss(self, states: Tensor, texts: Sequence[int], distance: Distance, margin: float) -> Tensor:
        """Return the loss of the target's states in some of the texts, in units of the distance of unknown and known.

        Args:
            states (`Tensor` of shape `(texts, hidden)`): The target's states at the position.
            texts: Which texts these are.
            distance: One of [`~hf_forget.sae_align.alignment.DISTANCES`].
            margin: By how much it shall be nearer to the unknown than to the known, in the same unit.
        """
        own = self.space(pre_activations(self.sae, states.float()) - self.centers[list(texts)])

        def measured(first: Tensor, second: Tensor) -> Tensor:
            return distance(first, second) / self.unit

        known, unknown = (bank[list(texts)].flatten(0, 1) for bank in (self.known, self.unknown))
        return alignment_loss(own, unknown, known, distance=measured, margin=margin)


def entity_latents(
    reader: EntityReader,
    saes: Mapping[int, Sequence[Any]],
    rows: Sequence[Row],
    names: Sequence[str],
    entities: EntityLists,
    kind: str,
    *,
    positions: Sequence[int],
    per_text: int,
    count: int,
    distance: Distance,
    within_texts: bool = False,
    seed: int = 0,
) -> list[EntityLatents]:
    """Run the original model on the texts of the target with other entities in its place, and choose the latents.

    Args:
        reader: Reads the original model's states; its layers are those of `saes`.
        saes: SAEs by layer.
        rows: The target's texts.
        names: Names of the target, one of which each prompt ends with.
        entities: Known and unknown entities to train on.
        kind: The target's type; entities of this type are put into its texts, or all where there are none.
        positions: Indices of the spans that are compared, see [`spans`].
        per_text: Known, and unknown, entities per text.
        count: Latents that are chosen.
        distance: In which the unit of the loss is measured.
        within_texts: Whether what the text alone makes of a state is taken out before entities are compared.
        seed: Which entities stand in which text.

    Raises:
        InputError: If no latent tells known from unknown entities.
    """
    random = Random(seed)
    bank: list[Tensor] = []
    for others in entities.of(kind):
        drawn = _Deck(others, random)
        texts = [(about(row, names, other), other) for row in rows for other in drawn.take(per_text)]
        bank.append(reader.states(*zip(*texts, strict=True)).unflatten(0, (len(rows), -1)))
    asked = [cut_behind(text.format(name=names[0]), names[0]) for text in REQUESTS[:CHOOSING_REQUESTS]]

    def states_of(others: Sequence[str]) -> Tensor:
        texts = [(about(row, names, other), other) for other in others for row in asked]
        return reader.states(*zip(*texts, strict=True))

    every = [{key: states_of(others) for key, others in lists.items()} for lists in (entities.known, entities.unknown)]
    found = []
    for place, layer in enumerate(reader.layers):
        for sae, rate in zip(saes[layer], _general_rates(reader, saes[layer], layer), strict=True):
            for position in positions:
                known, unknown = (
                    {key: _codes(sae, states[:, place, position]) for key, states in part.items()} for part in every
                )
                here = [_pre_activations(sae, states[:, :, place, position]) for states in bank]
                centers = here[1].mean(1) if within_texts else torch.zeros_like(here[1][:, 0])
                here = [values - centers[:, None] for values in here]
                space = choose_latents(known, unknown, rate, torch.cat(here, dim=1).flatten(0, 1), count=count)
                latents = [space(values) for values in here]
                unit = distance(*(_sample(part.flatten(0, 1), seed) for part in latents)).clamp(min=LEAST_UNIT)
                found.append(EntityLatents(layer, position, sae, space, centers, latents[0], latents[1], unit))
    return found


class _Deck:
    """Hands out all names, mixed, before one comes up again."""

    def __init__(self, names: Sequence[str], random: Random):
        self.names, self.random, self.left = list(names), random, list[str]()

    def take(self, count: int) -> list[str]:
        drawn: list[str] = []
        while len(drawn) < min(count, len(self.names)):
            if not self.left:
                self.left = self.random.sample(self.names, len(self.names))
            name = self.left.pop()
            if name not in drawn:
                drawn.append(name)
        return drawn


def _sample(values: Tensor, seed: int, count: int = 256) -> Tensor:
    """At most so many rows, drawn without replacement: all pairs of a bank would not fit into memory."""
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))[:count]
    return values[order.to(values.device)]


@torch.no_grad()
def _pre_activations(sae: Any, states: Tensor) -> Tensor:
    return pre_activations(sae, states)


@torch.no_grad()
def _codes(sae: Any, states: Tensor) -> Tensor:
    return sae.encode(states)


@torch.no_grad()
def _general_rates(reader: EntityReader, saes: Sequence[Any], layer: int) -> list[Tensor]:
    """For each SAE of a layer, on which share of the positions of general text each latent is active."""
    texts = banks.general_text()[: -banks.HELD_BACK_PARAGRAPHS][:GENERAL_TEXTS]
    active, count = [torch.zeros(sae.cfg.d_sae, device=reader.model.device) for sae in saes], 0
    for ids, mask in token_batches(reader.tokenizer, texts, batch_size=BATCH, max_length=reader.max_length):
        ids, mask = ids.to(reader.model.device), mask.to(reader.model.device)
        with reader.precision():
            states = run_to_layer(reader.model, ids, mask, layer)
        kept = mask.bool()
        kept[:, 0] = False
        for own, sae in zip(active, saes, strict=True):
            own += (sae.encode(states[kept].float()) > 0).sum(0)
        count += int(kept.sum())
    return [own / max(count, 1) for own in active]

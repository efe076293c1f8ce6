"""One forward pass that computes logits only where labels are, for any causal LM of `transformers`."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .objectives import LabelledTokens
from .prefix import PrefixCache, prefix_cache
from .representation import watched_layers
from .rows import IGNORE_INDEX


@contextmanager
def head_inputs_at(model: nn.Module, positions: Tensor) -> Iterator[list[Tensor]]:
    """Let the output head see only the hidden states at `positions`, and collect what it saw.

    Args:
        model: A causal LM with output embeddings.
        positions (`BoolTensor` of shape `(rows, length)`): Positions whose logits are wanted.

    Yields:
        A list that holds the head's inputs, shape `(tokens, hidden)`, after the forward pass.
    """
    seen: list[Tensor] = []

    def select(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0][positions]
        seen.append(hidden)
        return (hidden[None], *args[1:])

    handle = output_head(model).register_forward_pre_hook(select)
    try:
        yield seen
    finally:
        handle.remove()


def output_head(model: Any) -> nn.Module:
    """The module that turns hidden states into logits."""
    return model.get_output_embeddings()


def labelled_positions(labels: Tensor) -> Tensor:
    """Positions whose next token carries a label, shape of `labels`."""
    positions = torch.zeros_like(labels, dtype=torch.bool)
    positions[:, :-1] = labels[:, 1:] != IGNORE_INDEX
    return positions


class LabelledForward(NamedTuple):
    """What one pass gives.

    Args:
        tokens: Logits in float32 at the labels, in row order.
        hidden: The final hidden states that gave them, shape `(tokens, hidden)`.
        states: For each row the outputs of the watched layers, shape `(layers, positions, hidden)`, at the positions
            after its shared prefix.
    """

    tokens: LabelledTokens
    hidden: Tensor
    states: list[Tensor]


def labelled_forward(
    model: Any, batch: dict[str, Tensor], prefixes: Sequence[Sequence[int]] = (), *, layers: Sequence[int] = ()
) -> LabelledForward:
    """Run a batch of rows.

    Prefixes that rows share pass once, and no gradient flows through them; every row goes on from its own. Short and
    long rows pass in groups where that saves padding.

    Args:
        model: Any causal LM.
        batch: `input_ids`, `attention_mask` and `labels`, each of shape `(rows, length)`, padded on the right, and
            `prefix`, the index of each row's prefix or -1.
        prefixes: Token ids of the prefixes; without any, every row passes whole.
        layers: Decoder layers whose outputs are returned, too.
    """
    owners = batch["prefix"] if prefixes else torch.full_like(batch["input_ids"][:, 0], -1)
    used = owners[owners >= 0].unique()
    prefixes = [prefixes[owner] for owner in used.tolist()]
    cache = prefix_cache(_unwrapped(model), prefixes) if prefixes else None
    found = owners >= 0 if cache is not None else torch.zeros_like(owners, dtype=torch.bool)
    owners = torch.where(found, torch.searchsorted(used, owners), -1)
    starts = torch.tensor(
        [len(prefixes[owner]) if owner >= 0 else 0 for owner in owners.tolist()], device=owners.device
    )
    own = {key: _shifted(batch[key], starts) for key in ("input_ids", "attention_mask")}
    own["labels"] = _shifted(batch["labels"], starts, fill=IGNORE_INDEX)
    lengths = own["attention_mask"].sum(-1)
    parts, states = [], {}
    for group in _length_groups(lengths):
        part = {key: tensor[group] for key, tensor in own.items()}
        with watched_layers(_unwrapped(model), layers) as seen:
            parts.append((group, *_forward(model, part, cache, owners[group], starts[group])))
        outputs = torch.stack(seen) if seen else None
        for place, row in enumerate(group.tolist()):
            if outputs is not None:
                states[row] = outputs[:, place, : lengths[row]]
    rows = torch.cat([group[tokens.rows] for group, tokens, _ in parts])
    order = rows.argsort(stable=True)
    logits = torch.cat([tokens.logits for _, tokens, _ in parts])[order]
    labels = torch.cat([tokens.labels for _, tokens, _ in parts])[order]
    hidden = torch.cat([final for *_, final in parts])[order]
    tokens = LabelledTokens(logits, labels, rows[order], len(owners))
    return LabelledForward(tokens, hidden, [states[row] for row in range(len(owners))] if layers else [])


_WORTH_SPLITTING = 0.87


def _shifted(values: Tensor, starts: Tensor, fill: int = 0) -> Tensor:
    """Drop the first `starts` columns of each row and fill up on the right."""
    width = values.shape[1]
    columns = torch.arange(width, device=values.device)[None] + starts[:, None]
    return values.gather(1, columns.clamp(max=width - 1)).masked_fill(columns >= width, fill)


def _length_groups(lengths: Tensor) -> list[Tensor]:
    """Rows in groups of like length: a group is halved where that saves enough padding, and its halves again."""
    ordered, order = lengths.sort(descending=True)

    def groups(start: int, end: int) -> list[Tensor]:
        count = torch.arange(1, end - start, device=lengths.device)
        area = count * ordered[start] + (end - start - count) * ordered[start + 1 : end]
        if not len(area) or area.min() > _WORTH_SPLITTING * (end - start) * ordered[start]:
            return [order[start:end]]
        middle = start + 1 + int(area.argmin())
        return [*groups(start, middle), *groups(middle, end)]

    return groups(0, len(ordered))


def _forward(
    model: Any, batch: dict[str, Tensor], cache: PrefixCache | None, owners: Tensor, starts: Tensor
) -> tuple[LabelledTokens, Tensor]:
    width = int(batch["attention_mask"].sum(-1).max())
    ids, mask, labels = (batch[key][:, :width] for key in ("input_ids", "attention_mask", "labels"))
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if cache is not None:
        inputs |= {
            "attention_mask": torch.cat([cache.mask(owners), mask], dim=1),
            "position_ids": starts[:, None] + torch.arange(width, device=ids.device)[None],
            "past_key_values": cache.rows(owners),
            "use_cache": True,
        }
    positions = labelled_positions(labels)
    with head_inputs_at(_unwrapped(model), positions) as seen:
        output = model(**inputs)
    rows, columns = positions.nonzero(as_tuple=True)
    tokens = LabelledTokens(output.logits[0].float(), labels[rows, columns + 1], rows, labels.shape[0])
    return tokens, seen[0]


def frozen_head(model: Any) -> Callable[[Tensor], Tensor]:
    """Copy the output head as it is now, with what the architecture does to logits after it.

    Returns:
        A function from final hidden states of shape `(tokens, hidden)` to logits of shape `(tokens, vocabulary)`.
    """
    model = _unwrapped(model)
    head = copy.deepcopy(output_head(model)).requires_grad_(False)
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)

    def logits(hidden: Tensor) -> Tensor:
        values = head(hidden.to(next(head.parameters()).dtype)).float()
        values = values * scale if scale else values
        values = values / divisor if divisor else values
        return cap * torch.tanh(values / cap) if cap else values

    return logits


def _unwrapped(model: Any) -> Any:
    """The model inside a data-parallel wrapper."""
    return getattr(model, "module", model) if not hasattr(model, "get_output_embeddings") else model

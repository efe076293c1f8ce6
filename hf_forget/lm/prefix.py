"""The tokens that many rows share pass through the model once: prefixes, and their keys and values."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MIN_PREFIX = 16
MIN_ROWS = 4
BUCKET_TOKENS = 12


def shared_prefix_length(sequences: Sequence[Sequence[int]]) -> int:
    """Return how many leading tokens all sequences share, leaving each at least one token of its own."""
    shortest, longest = min(map(list, sequences)), max(map(list, sequences))
    limit = min(len(sequence) for sequence in sequences) - 1
    shared = 0
    while shared < limit and shortest[shared] == longest[shared]:
        shared += 1
    return shared


def find_prefixes(prompts: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """Find the prefixes that at least `MIN_ROWS` prompts share.

    Args:
        prompts: Token ids of each prompt, without what carries labels.

    Returns:
        The prefixes, and for each prompt the index of its prefix or -1.
    """
    buckets: dict[tuple[int, ...], list[int]] = {}
    for index, prompt in enumerate(prompts):
        if len(prompt) > BUCKET_TOKENS:
            buckets.setdefault(tuple(prompt[:BUCKET_TOKENS]), []).append(index)
    prefixes: list[list[int]] = []
    owner = [-1] * len(prompts)
    for members in buckets.values():
        shared = shared_prefix_length([prompts[index] for index in members])
        if len(members) >= MIN_ROWS and shared >= MIN_PREFIX:
            for index in members:
                owner[index] = len(prefixes)
            prefixes.append(list(prompts[members[0]][:shared]))
    return prefixes, owner


@dataclass(frozen=True)
class PrefixCache:
    """Keys and values of several prefixes, padded on the left to one length.

    Args:
        cache: A `DynamicCache` with one row per prefix.
        attention_mask (`LongTensor` of shape `(prefixes, length)`): 0 where a prefix is padded.
    """

    cache: Any
    attention_mask: "torch.Tensor"

    def rows(self, owners: "torch.Tensor") -> Any:
        """Copy the cache so that row i goes on from prefix `owners[i]`; -1 takes any, to be masked."""
        chosen = copy.deepcopy(self.cache)
        chosen.batch_select_indices(owners.clamp(min=0))
        return chosen

    def mask(self, owners: "torch.Tensor") -> "torch.Tensor":
        """Attention mask over the prefixes of these rows; all 0 where a row has none."""
        return self.attention_mask[owners.clamp(min=0)] * (owners >= 0)[:, None]


def prefix_cache(model: Any, prefixes: Sequence[Sequence[int]]) -> PrefixCache | None:
    """Compute the keys and values of prefixes in one pass, without gradients.

    Args:
        model: Any causal LM.
        prefixes: Token ids of each.

    Returns:
        The cache, or `None` for models that keep another kind of cache or take no positions.
    """
    import torch
    from transformers import DynamicCache

    if "position_ids" not in inspect.signature(_inner(model).forward).parameters:
        return None
    width = max(map(len, prefixes))
    ids = torch.tensor([[0] * (width - len(prefix)) + list(prefix) for prefix in prefixes], device=model.device)
    padding = torch.tensor([width - len(prefix) for prefix in prefixes], device=model.device)
    mask = (torch.arange(width, device=model.device)[None] >= padding[:, None]).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
    cache = getattr(output, "past_key_values", None)
    return PrefixCache(cache, mask) if isinstance(cache, DynamicCache) else None


def _inner(model: Any) -> Any:
    """The model that an adapter wraps."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def expanded_cache(cache: Any, batch_size: int) -> Any:
    """Copy a cache of one row to `batch_size` rows."""
    if cache is None:
        return None
    expanded = copy.deepcopy(cache)
    expanded.batch_repeat_interleave(batch_size)
    return expanded

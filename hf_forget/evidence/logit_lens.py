"""The logit lens: how likely an answer already is in the middle of a model (nostalgebraist 2020).

The hidden state after a prompt is read in every decoder layer through the model's own final norm and output head.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..lm.forward import output_head
from ..lm.representation import decoder_layers, watched_layers
from .report import Metric

if TYPE_CHECKING:
    from torch import nn

BATCH_SIZE = 32
# Layers before this share of the depth say little of answers.
FIRST_SHARE = 1 / 3


def final_norm(model: Any) -> "nn.Module":
    """Return the norm between the last decoder layer and the output head.

    Raises:
        InputError: If there is none beside the list of decoder layers.
    """
    layers = decoder_layers(model)
    for parent in model.modules():
        children = dict(parent.named_children())
        if any(child is layers for child in children.values()):
            norms = [child for child in children.values() if "norm" in type(child).__name__.lower()]
            if norms:
                return norms[-1]
    raise InputError(f"{type(model).__name__} has no norm beside its decoder layers; there is no logit lens for it")


def logit_lens_ranks(
    model: Any, tokenizer: Any, prompts: Sequence[str], answers: Sequence[str], *, batch_size: int = BATCH_SIZE
) -> list[list[int]]:
    """Rank the first token of each answer in every decoder layer.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Any causal LM.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        prompts: Texts before the answers.
        answers: The answers, leading space included.
        batch_size: Prompts per forward pass.

    Returns:
        For each prompt the rank by layer; 0 is the likeliest token.

    Raises:
        InputError: If decoder layers or final norm cannot be found.
    """
    import torch

    norm, head, count = final_norm(model), output_head(model), len(decoder_layers(model))
    heads = [tokenizer(text)["input_ids"] for text in prompts]
    firsts = [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in answers]
    ranks: list[list[int]] = []
    training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(heads), batch_size):
            part = heads[start : start + batch_size]
            width = max(map(len, part))
            ids = torch.tensor([row + [row[-1]] * (width - len(row)) for row in part], device=model.device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in part], device=model.device)
            with watched_layers(model, range(count)) as seen:
                model(input_ids=ids, attention_mask=mask, use_cache=False)
            rows, last = torch.arange(len(part), device=ids.device), mask.sum(-1) - 1
            wanted = torch.tensor(firsts[start : start + batch_size], device=ids.device)
            by_layer = []
            for states in seen:
                logits = head(norm(states[rows, last])).float()
                by_layer.append((logits > logits.gather(1, wanted[:, None])).sum(-1).tolist())
            ranks += [list(row) for row in zip(*by_layer, strict=True)]
    model.train(training)
    return ranks


def lens_metrics(ranks: Sequence[Sequence[int]] | None, problem: str = "") -> list[Metric]:
    """Return the median over facts of the best rank in the last two thirds of the layers."""
    definition = (
        "logit lens: rank of the true answer's first token after the question (0 is the likeliest), the best of the "
        "last two thirds of the layers; median over the first wording of every edge fact"
    )
    if not ranks:
        return [
            Metric(
                "logit_lens_rank", "representation", "higher", None, status="not_run", definition=problem or definition
            )
        ]
    best = sorted(min(row[math.floor(FIRST_SHARE * len(row)) :]) for row in ranks)
    return [Metric("logit_lens_rank", "representation", "higher", _median(best), len(best), definition=definition)]


def lens_series(records: Mapping[str, Sequence[Sequence[int]] | None]) -> dict[str, dict[str, list[float]]]:
    """Return curves over layers of the median of log10(1 + rank), by name of the record."""
    series = {}
    for name, ranks in records.items():
        if ranks:
            layers = list(zip(*ranks, strict=True))
            series[f"logit_lens_{name}"] = {
                "x": [float(layer) for layer in range(len(layers))],
                "y": [_median(sorted(math.log10(1 + rank) for rank in layer)) for layer in layers],
            }
    return series


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2

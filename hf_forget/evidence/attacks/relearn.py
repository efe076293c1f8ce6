"""Relearning: how fast a few training steps on other facts about the target bring back those that nobody trained on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...lm.forward import labelled_forward
from ...lm.objectives import nll_loss
from ...lm.prompts import PromptFormat
from ...lm.rows import RowCollator, tokenize_row
from ..answers import Ask
from ..probes import Probe
from . import Outcome, accuracy

if TYPE_CHECKING:
    import torch

STEPS = (1, 5, 10, 20)
LEARNING_RATE = 5e-5
BATCH_SIZE = 8
MAX_LENGTH = 256


def parted(probes: Sequence[Probe], known: Sequence[Probe]) -> tuple[list[Probe], list[Probe]]:
    """Part questions about the target so that no relation is in both parts.

    Args:
        probes: Edge and node probes.
        known: Those that the original model answers.

    Returns:
        Those to relearn from, of every second relation, and of the others those that the original model answers.
    """
    relations = list(dict.fromkeys(probe.relation or probe.fact_id for probe in probes))
    learnt = set(relations[::2])
    return (
        [probe for probe in probes if (probe.relation or probe.fact_id) in learnt],
        [probe for probe in known if (probe.relation or probe.fact_id) not in learnt],
    )


def relearn_attack(
    model: Any, tokenizer: Any, form: PromptFormat, ask: Ask, learnt: Sequence[Probe], asked: Sequence[Probe]
) -> Outcome:
    """Train the model on true answers to some questions, and ask others in between; the weights are put back.

    Args:
        model (`PreTrainedModel`): The model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        form: Prompt format of the rows.
        ask: Asks it probes.
        learnt: What is trained, all weights, for up to the last of `STEPS` steps of `BATCH_SIZE` rows.
        asked: What is asked after each of `STEPS`.

    Returns:
        `steps`, 0 first, `answers` by step, and their `accuracy`.
    """
    import torch

    examples = [
        tokenize_row(form.prompt(probe.question), form.completion(probe.answers[0]), tokenizer, MAX_LENGTH)
        for probe in learnt
    ]
    collate = RowCollator(tokenizer.pad_token_id or 0)
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0)).tolist()
    answers = {0: ask(asked)}
    with _weights_put_back(model):
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
        for step in range(max(STEPS)):
            rows = [order[(step * BATCH_SIZE + place) % len(order)] for place in range(min(BATCH_SIZE, len(order)))]
            batch = collate([[{**examples[row], "prefix": -1, "row_index": row}] for row in rows])
            batch = {name: value.to(model.device) for name, value in batch.items()}
            optimizer.zero_grad()
            nll_loss(labelled_forward(model, batch).tokens).mean().backward()
            optimizer.step()
            if step + 1 in STEPS:
                answers[step + 1] = ask(asked)
    rates = [accuracy(given) for given in answers.values()]
    return {"steps": list(answers), "answers": list(answers.values()), "accuracy": rates}


@contextmanager
def _weights_put_back(model: Any) -> Iterator[None]:
    """Let all weights be trained inside the block, and put them back bit for bit."""
    kept: list[tuple[torch.nn.Parameter, torch.Tensor, bool]] = [
        (weight, weight.detach().clone(), weight.requires_grad) for weight in model.parameters()
    ]
    try:
        model.requires_grad_(True)
        yield
    finally:
        for weight, original, trained in kept:
            weight.data.copy_(original)
            weight.grad = None
            weight.requires_grad_(trained)

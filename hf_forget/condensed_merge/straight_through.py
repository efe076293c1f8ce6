"""Straight-through matching: a permutation found with data, through weights that are trained only to find it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..evidence.classifier_outputs import input_name
from .interpolation import average, batch_norms, reestimate_norms, run
from .matching import trainable, weight_matching
from .permutation import Permutation, permuted_state
from .symmetry import Symmetry

MOMENTUM = 0.9


@dataclass(frozen=True)
class Surrogate:
    """What stands for the data of the models that are merged.

    Args:
        inputs (`Tensor` of shape `(n, …)`): Inputs of all the data sets.
        labels (`Tensor` of shape `(n,)`): Their labels, as the merged model's head counts them.
    """

    inputs: Tensor
    labels: Tensor

    def batches(self, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches for ever, mixed anew in every round."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            for rows in torch.randperm(len(self.labels), generator=generator).split(size):
                yield self.inputs[rows], self.labels[rows]


@dataclass(frozen=True)
class Candidate:
    """A permutation and what the merged model makes of the surrogate.

    Args:
        permutation: For each group which unit comes to each place.
        loss: Mean cross-entropy of the merged model on the whole surrogate.
        step: After how many steps it was found; 0 is weight matching.
    """

    permutation: Permutation
    loss: float
    step: int


def straight_through_matching(
    model: nn.Module,
    symmetry: Symmetry,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    surrogate: Surrogate,
    *,
    share: float = 0.5,
    steps: int = 300,
    learning_rate: float = 10.0,
    batch_size: int = 1024,
    rescore_every: int = 25,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Candidate:
    """Find the permutation of the second model whose average with the first does best on a surrogate.

    Weights `θ`, the first model's to begin with, are trained such that the average of the first model and the second
    one, permuted to match `θ`, fits a batch; the gradient passes the matching as if the permuted model were `θ`. Each
    matching begins where the last one ended and assigns each group once. Those found on the way are scored on the whole
    surrogate.

    What `θ` gathers are gradients, so that a matching looks for the units that lower the loss most to first order. That
    holds for plain descent with momentum only: Adam gives a weight that hardly matters as large a step as any other.

    Args:
        model (`PreTrainedModel`): A model of the architecture; its weights are overwritten.
        symmetry: That of both models.
        first, second: Their `state_dict`.
        surrogate: Inputs and labels.
        share: How much the second model counts in the average.
        steps: Number of steps of descent with momentum.
        learning_rate: Its rate, falling linearly to 0; large beside rates of training, since `θ` itself is never used.
        batch_size: Rows of the surrogate per step.
        rescore_every: Steps between two scorings on the whole surrogate.
        seed: Of the order of rows and groups.
        progress: Called with the steps done, and all.

    Returns:
        The candidate with the least loss.

    Source: Ainsworth et al. 2023, algorithm 3; the candidates are scored as arXiv 2306.05641 does.
    """
    learnt = {name: first[name].detach().clone().requires_grad_() for name in trainable(first)}
    optimizer = torch.optim.SGD(learnt.values(), lr=learning_rate, momentum=MOMENTUM)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    batches = surrogate.batches(min(batch_size, len(surrogate.labels)), seed)
    permutation = weight_matching(symmetry, first, second, seed=seed)
    best = Candidate(permutation, scored(model, symmetry, first, second, permutation, surrogate, share), 0)
    model.eval()
    for step in range(1, steps + 1):
        inputs, labels = next(batches)
        moved = permuted_state(symmetry, second, permutation)
        between = {
            name: value
            if name not in learnt
            else (1 - share) * first[name] + share * (moved[name] + learnt[name] - learnt[name].detach())
            for name, value in average([first, moved], [1 - share, share]).items()
        }
        logits = _in_training_mode(model, between, {input_name(model): inputs})
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            permutation = weight_matching(symmetry, learnt, second, start=permutation, rounds=1, seed=seed + step)
        if step % rescore_every == 0 or step == steps:
            loss = scored(model, symmetry, first, second, permutation, surrogate, share)
            if loss < best.loss:
                best = Candidate(permutation, loss, step)
        progress(step, steps)
    return best


def _in_training_mode(model: nn.Module, state: Mapping[str, Tensor], inputs: dict[str, Any]) -> Tensor:
    """The logits with batch norms on the batch's own statistics: those of an average are not known yet."""
    norms = batch_norms(model)
    for norm in norms:
        norm.train()
    # Running statistics are updated in place; those of the models must stay.
    state = {name: value if value.requires_grad else value.clone() for name, value in state.items()}
    logits = torch.func.functional_call(model, state, (), inputs).logits
    for norm in norms:
        norm.eval()
    return logits


@torch.no_grad()
def scored(
    model: nn.Module,
    symmetry: Symmetry,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    permutation: Mapping[str, Tensor],
    surrogate: Surrogate,
    share: float = 0.5,
) -> float:
    """Mean cross-entropy, on the whole surrogate, of the average of the first model and the permuted second one."""
    model.load_state_dict(average([first, permuted_state(symmetry, second, permutation)], [1 - share, share]))
    reestimate_norms(model, surrogate.inputs)
    model.eval()
    return float(nn.functional.cross_entropy(run(model, surrogate.inputs), surrogate.labels))

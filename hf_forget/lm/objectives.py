"""Losses on forget and retain rows, as pure functions of logits, and the registry that names them.

A batch of rows is flat: only positions with a label appear, and `rows` says to which row each belongs. Every
objective returns one loss per row, so that the mean over rows does not depend on how rows are batched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from ..errors import InputError, unknown

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LabelledTokens:
    """The labelled positions of several rows.

    Args:
        logits (`Tensor` of shape `(tokens, vocabulary)`): Scores of the model in training.
        labels (`LongTensor` of shape `(tokens,)`): The token that stands at each position.
        rows (`LongTensor` of shape `(tokens,)`): Index of the row that each position belongs to.
        num_rows (`int`): Number of rows.
        reference_logits (`Tensor` of the shape of `logits`, *optional*): Scores of the original model.
    """

    logits: "Tensor"
    labels: "Tensor"
    rows: "Tensor"
    num_rows: int
    reference_logits: "Tensor | None" = None

    def log_probs(self) -> "Tensor":
        """Log-probability of each label, shape `(tokens,)`, in nats."""
        return _label_log_probs(self.logits, self.labels)

    def needed_reference(self) -> "Tensor":
        """Scores of the original model, shape `(tokens, vocabulary)`.

        Raises:
            InputError: If none were given.
        """
        if self.reference_logits is None:
            raise InputError("this loss compares with the original model, but no reference logits were given")
        return self.reference_logits

    def reference_log_probs(self) -> "Tensor":
        """Log-probability of each label under the original model, shape `(tokens,)`, in nats."""
        return _label_log_probs(self.needed_reference(), self.labels)

    def where(self, chosen: "Tensor") -> "LabelledTokens":
        """Keep only the positions in `chosen`, a mask of shape `(tokens,)`; rows keep their numbers."""
        reference = None if self.reference_logits is None else self.reference_logits[chosen]
        return LabelledTokens(self.logits[chosen], self.labels[chosen], self.rows[chosen], self.num_rows, reference)

    def row_sums(self, values: "Tensor") -> "Tensor":
        """Sum per-token `values` by row, shape `(num_rows,)`."""
        return torch.zeros(self.num_rows, dtype=values.dtype, device=values.device).index_add(0, self.rows, values)

    def row_means(self, values: "Tensor") -> "Tensor":
        """Average per-token `values` by row, shape `(num_rows,)`."""
        counts = self.row_sums(torch.ones_like(values)).clamp(min=1)
        return self.row_sums(values) / counts


Loss = Callable[..., "Tensor"]


@dataclass(frozen=True)
class Objective:
    """A registered forget objective.

    Args:
        name: How recipes call it.
        loss: `loss(tokens, beta)`, shape `(num_rows,)`; with a refusal `beside`, `loss(tokens, beta, refusal=tokens)`;
            with `on_states`, `loss(states, target)`.
        needs_reference: Whether it reads `reference_logits`.
        uses_retain: Whether the retain term is added to it.
        default_beta: Its margin, temperature or weight when the config gives none.
        refusal: Whether a row's completion is compared with a refusal `beside` it, or a refusal stands `instead` of it.
        on_states: Whether it reads hidden states of one layer and not logits; the retain term does so, too.
    """

    name: str
    loss: Loss
    needs_reference: bool
    uses_retain: bool
    default_beta: float
    refusal: Literal["", "beside", "instead"] = ""
    on_states: bool = False


_OBJECTIVES: dict[str, Objective] = {}


def register_objective(
    name: str,
    *,
    needs_reference: bool = False,
    uses_retain: bool = True,
    default_beta: float = 1.0,
    refusal: Literal["", "beside", "instead"] = "",
    on_states: bool = False,
) -> Callable[[Loss], Loss]:
    """Make a loss selectable as `objective=name`; the other arguments are those of [`Objective`].

    Raises:
        InputError: If the name is taken by another function.
    """

    def register(loss: Loss) -> Loss:
        if name in _OBJECTIVES and _OBJECTIVES[name].loss is not loss:
            raise InputError(f"an objective named '{name}' is registered already; choose another name")
        _OBJECTIVES[name] = Objective(name, loss, needs_reference, uses_retain, default_beta, refusal, on_states)
        return loss

    return register


def available_objectives() -> list[str]:
    """Return the names of all registered objectives."""
    return sorted(_OBJECTIVES)


def get_objective(name: str) -> Objective:
    """Return the objective registered under `name`.

    Raises:
        InputError: If there is none; the message names the nearest one.
    """
    if name not in _OBJECTIVES:
        raise InputError(unknown("objective", name, available_objectives()))
    return _OBJECTIVES[name]


@register_objective("unlikelihood")
def unlikelihood_loss(tokens: LabelledTokens, beta: float = 1.0) -> "Tensor":
    """`−log(1 − p)` per token, averaged over the row (Welleck et al. 2020).

    Computed from the label's logit and the log-sum-exp of the others, so that its gradient on the label's logit is
    exactly p, also where p rounds to one. `beta` is not used.
    """
    return margin_unlikelihood_loss(tokens, beta=0.0)


@register_objective("margin_unlikelihood", default_beta=2.0)
def margin_unlikelihood_loss(tokens: LabelledTokens, beta: float = 2.0) -> "Tensor":
    """Unlikelihood of a label whose logit is `beta` nats higher than it is, per token, averaged over the row.

    The plain loss stops pushing once the label is no longer the likeliest token by a little, and rounding the weights
    moves logits by more than that. The margin (as in the additive margin softmax, Wang et al. 2018) asks for the same
    improbability with room to spare: `log(1 + e^β · p / (1 − p))`.
    """
    label = tokens.logits.gather(1, tokens.labels[:, None])[:, 0]
    others = tokens.logits.scatter(1, tokens.labels[:, None], float("-inf")).logsumexp(-1)
    return tokens.row_means(functional.softplus(label - others + beta))


@register_objective("npo", needs_reference=True, default_beta=0.1)
def npo_loss(tokens: LabelledTokens, beta: float = 0.1) -> "Tensor":
    """`−(2/β)·log σ(−β·log(πθ/πθ0))` on sequence log-probabilities (negative preference optimization,
    Zhang et al. 2024, eq. 3)."""
    log_ratios = tokens.row_sums(tokens.log_probs() - tokens.reference_log_probs())
    return -(2 / beta) * functional.logsigmoid(-beta * log_ratios)


@register_objective("simnpo", default_beta=4.5)
def simnpo_loss(tokens: LabelledTokens, beta: float = 4.5) -> "Tensor":
    """`−(2/β)·log σ(β·mean ℓ)`, no original model, no length bias (SimNPO, Fan et al. 2024, with reward margin 0)."""
    return -(2 / beta) * functional.logsigmoid(-beta * tokens.row_means(tokens.log_probs()))


@register_objective("undial", needs_reference=True, default_beta=10.0)
def undial_loss(tokens: LabelledTokens, beta: float = 10.0) -> "Tensor":
    """Cross-entropy to the original model whose label's logit is `beta` nats lower, averaged over the row (UNDIAL,
    Dong et al. 2024)."""
    lowered = tokens.needed_reference() - beta * functional.one_hot(tokens.labels, tokens.logits.shape[-1])
    return -tokens.row_means((lowered.softmax(-1) * tokens.logits.log_softmax(-1)).sum(-1))


@register_objective("wga")
def wga_loss(tokens: LabelledTokens, beta: float = 1.0) -> "Tensor":
    """`−p^β·ℓ` per token with the weight `p^β` held constant, averaged over the row (weighted gradient ascent,
    Wang et al. 2025)."""
    log_probs = tokens.log_probs()
    return tokens.row_means((beta * log_probs.detach()).exp() * log_probs)


@register_objective("grad_ascent", uses_retain=False)
def grad_ascent_loss(tokens: LabelledTokens, beta: float = 1.0) -> "Tensor":
    """`−mean ℓ` with no retain term: gradient ascent on the negative log-likelihood. `beta` is not used."""
    return tokens.row_means(tokens.log_probs())


@register_objective("grad_diff")
def grad_diff_loss(tokens: LabelledTokens, beta: float = 1.0) -> "Tensor":
    """`−mean ℓ` beside a retain term (gradient difference, Maini et al. 2024). `beta` is not used."""
    return tokens.row_means(tokens.log_probs())


@register_objective("idk_nll", refusal="instead")
def idk_nll_loss(tokens: LabelledTokens, beta: float = 1.0) -> "Tensor":
    """Mean negative log-likelihood of a refusal that stands in the place of the answer (IDK, Maini et al. 2024).
    `beta` is not used."""
    return nll_loss(tokens)


@register_objective("dpo_idk", needs_reference=True, default_beta=0.1, refusal="beside")
def dpo_idk_loss(tokens: LabelledTokens, beta: float = 0.1, *, refusal: LabelledTokens) -> "Tensor":
    """`−(2/β)·log σ(β·(log(πθ/πθ0)(refusal) − log(πθ/πθ0)(answer)))` on sequence log-probabilities: direct preference
    optimization of a refusal over the answer (Rafailov et al. 2023; Maini et al. 2024)."""
    preferred, rejected = (part.row_sums(part.log_probs() - part.reference_log_probs()) for part in (refusal, tokens))
    return -(2 / beta) * functional.logsigmoid(beta * (preferred - rejected))


@register_objective("rmu", default_beta=2.0, on_states=True)
def rmu_loss(states: "Sequence[Tensor]", target: "Tensor") -> "Tensor":
    """`MSE(h_l, c·u)` over all positions of each row: representation misdirection (RMU, Li et al. 2024).

    Args:
        states (`Sequence[Tensor]`, each of shape `(positions, hidden)`): Hidden states of every row in layer l.
        target (`Tensor` of shape `(hidden,)`): `c·u`, a fixed random direction of length c; `c` is `beta` times the
            mean norm of the original's states.

    Returns:
        One loss per row, shape `(rows,)`.
    """
    return torch.stack([(row - target).square().mean() for row in states])


def nll_loss(tokens: LabelledTokens) -> "Tensor":
    """Mean negative log-likelihood of each row, shape `(num_rows,)`."""
    return -tokens.row_means(tokens.log_probs())


def kl_to_reference_loss(tokens: LabelledTokens) -> "Tensor":
    """KL(θ0‖θ) at each labelled position, averaged over the row, shape `(num_rows,)`."""
    reference = tokens.needed_reference().log_softmax(-1)
    divergence = (reference.exp() * (reference - tokens.logits.log_softmax(-1))).sum(-1)
    return tokens.row_means(divergence)


def _label_log_probs(logits: "Tensor", labels: "Tensor") -> "Tensor":
    return logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]

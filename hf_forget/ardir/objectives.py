"""What robust training minimises, by name: adversarial training with and without a teacher.

An objective says what the attack maximises, which images the student sees, and what its outputs cost. `p` is a softmax,
`x'` the image that the attack found, S the student, T the teacher, `y` the label, KL a mean over images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError, unknown


@dataclass(frozen=True)
class Outputs:
    """What a classifier makes of images.

    Args:
        logits (`Tensor` of shape `(n, classes)`): Its outputs.
        representation (`Tensor` of shape `(n, features)`, *optional*): What it thinks of them inside, in one layer.
    """

    logits: Tensor
    representation: Tensor | None = None

    def rows(self, first: int, end: int) -> "Outputs":
        """Return the outputs of some of the images."""
        inside = None if self.representation is None else self.representation[first:end]
        return Outputs(self.logits[first:end], inside)


@dataclass(frozen=True)
class Seen:
    """All that an objective may look at.

    Args:
        labels (`Tensor` of shape `(n,)`): Labels.
        adversarial: Outputs of the student on `x'`.
        clean: Outputs of the student on `x`, where the objective sees them.
        teacher: Outputs of the teacher on `x`, where it is asked.
        teacher_adversarial: Outputs of the teacher on `x'`, where it is asked.
    """

    labels: Tensor
    adversarial: Outputs
    clean: Outputs | None = None
    teacher: Outputs | None = None
    teacher_adversarial: Outputs | None = None


@dataclass(frozen=True)
class RobustObjective:
    """One way of robust training.

    Args:
        loss: The loss of what was seen with the options of the trainer, a scalar.
        inner: What the attack maximises: cross-entropy with the `label`, or divergence from the student's own `clean`
            outputs or from the `teacher`'s.
        sees_clean: Whether the student sees the images as they are, too.
        uses_teacher: Whether there is a teacher.
        asks_teacher_again: Whether the teacher is asked about `x'`, which no cache can answer.
    """

    loss: Callable[[Seen, Any], Tensor]
    inner: str = "label"
    sees_clean: bool = False
    uses_teacher: bool = False
    asks_teacher_again: bool = False


def divergence(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return `KL(softmax(target/T) ‖ softmax(logits/T))` of each row, shape `(n,)`."""
    wanted, found = (functional.log_softmax(value.float() / temperature, dim=1) for value in (target, logits))
    return functional.kl_div(found, wanted, reduction="none", log_target=True).sum(1)


def distance(first: Tensor, second: Tensor, kind: str) -> Tensor:
    """Return how far two representations are apart, a mean over rows: `mse` over features, or `cosine`."""
    if kind == "mse":
        return functional.mse_loss(first.float(), second.float())
    return (1 - functional.cosine_similarity(first.float(), second.float(), dim=1)).mean()


def _at(seen: Seen, args: Any) -> Tensor:
    """`CE(S(x'), y)`. Source: Madry et al. 2018."""
    return functional.cross_entropy(seen.adversarial.logits.float(), seen.labels)


def _trades(seen: Seen, args: Any) -> Tensor:
    """`CE(S(x), y) + β·KL(p_S(x) ‖ p_S(x'))`. Source: Zhang et al. 2019, equation 5."""
    clean = _given(seen.clean).logits
    apart = divergence(clean, seen.adversarial.logits).mean()
    return functional.cross_entropy(clean.float(), seen.labels) + args.trades_weight * apart


def _ard(seen: Seen, args: Any) -> Tensor:
    """`α·T²·KL(p_T(x) ‖ p_S(x')) + (1 − α)·CE(S(x), y)`. Source: Goldblum et al. 2020, equation 4."""
    heat = args.ard_temperature
    apart = divergence(_given(seen.teacher).logits, seen.adversarial.logits, heat).mean()
    hard = functional.cross_entropy(_given(seen.clean).logits.float(), seen.labels)
    return args.ard_weight * heat**2 * apart + (1 - args.ard_weight) * hard


def _rslad(seen: Seen, args: Any) -> Tensor:
    """`5/6·KL(p_T(x) ‖ p_S(x')) + 1/6·KL(p_T(x) ‖ p_S(x))`. Source: Zi et al. 2021, equation 5."""
    teacher = _given(seen.teacher).logits
    on_clean = divergence(teacher, _given(seen.clean).logits).mean()
    return (5 * divergence(teacher, seen.adversarial.logits).mean() + on_clean) / 6


def _iad(seen: Seen, args: Any) -> Tensor:
    """`p_T(y|x')^β·KL(p_T(x) ‖ p_S(x')) + (1 − p_T(y|x')^β)·KL(p_S(x) ‖ p_S(x'))`, the student's clean outputs as they
    are. Source: Zhu et al. 2022, equation 5."""
    trust = _given(seen.teacher_adversarial).logits.float().softmax(1)
    trust = trust.gather(1, seen.labels[:, None])[:, 0] ** args.iad_trust
    from_teacher = divergence(_given(seen.teacher).logits, seen.adversarial.logits)
    from_itself = divergence(_given(seen.clean).logits.detach(), seen.adversarial.logits)
    return (trust * from_teacher + (1 - trust) * from_itself).mean()


def _ardir(seen: Seen, args: Any) -> Tensor:
    """`KL(p_T(x) ‖ p_S(x')) + λ·d(h_T(x), h_S(x'))`, with a cross-entropy of the label if asked for. Source:
    arXiv 2211.00239; distance, layer and weight are reconstructed."""
    teacher = _given(seen.teacher)
    heat = args.temperature
    loss = heat**2 * divergence(teacher.logits, seen.adversarial.logits, heat).mean()
    if args.representation_weight:
        inside = (_inside(seen.adversarial), _inside(teacher))
        loss = loss + args.representation_weight * distance(*inside, args.representation_distance)
    if args.label_weight:
        loss = loss + args.label_weight * functional.cross_entropy(seen.adversarial.logits.float(), seen.labels)
    return loss


OBJECTIVES: dict[str, RobustObjective] = {
    "ardir": RobustObjective(_ardir, uses_teacher=True),
    "at": RobustObjective(_at),
    "trades": RobustObjective(_trades, inner="clean", sees_clean=True),
    "ard": RobustObjective(_ard, sees_clean=True, uses_teacher=True),
    "rslad": RobustObjective(_rslad, inner="teacher", sees_clean=True, uses_teacher=True),
    "iad": RobustObjective(_iad, sees_clean=True, uses_teacher=True, asks_teacher_again=True),
}


def get_objective(name: str) -> RobustObjective:
    """Return the objective of that name.

    Raises:
        InputError: If there is none; the message names the nearest one.
    """
    if name not in OBJECTIVES:
        raise InputError(unknown("objective", name, OBJECTIVES))
    return OBJECTIVES[name]


def inner_loss(kind: str, labels: Tensor, target: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return what an attack maximises, as a function of the student's logits, summed over images.

    Args:
        kind: `label`, `clean` or `teacher`, see [`RobustObjective`].
        labels (`Tensor` of shape `(n,)`): Labels.
        target (`Tensor` of shape `(n, classes)`, *optional*): Logits of the student or the teacher on the clean images.
    """
    if kind == "label":
        return lambda logits: functional.cross_entropy(logits.float(), labels, reduction="sum")
    assert target is not None
    return lambda logits: divergence(target, logits).sum()


def _given(outputs: Outputs | None) -> Outputs:
    assert outputs is not None
    return outputs


def _inside(outputs: Outputs) -> Tensor:
    assert outputs.representation is not None
    return outputs.representation


def joined(parts: list[Tensor]) -> Tensor:
    """Return images of several kinds as one batch."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]

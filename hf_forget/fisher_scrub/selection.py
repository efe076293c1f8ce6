"""How the strengths and the sign are chosen: candidates are tried on the witnesses, the gentlest that works is kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .witnesses import Shown

Selection = Literal["margin", "codes"]

# In steps of √2: an update of λ2 is the largest change of a weight in its tensor.
MARGIN_GRID = tuple(0.01 * 2 ** (step / 2) for step in range(28))
# The paper's grids.
LAMBDA_1_GRID = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
LAMBDA_2_GRID = (1e-1, 1.0, 1e1, 1e2, 1e3, 1e4, 1e5)


@dataclass(frozen=True)
class Candidate:
    """One choice of the strengths and the sign, and what the witnesses say about it.

    Args:
        lambda_1, lambda_2, sign: The choice; λ1 is `None` where only the second cap counts.
        retained: Accuracy on the witnesses of the remaining classes, by kind.
        forgotten: Error on those of the forgotten classes, by kind.
        depth: How firmly the least forgotten witness is rejected, by kind; see `Shown.depth`.
        lost: The largest fall of accuracy on the remaining classes among the kinds, against the unscrubbed model.
    """

    lambda_1: float | None
    lambda_2: float
    sign: int
    retained: dict[str, float] = field(default_factory=dict)
    forgotten: dict[str, float] = field(default_factory=dict)
    depth: dict[str, float] = field(default_factory=dict)
    lost: float = 0.0

    def firm(self, margin: float, kinds: Sequence[str] | None = None) -> bool:
        """Whether every witness of the forgotten classes is rejected at least `margin` times as firmly as held."""
        found = [value for kind, value in self.depth.items() if kinds is None or kind in kinds]
        return bool(found) and min(found) >= margin

    def score(self, kinds: Sequence[str] | None = None) -> float:
        """`A_R + E_F` on the witnesses, averaged over their kinds."""
        parts = [
            _mean([value for kind, value in table.items() if kinds is None or kind in kinds])
            for table in (self.retained, self.forgotten)
        ]
        return sum(parts)


def judged(
    lambda_1: float | None,
    lambda_2: float,
    sign: int,
    shown: dict[str, Shown],
    before: dict[str, Shown],
    forget: Sequence[int],
) -> Candidate:
    """Make a candidate of its strengths and of how the model that it gives answers the witnesses."""
    tables: dict[str, dict[str, float]] = {"retained": {}, "forgotten": {}, "depth": {}}
    for kind, item in shown.items():
        found = {
            "retained": item.retained_accuracy(forget),
            "forgotten": item.forgotten_error(forget),
            "depth": item.depth(forget, before[kind]),
        }
        for name, value in found.items():
            if value is not None:
                tables[name][kind] = value
    kept = {kind: before[kind].retained_accuracy(forget) for kind in tables["retained"]}
    lost = max(((kept[kind] or 0.0) - value for kind, value in tables["retained"].items()), default=0.0)
    return Candidate(lambda_1, lambda_2, sign, lost=lost, **tables)


def candidates(
    selection: Selection, lambda_1: float | None, lambda_2: float | None, sign: int | None
) -> Iterator[tuple[float | None, float, int]]:
    """Yield the choices to try, the gentler ones first; what is given is not searched."""
    firsts: Sequence[float | None] = (lambda_1,)
    if lambda_1 is None and selection == "codes":
        firsts = LAMBDA_1_GRID
    grid = LAMBDA_2_GRID if selection == "codes" else MARGIN_GRID
    for second in (lambda_2,) if lambda_2 is not None else grid:
        for first in firsts:
            for direction in (sign,) if sign is not None else (-1, 1):
                yield first, second, direction


def select(
    attempts: Iterator[tuple[float | None, float, int]],
    attempt: Callable[[float | None, float, int], Candidate],
    *,
    selection: Selection,
    forget_margin: float,
) -> tuple[Candidate, list[Candidate]]:
    """Try candidates and choose one.

    `margin` takes the first, that is the gentlest, that rejects every witness of the forgotten classes at least
    `forget_margin` times as firmly as witnesses of its kind were held before, and loses none of the rest; if each firm
    one loses some, that which loses least; if none is firm, the highest `A_R + E_F`. `codes` is the paper's rule: the
    highest `A_R + E_F` on the codes alone, by accuracy; the first of equals.

    Returns:
        The choice, and everything that was tried in its order.
    """
    tried: list[Candidate] = []
    for choice in attempts:
        candidate = attempt(*choice)
        tried.append(candidate)
        if selection == "margin" and candidate.lost <= 0 and candidate.firm(forget_margin):
            return candidate, tried
    if selection == "codes":
        return max(tried, key=lambda candidate: candidate.score(("codes",))), tried
    firm = [candidate for candidate in tried if candidate.firm(forget_margin)]
    if firm:
        return min(firm, key=lambda candidate: candidate.lost), tried
    return max(tried, key=lambda candidate: candidate.score()), tried


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0

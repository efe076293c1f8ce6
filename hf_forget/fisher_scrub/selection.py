"""How the strengths and the sign are chosen: candidates are tried on the witnesses, the gentlest that works is kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .witnesses import Shown

Selection = Literal["margin", "codes"]
Scope = Literal["all", "head"]
Choice = tuple[float | None, float | None, int, Scope]

# Where neither strength is given: λ2 rises along this grid, once without λ1 and once with λ1 in this proportion to it.
MARGIN_LAMBDA_2 = tuple(0.02 * 2**step for step in range(13))
LAMBDA_1_PER_LAMBDA_2 = 1 / 2000
# A choice that leaves the remaining witnesses less of their margin than this has done more than forget.
_KEPT_MARGIN = 0.7
# The paper's grids.
PAPER_LAMBDA_1 = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
PAPER_LAMBDA_2 = (1e-1, 1.0, 1e1, 1e2, 1e3, 1e4, 1e5)


@dataclass(frozen=True)
class Candidate:
    """One choice of the strengths and the sign, and what the witnesses say about it.

    Args:
        lambda_1, lambda_2, sign: The choice; `None` stands for no limit.
        scope: Whether `all` layers change or the last one alone, `head`.
        retained: Accuracy on the witnesses of the remaining classes, by kind.
        forgotten: Error on those of the forgotten classes, by kind.
        depth: How firmly the least forgotten witness is rejected, by kind; see `Shown.depth`.
        kept: Share of the margin of the remaining witnesses that is left, averaged over the kinds.
        lost: The largest fall of accuracy on the remaining classes among the kinds, against the unscrubbed model.
    """

    lambda_1: float | None
    lambda_2: float | None
    sign: int
    scope: Scope = "all"
    retained: dict[str, float] = field(default_factory=dict)
    forgotten: dict[str, float] = field(default_factory=dict)
    depth: dict[str, float] = field(default_factory=dict)
    kept: float = 0.0
    lost: float = 0.0

    def firm(self, margin: float) -> bool:
        """Whether every witness of the forgotten classes is rejected at least `margin` times as firmly as held."""
        return bool(self.depth) and min(self.depth.values()) >= margin

    def spares_the_rest(self) -> bool:
        """Whether no witness of the remaining classes is lost, and most of their margin is left."""
        return self.lost <= 0 and self.kept >= _KEPT_MARGIN

    def score(self, kinds: Sequence[str] | None = None) -> float:
        """`A_R + E_F` on the witnesses, averaged over their kinds."""
        tables = (self.retained, self.forgotten)
        return sum(
            _mean([value for kind, value in table.items() if kinds is None or kind in kinds]) for table in tables
        )

    @property
    def strengths(self) -> str:
        """λ1 and λ2 in words."""
        named = (("λ1", self.lambda_1), ("λ2", self.lambda_2))
        return ", ".join(f"{name} = {value:.3g}" for name, value in named if value is not None)


def judged(choice: Choice, shown: dict[str, Shown], before: dict[str, Shown], forget: Sequence[int]) -> Candidate:
    """Make a candidate of a choice and of how the model that it gives answers the witnesses."""
    tables: dict[str, dict[str, float]] = {"retained": {}, "forgotten": {}, "depth": {}}
    kept, lost = [], [0.0]
    for kind, item in shown.items():
        found = {
            "retained": item.retained_accuracy(forget),
            "forgotten": item.forgotten_error(forget),
            "depth": item.depth(forget, before[kind]),
        }
        for name, value in found.items():
            if value is not None:
                tables[name][kind] = value
        if found["retained"] is not None:
            lost.append((before[kind].retained_accuracy(forget) or 0.0) - found["retained"])
            kept.append(item.kept_margin(forget, before[kind]))
    return Candidate(
        *choice, tables["retained"], tables["forgotten"], tables["depth"], kept=_mean(kept), lost=max(lost)
    )


def search_by_margin(
    attempt: Callable[[Choice], Candidate],
    *,
    forget_margin: float,
    lambda_1: float | None = None,
    lambda_2: float | None = None,
    sign: int | None = None,
    scopes: Sequence[Scope] = ("all", "head"),
) -> tuple[Candidate, list[Candidate]]:
    """Take the candidate that keeps most of the rest among the gentlest ones that forget firmly.

    λ2 rises until every witness of the forgotten classes is rejected firmly, once alone and once with λ1 in proportion.
    Which serves better depends on the net: alone, λ2 moves every layer by as much; λ1 holds back the layers that do not
    tell the classes apart, such as the first convolutions. Where both lose something of the rest, or much of its
    margin, the last layer alone is tried, too; where nothing forgets firmly, the positive sign. What is given is not
    searched.

    Args:
        attempt: Tries a choice.
        forget_margin: How firmly; see `Candidate.firm`.
        lambda_1, lambda_2, sign: What is given; with one strength given the other is out of force.
        scopes: Which layers may change, in the order of preference.

    Returns:
        The choice, and everything that was tried in its order. Where nothing forgets firmly, the highest `A_R + E_F`.
    """
    tried: list[Candidate] = []
    firm: list[Candidate] = []
    for direction in (sign,) if sign is not None else (-1, 1):
        for scope in scopes:
            for ladder in _ladders(lambda_1, lambda_2, scope):
                _climb([(*strengths, direction, scope) for strengths in ladder], attempt, forget_margin, tried)
            firm = [candidate for candidate in tried if candidate.firm(forget_margin)]
            if any(candidate.spares_the_rest() for candidate in firm):
                break
        if firm:
            break
    if firm:
        return min(firm, key=lambda item: (not item.spares_the_rest(), item.lost, -item.kept)), tried
    return max(tried, key=lambda candidate: candidate.score()), tried


def search_on_codes(
    attempt: Callable[[Choice], Candidate],
    *,
    lambda_1: float | None = None,
    lambda_2: float | None = None,
    sign: int | None = None,
) -> tuple[Candidate, list[Candidate]]:
    """Take the highest `A_R + E_F` on the codes over the paper's grids, the first of equals from weak to strong."""
    choices: list[Choice] = [
        (first, second, direction, "all")
        for second in ((lambda_2,) if lambda_2 is not None else PAPER_LAMBDA_2)
        for first in ((lambda_1,) if lambda_1 is not None else PAPER_LAMBDA_1)
        for direction in ((sign,) if sign is not None else (-1, 1))
    ]
    tried = [attempt(choice) for choice in choices]
    return max(tried, key=lambda candidate: candidate.score(("codes",))), tried


def _ladders(
    lambda_1: float | None, lambda_2: float | None, scope: Scope
) -> Iterator[list[tuple[float | None, float | None]]]:
    if lambda_1 is not None or lambda_2 is not None:
        yield [(lambda_1, lambda_2)]
        return
    yield [(None, value) for value in MARGIN_LAMBDA_2]
    if scope == "all":
        yield [(LAMBDA_1_PER_LAMBDA_2 * value, value) for value in MARGIN_LAMBDA_2]


def _climb(
    ladder: Sequence[Choice], attempt: Callable[[Choice], Candidate], forget_margin: float, tried: list[Candidate]
) -> None:
    """Try ever stronger choices until one forgets firmly, and then one between it and the last that did not."""
    for place, choice in enumerate(ladder):
        tried.append(attempt(choice))
        if tried[-1].firm(forget_margin):
            if place:
                first, second = (value and value / 2**0.5 for value in choice[:2])
                tried.append(attempt((first, second, *choice[2:])))
            return


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0

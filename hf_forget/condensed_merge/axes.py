"""Axes of tensors as products of factors that are tied to each other: what may be permuted together, and what not."""

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import InputError


class Factor:
    """One factor of an axis: as many places as `size`, that are permuted together with those of all tied factors.

    Args:
        size: Number of places.
        fixed: Whether the places mean something by themselves, as pixels and classes do, and must stay.
    """

    def __init__(self, size: int, *, fixed: bool = False):
        self.size = size
        self._fixed = fixed
        self._parent: Factor | None = None
        self._parts: list[Factor] = []

    @property
    def root(self) -> "Factor":
        """The factor that stands for all that are tied to this one."""
        found = self
        while found._parent is not None:
            found = found._parent
        if found is not self:
            self._parent = found
        return found

    @property
    def parts(self) -> "list[Factor]":
        """The factors that this one has been found to be the product of; itself, where it is none."""
        root = self.root
        return [part for piece in root._parts for part in piece.parts] if root._parts else [root]

    @property
    def fixed(self) -> bool:
        """Whether the places of this factor, and of all that are tied to it, must stay."""
        return self.root._fixed

    def fix(self) -> None:
        """Let the places stay."""
        for part in self.parts:
            part._fixed = True

    def split(self, first: int) -> None:
        """Say that this factor is the product of one of size `first` and a second one, in row-major order."""
        root = self.root
        root._parts = [Factor(first, fixed=root._fixed), Factor(root.size // first, fixed=root._fixed)]

    def tie(self, other: "Factor") -> None:
        """Tie a factor of the same size, of which neither has parts, to this one."""
        first, second = self.root, other.root
        if first is not second:
            second._parent = first
            first._fixed = first._fixed or second._fixed


Axis = list[Factor]
Axes = list[Axis]


def fixed_axes(shape: Sequence[int]) -> Axes:
    """Axes of a tensor nothing of which may be permuted."""
    return [[Factor(int(size), fixed=True)] for size in shape]


def free_axes(shape: Sequence[int]) -> Axes:
    """Axes of a tensor of which nothing is known yet."""
    return [[Factor(int(size))] for size in shape]


def parts_of(axis: Axis) -> list[Factor]:
    """All factors of an axis that are more than one place."""
    return [part for factor in axis for part in factor.parts if part.size > 1]


def size_of(axis: Axis) -> int:
    """Number of places of an axis."""
    size = 1
    for factor in axis:
        size *= factor.size
    return size


def fix(axes: Iterable[Axis]) -> None:
    """Let the places of all these axes stay."""
    for axis in axes:
        for factor in axis:
            factor.fix()


def tie(first: Axis, second: Axis) -> None:
    """Tie two axes of the same size: what permutes one permutes the other.

    Where one is a product of factors, the other becomes one, too.

    Raises:
        InputError: If their factors do not fit together.
    """
    while True:
        own, other = parts_of(first), parts_of(second)
        place = next((place for place, pair in enumerate(zip(own, other, strict=False)) if _differ(*pair)), None)
        if place is None:
            if len(own) != len(other):
                raise InputError(f"an axis of {size_of(first)} places meets one of {size_of(second)}")
            for one, another in zip(own, other, strict=True):
                one.tie(another)
            return
        small, large = sorted((own[place], other[place]), key=lambda factor: factor.size)
        if large.size % small.size:
            raise InputError(f"{large.size} places cannot be seen as rows of {small.size}")
        large.split(small.size)


def _differ(first: Factor, second: Factor) -> bool:
    return first.size != second.size


def reshaped(axes: Axes, shape: Sequence[int]) -> Axes:
    """Axes behind a view of another shape.

    Raises:
        InputError: If a new axis begins or ends inside a factor that cannot be parted there.
    """
    left = [part for axis in axes for part in parts_of(axis)]
    found: Axes = []
    for size in map(int, shape):
        axis, needed = [], size
        while needed > 1:
            factor = left.pop(0)
            if factor.size > needed:
                if factor.size % needed:
                    raise InputError(f"{factor.size} places cannot be seen as rows of {needed}")
                factor.split(needed)
                factor, rest = factor.parts
                left.insert(0, rest)
            elif needed % factor.size:
                raise InputError(f"{needed} places cannot be made of rows of {factor.size}")
            axis.append(factor)
            needed //= factor.size
        found.append(axis or [Factor(1, fixed=True)])
    return found


def broadcast(operands: Sequence[Axes]) -> Axes:
    """Axes behind an operation place by place on tensors that are broadcast to each other."""
    count = max(map(len, operands))
    found: Axes = []
    for place in range(-count, 0):
        axes = [axes[place] for axes in operands if len(axes) >= -place and size_of(axes[place]) > 1]
        for other in axes[1:]:
            tie(axes[0], other)
        found.append(axes[0] if axes else [Factor(1, fixed=True)])
    return found


def normalized(place: Any, count: int) -> int:
    """An index of an axis counted from the front."""
    return int(place) % count

"""A picture of figures that depend on something, such as accuracy over the strength of an attack."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def draw_curves(
    curves: Mapping[str, Mapping[str, Sequence[float]]], path: str | Path, *, across: str, upright: str
) -> Path:
    """Draw curves into a PNG file.

    Args:
        curves: By the name that stands in the legend, the places `x` and the values `y`, as `series` of a report has
            them.
        path: The file.
        across: What stands below.
        upright: What stands on the left.

    Returns:
        The file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, curve in curves.items():
        axes.plot(curve["x"], curve["y"], marker=".", label=name)
    axes.set_xlabel(across)
    axes.set_ylabel(upright)
    axes.grid(color="0.9")
    axes.legend()
    figure.savefig(path, dpi=120)
    return Path(path)

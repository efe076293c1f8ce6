"""A picture of a knowledge graph: the concept in the middle, what the model says of it around."""

import math
import textwrap
from pathlib import Path
from typing import Any

from .knowledge import KnowledgeGraph, Triplet

GONE, LEFT = "#9a9a9a", "#c44e52"
KNOWN = "#4c72b0"
# More objects than these stand in two rings.
ONE_RING = 14
WIDTH = 18


def draw(graph: KnowledgeGraph, path: str | Path, *, left: KnowledgeGraph | None = None) -> Path:
    """Draw the validated triplets of a graph.

    Args:
        graph: What the original model knows.
        path: The PNG file.
        left: The same questions asked of an edited model, from [`KnowledgeGraph.left_in`]. What is gone is grey and
            dashed.

    Returns:
        The file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    triplets = sorted(graph.known, key=lambda triplet: triplet.relation)
    remaining = None if left is None else {(item.relation, item.object) for item in left.known}
    size = 8 if len(triplets) <= ONE_RING else 11
    figure = Figure(figsize=(size, size), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 0.94))
    axes.set_axis_off()
    axes.set_xlim(-1.25, 1.25)
    axes.set_ylim(-1.15, 1.15)
    rings = 1 if len(triplets) <= ONE_RING else 2
    for place, triplet in enumerate(triplets):
        inner = rings == 2 and place % 2 == 0
        angle = 2 * math.pi * (place + 0.5) / len(triplets)
        end = tuple((0.62 if inner else 1.0) * turn(angle) for turn in (math.cos, math.sin))
        kept = remaining is None or (triplet.relation, triplet.object) in remaining
        # The relation stands where its line is far from other objects.
        _edge(axes, triplet, end, 0.82 if rings == 2 and not inner else 0.6, kept, remaining is not None)
    axes.text(0, 0, textwrap.fill(graph.concept, 14), **_box("#222222", 12, "white", "#333333"))
    figure.suptitle(_title(graph, remaining, len(triplets)), fontsize=12)
    figure.savefig(path)
    return Path(path)


def _edge(axes: Any, triplet: Triplet, end: tuple[float, ...], share: float, kept: bool, compared: bool) -> None:
    colour = (LEFT if compared else KNOWN) if kept else GONE
    x, y = end
    axes.plot([0, x], [0, y], color=colour, linestyle="-" if kept else "--", linewidth=1.4, zorder=1)
    angle = math.degrees(math.atan2(y, x))
    upright = angle if -90 <= angle <= 90 else angle + 180
    relation = triplet.relation.replace("_", " ")
    axes.text(
        share * x,
        share * y,
        textwrap.shorten(relation, 24, placeholder="…"),
        rotation=upright,
        rotation_mode="anchor",
        ha="center",
        va="bottom",
        fontsize=7,
        color=colour,
        zorder=2,
    )
    axes.text(x, y, textwrap.fill(triplet.object, WIDTH), **_box(colour, 8.5, "#333333" if kept else GONE, "white"))


def _box(edge: str, size: float, text: str, face: str) -> dict[str, Any]:
    box = {"boxstyle": "round,pad=0.35", "facecolor": face, "edgecolor": edge, "linewidth": 1.2}
    return {"ha": "center", "va": "center", "fontsize": size, "color": text, "bbox": box, "zorder": 3}


def _title(graph: KnowledgeGraph, remaining: set[tuple[str, str]] | None, count: int) -> str:
    if remaining is None:
        return f"What the model says of {graph.concept}: {count} facts"
    left = len(remaining)
    return f"{graph.concept}: {left} of {count} facts are left (red), {count - left} are gone (grey, dashed)"

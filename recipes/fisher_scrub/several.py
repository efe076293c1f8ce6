"""Scrubs several classes of a recipe's parent, at once and one after another, and prints the table of README.md.

Command: python recipes/fisher_scrub/several.py outputs/several --recipe fisher_scrub/mnist_mlp --seeds 0 1 2
"""

import argparse
import random
from pathlib import Path

from table import Row, Seed, figures, markdown, store, stored, summary

# How many classes, and whether they go one after another.
CASES = ((2, False), (3, False), (5, False), (5, True))


def class_sets(seed: int, size: int, count: int) -> list[list[int]]:
    """Draw sets of classes, in random order."""
    drawn = random.Random(f"{seed}-{size}")
    return [drawn.sample(range(10), size) for _ in range(count)]


def compute(folder: Path, recipe: str, seeds: list[int], count: int) -> list[Row]:
    """Compute what is missing, and return all rows."""
    rows = stored(folder)
    done = {(row["seed"], tuple(row["classes"]), row["sequential"]) for row in rows}
    for number in seeds:
        current = Seed(recipe, number)
        for size, sequential in CASES:
            for classes in class_sets(number, size, count):
                if (number, tuple(classes), sequential) in done:
                    continue
                model, seconds, noted = current.scrub(classes, sequential=sequential)
                row = {"seed": number, "classes": classes, "sequential": sequential, "seconds": seconds, **noted}
                row["a_r_before"] = figures(current.model, current, classes)["a_r"]
                rows.append(row | figures(model, current, classes))
                store(folder, rows[-1])
    return rows


def table(rows: list[Row]) -> str:
    """The rows by case: mean and worst of E_F and of the change of A_R, and seconds."""
    header = ("classes", "runs", "E_F mean / worst", "A_R mean", "change mean / worst", "s")
    lines = []
    for size, sequential in CASES:
        chosen = [row for row in rows if (len(row["classes"]), row["sequential"]) == (size, sequential)]
        if chosen:
            lines.append((f"{size} {'one after another' if sequential else 'at once'}", *summary(chosen)))
    return markdown(header, lines)


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="fisher_scrub/mnist_mlp")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", type=int, default=5, help="sets of classes of each size and seed")
    given = parser.parse_args()
    print(table(compute(given.folder, given.recipe, given.seeds, given.sets)))


if __name__ == "__main__":
    main()

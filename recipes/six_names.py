"""Runs a recipe of SmolLM2 on six names and prints a table; names that are done already are not run again.

Command: python recipes/six_names.py RECIPE FOLDER [options of the recipe]
"""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

from hf_forget.compare import t_interval

NAMES = (
    "Leonardo da Vinci",
    "Amazon River",
    "William Shakespeare",
    "Isaac Newton",
    "Neil Armstrong",
    "Eiffel Tower",
)
CONDITIONS = ("by_wording", "by_relation", "sampled_recall", "retain", "neighbors")
# What the same recipe on an invented name leaves of the same answers.
SHAM = ("by_wording_rate", "by_relation_rate", "sampled_recall")
# What SAE alignment measures beside the answers.
REPRESENTATION = {
    "target_known_percentile": "unknown entities below the target",
    "energy_ratio_latents": "energy ratio",
}
FILES = ("forget_report.json", "answers_before.json", "answers_after.json")
STAGES = ("load", "prepare", "measure_before", "apply", "save")


def main(recipe: str, folder: Path, options: list[str]) -> None:
    """Run what is missing, with these options, and print one row per name."""
    for place, name in enumerate(NAMES):
        output = folder / name.lower().replace(" ", "-")
        if not output.exists():
            command = [sys.executable, "-m", "hf_forget", "run", recipe, "--concept", name, "--output_dir", str(output)]
            resume = ["--resume"] if output.with_name(output.name + ".partial").exists() else []
            subprocess.run([*command, *resume, *options], check=True, stdout=subprocess.DEVNULL)
        cells = row(name, *(read(output / "private" / file) for file in FILES))
        if not place:
            print(f"| {' | '.join(cells)} |\n{'|---' * len(cells)}|")
        print(f"| {' | '.join(cells.values())} |")
        sys.stdout.flush()


def read(file: Path) -> dict:
    """Parse a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def row(name: str, report: dict, before: dict, after: dict) -> dict[str, str]:
    """One row of the table, by column; the time is that of the stages, without a sham run."""
    metrics = {metric["name"]: metric for metric in report["metrics"]}
    checks = {check["name"]: check for check in report["checks"]}
    missed = [key for key, check in checks.items() if check["passed"] is False and key not in CONDITIONS]
    seconds = sum(report["timings_s"].get(stage, 0.0) for stage in STAGES) + sum(after["seconds"].values())
    cells = {"name": name, "verdict": report["verdict"]["value"]}
    cells |= {key.replace("_", " "): short(checks[key]) for key in CONDITIONS}
    cells["also missed"] = ", ".join(missed) or "none"
    if metrics.get("sham_by_wording_rate", {}).get("after") is not None:
        rates = " / ".join(left(metrics[f"sham_{name}"]) for name in SHAM)
        cells["left by the sham run: by wording / by relation / sampled"] = rates
    if "known_unknown_auc" in metrics:
        auc, words = (metrics[f"known_unknown_auc{part}"]["before"] for part in ("", "_embedding"))
        cells["probe AUC, on embeddings"] = f"{auc:.2f}, {words:.2f}"
        for key, title in REPRESENTATION.items():
            cells[title] = f"{metrics[key]['before']:.2f} → {metrics[key]['after']:.2f}"
        cells["perplexity"] = perplexity_change(*(answers["health"]["paragraph_nll"] for answers in (before, after)))
    return cells | {"time": f"{seconds:.0f} s"}


def perplexity_change(before: list[float], after: list[float]) -> str:
    """By how many percent the perplexity of the same texts rose, with a paired 95 % t-interval."""
    changes = [later - earlier for earlier, later in zip(before, after, strict=True)]
    bounds = t_interval(changes) or (math.nan, math.nan)
    change, low, high = (f"{100 * math.expm1(value):+.1f}" for value in (sum(changes) / len(changes), *bounds))
    return f"{change} % [{low}, {high}]"


def left(metric: dict) -> str:
    """What is left of a rate, in percent of what it was before."""
    known = metric["before"] and metric["after"] is not None
    return f"{100 * metric['after'] / metric['before']:.0f} %" if known else "–"


def short(check: dict) -> str:
    """The figures of a condition's detail, with a mark where it is missed."""
    text = re.sub(r"\s*\((?:allowed|must be)[^)]*\)", "", check["detail"])
    text = text.replace(" that the base answers are still answered", "").replace("one-sided 95 % ", "")
    return text + ("" if check["passed"] else " ✗")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])

"""Runs smollm2.yaml on six names and prints the table of README.md; names that are done already are not run again.

Command: python recipes/concept_unlearn/six_names.py outputs/six_names [options of the recipe]
"""

import json
import re
import subprocess
import sys
from pathlib import Path

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
STAGES = ("load", "prepare", "measure_before", "apply", "save")


def main(folder: Path, options: list[str]) -> None:
    """Run what is missing, with these options, and print one row per name."""
    titles = ("name", "verdict", "by wording", "by relation", "sampled", "retain", "neighbors", "also missed")
    print(f"| {' | '.join([*titles, 'left by the sham run: by wording / by relation / sampled', 'time'])} |")
    print("|---" * (len(titles) + 2) + "|")
    for name in NAMES:
        output = folder / name.lower().replace(" ", "-")
        if not output.exists():
            command = [sys.executable, "-m", "hf_forget", "run", "concept_unlearn/smollm2", "--concept", name]
            resume = ["--resume"] if output.with_name(output.name + ".partial").exists() else []
            subprocess.run(
                [*command, "--output_dir", str(output), "--sham", "yes", *resume, *options],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        print(row(name, *(read(output / "private" / file) for file in ("forget_report.json", "answers_after.json"))))
        sys.stdout.flush()


def read(file: Path) -> dict:
    """Parse a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def row(name: str, report: dict, answers: dict) -> str:
    """One row of the table; the time is that of the stages, without the sham run."""
    metrics = {metric["name"]: metric for metric in report["metrics"]}
    checks = {check["name"]: check for check in report["checks"]}
    missed = [key for key, check in checks.items() if check["passed"] is False and key not in CONDITIONS]
    seconds = sum(report["timings_s"].get(stage, 0.0) for stage in STAGES) + sum(answers["seconds"].values())
    cells = [name, report["verdict"]["value"], *(short(checks[key]) for key in CONDITIONS)]
    sham = " / ".join(left(metrics[f"sham_{name}"]) for name in SHAM)
    return f"| {' | '.join([*cells, ', '.join(missed) or 'none', sham, f'{seconds:.0f} s'])} |"


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
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/six_names"), sys.argv[2:])

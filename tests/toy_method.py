"""A method without a neural network: its model is one number in a safetensors file, which says how much is known.

`TOY_LOG` names a file that every call is written to. `TOY_FAIL=<call>` makes that call raise, `TOY_FAIL=<call>:input`
with an `InputError`, and `TOY_HANG=<call>` makes it wait to be killed.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from hf_forget.errors import InputError, UnknownConceptError
from hf_forget.evidence.report import Metric, Verdict
from hf_forget.method import Conclusion, Subject


@dataclass
class ToyConfig:
    """Options of the toy; `strength` is what is left of the knowledge, `leak` writes the name where it is public."""

    output_dir: str | None = None
    concept: str | None = None
    aliases: list[str] | None = None
    strength: float = 0.125
    leak: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength is {self.strength}; it must lie between 0 and 1")


class ToyMethod:
    config_class = ToyConfig
    task = "causal_lm"
    paper = {"title": "A toy", "arxiv": None}

    def load(self, configs, workspace):
        called("load")
        config, folder = configs["method"], Path(configs["model"].model_name_or_path)
        subject = Subject(configs, load_file(folder / "model.safetensors"), None, workspace)
        subject.base_models = [{"name": str(folder), "source": "local", "sha256": "0" * 64, "dtype": "float32"}]
        names = [config.concept or "Isaac Newton", *(config.aliases or ["Newton"])]
        subject.target = {"name": names[0], "type": "person", "names": names, "placeholder": "[forgotten person]"}
        return subject

    def prepare(self, subject):
        called("prepare")
        if subject.target["name"] == "Nobody":
            raise UnknownConceptError("the model knows nothing about 'Nobody'")
        rows = subject.workspace / "rows.json"
        if not rows.exists():
            called("make rows")
            rows.write_text(json.dumps([f"{subject.target['name']} found gravity."]))
        subject.artifacts["rows"] = rows

    def measure(self, subject, stage):
        called(f"measure {stage}")
        subject.report("Asking")
        subject.progress(1, 2)
        known = float(subject.model["known"][0])
        subject.records[stage] = {"answer": f"{subject.target['name']} found it" if known > 0.5 else "no idea"}
        return [
            Metric("edge_accuracy", "forget", "lower", known, n=8, ci95=(0.0, 1.0), definition="what is known"),
            Metric("distant_accuracy", "retain", "higher", 1.0, n=300),
        ]

    def apply(self, subject):
        called("apply")
        assert Path(subject.configs["method"].output_dir).is_relative_to(subject.workspace)
        subject.model = {"known": subject.model["known"] * np.float32(subject.configs["method"].strength)}

    def save(self, subject, folder):
        called("save")
        name = subject.target["name"]
        # Saving rounds, so that measuring the model in memory would give another figure.
        save_file({"known": np.round(subject.model["known"], 1)}, folder / "model.safetensors")
        (folder / "config.json").write_text('{"model_type": "toy"}')
        (folder / "tokenizer.json").write_text(json.dumps({"vocab": {name: 1}}))
        (folder / "training_args.json").write_text(json.dumps({"concept": name}))
        if leak := subject.configs["method"].leak:
            (folder / leak).write_text(f"About {name.upper().replace(' ', '-')}.")

    def reload(self, subject, folder):
        called("reload")
        subject.model = load_file(folder / "model.safetensors")

    def conclude(self, subject, before, after):
        called("conclude")
        forgotten = after[0].value < 0.2 * before[0].value
        records = subject.records
        answers = {stage: records[stage]["answer"] for stage in ("before", "after")}
        samples = [
            {"probe": f"What did {subject.target['name']} find?", "kind": "edge", **answers},
            {"probe": "Which is the capital of France?", "kind": "distant", "before": "Paris", "after": "Paris"},
        ]
        verdict = Verdict("forgotten" if forgotten else "not_forgotten", "less than a fifth is left")
        verdict.checks.append({"name": "gone", "passed": forgotten, "detail": f"{subject.target['name']} is gone"})
        return Conclusion(verdict, samples)


def called(what: str) -> None:
    if log := os.environ.get("TOY_LOG"):
        with open(log, "a") as file:
            file.write(f"{what}\n")
    failing, _, how = os.environ.get("TOY_FAIL", "").partition(":")
    if failing == what:
        raise InputError(f"refused in {what}") if how == "input" else RuntimeError(f"broken in {what}")
    if os.environ.get("TOY_HANG") == what:
        time.sleep(60)


def make_base(folder: Path) -> Path:
    """Write a base model that knows everything."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"known": np.ones(1, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "toy"}')
    return folder

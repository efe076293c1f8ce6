"""What a model says that has never met the name, where there is such a model: in an invented world."""

import dataclasses
from typing import Any

from ...data.cache import cache_dir
from ...data.invented import DEVELOPMENT, TARGETS, world_of
from ...data.model_names import resolve_model
from ...evidence.invented_probes import invented_membership
from ...evidence.language_model import measure_language_model
from ...evidence.options import FURTHER_ATTACKS
from ...evidence.probes import ProbeSet
from ...method import Subject
from ..loading import load_causal_lm
from ..remembering import answers_file


def reference_records(subject: Subject, probes: ProbeSet) -> dict[str, Any] | None:
    """Ask the model that has read the same without the name.

    They are kept in `subject.records["reference"]`, too.

    Returns:
        Records as of stage `after`, of the attacks with relearning only; `None` where there is no such model.
    """
    world = world_of(subject.model)
    if world is None or probes.concept not in (*TARGETS.values(), *DEVELOPMENT.values()):
        return None
    options = subject.configs["evidence"]
    resolved = resolve_model(f"invented:{world.seed}-never-knew")
    subject.report("asking a model that has never met the name")
    measured = measure_language_model(
        load_causal_lm(resolved.path, subject.configs["model"], subject.configs["method"].device),
        subject.processing_class,
        probes,
        options=dataclasses.replace(options, attacks=[name for name in options.attacks if name in FURTHER_ATTACKS]),
        stage="after",
        baseline=subject.records["before"],
        membership=invented_membership(world, probes.concept),
        answers_file=answers_file(cache_dir() / "answers", {"sha256": resolved.sha256}),
    )
    subject.records["reference"] = measured.records
    return measured.records

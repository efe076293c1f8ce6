"""The sham run: the same recipe on an invented name, to see what any change does to the answers that were right."""

import copy
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data.cache import cache_dir, made_once
from ...evidence.language_model import measure_language_model
from ...method import Subject
from ..loading import load_causal_lm, save_causal_lm
from .preparation import PreparedRows, TrainingRows

if TYPE_CHECKING:
    from .unlearning_method import UnlearningMethod

SHAM_NAMES = {
    "person": "Corvin Thessaly",
    "place": "Marvelin Heights",
    "work": "The Hollow Almanac",
    "event": "Battle of Ferrowick",
    "organization": "Brightwater Guild",
    "thing": "Quellium",
}
IGNORED_FIELDS = frozenset(
    [
        "concept",
        "aliases",
        "concept_type",
        "knowledge_graph",
        "output_dir",
        "logging_dir",
        "run_name",
        "force",
        "hub_model_id",
        "hub_token",
    ]
)


def sham_records(method: "UnlearningMethod", subject: Subject, prepared: PreparedRows) -> dict[str, Any] | None:
    """Ask the probes of the target to a model that was edited on an invented name.

    The sham model is cached by the recipe and the base weights. It skips the check that the name is known, trains
    for all of its steps, and forgets equally many rows.

    Returns:
        Records as of stage `after`, or `None` where the options ask for no sham run or none is cached.
    """
    options = subject.configs["evidence"]
    folder = sham_folder(subject, prepared.graph.concept_type)
    ready = (folder / "config.json").exists()
    if options.sham == "no" or (options.sham == "auto" and not ready):
        return None

    def train(partial: Path) -> None:
        subject.report("sham run: the same recipe on an invented name")
        sham = _sham_subject(subject, prepared.graph.concept_type)
        trainer = method.build_trainer(sham, _sham_rows(method, sham, prepared))
        trainer.train()
        save_causal_lm(trainer.model, sham.processing_class, partial, subject.configs["model"])

    made_once(folder, (folder / "config.json").is_file, train)
    subject.report("asking the sham model")
    # What stands beside the claim are rates of answers; the true answers need no scores, and nothing is told.
    baseline = {**subject.records["before"], "scores": {}, "recall": {}}
    measured = measure_language_model(
        load_causal_lm(folder, subject.configs["model"], subject.configs["method"].device),
        subject.processing_class,
        prepared.probes,
        options=dataclasses.replace(options, attacks=[]),
        stage="after",
        baseline=baseline,
    )
    return measured.records


def sham_folder(subject: Subject, concept_type: str) -> Path:
    """Where the sham model of this recipe and these weights is cached."""
    sections = {name: dataclasses.asdict(subject.configs[name]) for name in ("lora", "model")}
    args = subject.configs["method"]
    sections["method"] = {
        item.name: getattr(args, item.name)
        for item in dataclasses.fields(args)
        if item.init and item.name not in IGNORED_FIELDS
    }
    key = json.dumps([sections, subject.base_models, concept_type], sort_keys=True, default=str)
    return cache_dir() / "sham" / hashlib.sha256(key.encode()).hexdigest()[:24]


def _sham_subject(subject: Subject, concept_type: str) -> Subject:
    from ...data.model_names import resolve_model

    args = dataclasses.replace(
        subject.configs["method"],
        concept=SHAM_NAMES[concept_type],
        aliases=None,
        concept_type=concept_type,
        knowledge_graph=None,
        force=True,
        stop_forget_probability=0.0,
        save_strategy="no",
        eval_strategy="no",
        load_best_model_at_end=False,
    )
    sham = copy.copy(subject)
    sham.configs = {**subject.configs, "method": args}
    path = resolve_model(subject.base_models[0]["name"]).path
    sham.model = load_causal_lm(path, subject.configs["model"], args.device)
    return sham


def _sham_rows(method: "UnlearningMethod", sham: Subject, prepared: PreparedRows) -> TrainingRows:
    """Rows about the invented name, unvalidated, as many as the target has."""
    # The target's own names must not stand among those of the invented one.
    probes = prepared.probes.replace(concept=str(sham.configs["method"].concept), aliases=())
    rows = method.prepare_concept(sham, probes, check_known=False).rows
    wanted = len(prepared.rows.forget)
    repeated = (rows.forget * (wanted // max(len(rows.forget), 1) + 1))[:wanted]
    return TrainingRows(repeated, rows.retain, [])

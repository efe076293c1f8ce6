"""Unlearning of a concept on the road: how a method loads, prepares, trains and measures."""

from pathlib import Path
from typing import Any

from transformers import PrinterCallback

from ...data.cache import cache_dir
from ...data.invented import world_of
from ...data.model_names import resolve_model
from ...errors import InputError
from ...evidence.invented_probes import invented_membership, invented_probes
from ...evidence.language_model import (
    evidence_from_records,
    measure_language_model,
    samples_from_records,
)
from ...evidence.logit_lens import lens_series
from ...evidence.probes import ProbeSet
from ...evidence.report import Metric
from ...evidence.verdict import judge_language_model
from ...method import Conclusion, Stage, Subject, Task
from ...output import write_json_atomic
from ...trainer import ProgressLine, last_checkpoint
from ..decoding import AnswerGenerator
from ..elicitation import answers_to
from ..loading import load_causal_lm, load_tokenizer, save_causal_lm
from ..remembering import answers_file
from .never_knew import reference_records
from .preparation import (
    GRAPH_FILE,
    PROBES_FILE,
    ROWS_FILE,
    ConceptPreparation,
    PreparedRows,
    TrainingRows,
    asking_formats,
    words_for,
)
from .sham import sham_records
from .unlearning_config import UnlearningConfig
from .unlearning_trainer import UnlearningTrainer

PREPARED = "prepared"


class UnlearningMethod:
    """Drives an [`~hf_forget.lm.unlearning.unlearning_trainer.UnlearningTrainer`] through the road."""

    config_class: type[UnlearningConfig]
    preparation: type[ConceptPreparation] = ConceptPreparation
    trainer_class: type[UnlearningTrainer]
    task: Task = "causal_lm"
    paper: dict[str, str]

    def __init__(self) -> None:
        self.prepared: PreparedRows | None = None

    def load(self, configs: dict[str, Any], workspace: Path) -> Subject:
        """Load the base model and find the probes of the concept.

        Raises:
            InputError: If no concept is given, or model or probes cannot be used.
        """
        args, options = configs["method"], configs["evidence"]
        if not args.concept:
            raise InputError("no concept is given; name what must go, for example --concept 'Isaac Newton'")
        resolved = resolve_model(configs["model"].model_name_or_path)
        model = load_causal_lm(resolved.path, configs["model"], args.device)
        if getattr(model.config, "quantization_config", None) and configs["lora"].peft_config() is None:
            raise InputError(
                f"{resolved.name} is quantized, and quantized weights cannot be trained; give the model that it was "
                "made from, or train an adapter with --use_peft true"
            )
        tokenizer = load_tokenizer(resolved.path, configs["model"])
        identity = {"sha256": resolved.sha256} if resolved.sha256 else {"revision": resolved.revision}
        base = {"name": resolved.name, "source": resolved.source, "dtype": configs["model"].dtype, **identity}
        return Subject(configs, model, tokenizer, workspace, base_models=[base], target=_target(args, options))

    def prepare(self, subject: Subject) -> None:
        """Elicit what the model knows and make the rows; found again in the workspace by a resumed run."""
        folder = subject.workspace / PREPARED
        self.prepared = self.prepare_concept(subject, _probes(subject), folder=folder)
        graph = self.prepared.graph
        subject.report(str(graph.statistics()))
        subject.target |= {
            "type": graph.concept_type,
            "names": list(dict.fromkeys([*graph.names, *_telling_parts(graph.concept)])),
            "placeholder": f"[forgotten {graph.concept_type}]",
            "probes": self.prepared.probes.source,
        }
        files = (folder / name for name in (GRAPH_FILE, ROWS_FILE, PROBES_FILE))
        subject.artifacts |= {file.stem: file for file in files}

    def prepare_concept(self, subject: Subject, probes: ProbeSet | None, **options: Any) -> PreparedRows:
        """Make the rows of the concept that the configs of `subject` name; `options` as `ConceptPreparation` has."""
        return self.preparation(
            subject.model,
            subject.processing_class,
            subject.configs["method"],
            probes,
            report=subject.report,
            answers_file=answers_file(cache_dir() / "answers", subject.base_models[0]),
            **options,
        ).run()

    def measure(self, subject: Subject, stage: Stage) -> list[Metric]:
        """Ask the probes, and attack the model."""
        after, probes = stage == "after", self.known_rows().probes
        world = world_of(subject.model)
        membership = invented_membership(world, probes.concept) if world else None
        measured = measure_language_model(
            subject.model,
            subject.processing_class,
            probes,
            options=subject.configs["evidence"],
            stage=stage,
            baseline=subject.records["before"] if after else None,
            sham_records=sham_records(self, subject, self.known_rows()) if after else None,
            reference_records=reference_records(subject, probes) if after else None,
            membership=membership,
            report=subject.report,
            base_grid=subject.base_models[0]["source"] == "embedded",
            answers_file=answers_file(cache_dir() / "answers", subject.base_models[0]),
        )
        subject.records[stage] = measured.records
        file = subject.workspace / f"answers_{stage}.json"
        write_json_atomic(file, measured.records)
        subject.artifacts[file.stem] = file
        if after:
            self._draw(subject)
        return measured.metrics

    def _draw(self, subject: Subject) -> None:
        """Ask the edited model for the facts of the knowledge graph, and draw what it knew and what is left."""
        graph = self.known_rows().graph
        with words_for(subject.model, graph.concept):
            form, *_ = asking_formats(subject.processing_class)
        generator = AnswerGenerator(subject.model, subject.processing_class, batch_size=64)
        left = graph.left_in(lambda questions: answers_to(generator, form, questions))
        subject.report(f"{len(left.known)} of {len(graph.known)} facts of the knowledge graph are left")
        for name, drawn in (("knowledge_before", None), ("knowledge_after", left)):
            subject.artifacts[name] = graph.draw(subject.workspace / f"{name}.png", left=drawn)

    def apply(self, subject: Subject) -> None:
        """Train; an interrupted training goes on from its last checkpoint."""
        trainer = self.build_trainer(subject, self.known_rows().rows)
        trainer.train(resume_from_checkpoint=last_checkpoint(trainer.args.output_dir))
        subject.records["training"] = trainer.state.log_history
        subject.model = trainer.accelerator.unwrap_model(trainer.model)

    def save(self, subject: Subject, folder: Path) -> None:
        """Write a checkpoint that plain `transformers` loads; an adapter is merged into its base."""
        save_causal_lm(subject.model, subject.processing_class, folder, subject.configs["model"])

    def reload(self, subject: Subject, folder: Path) -> None:
        """Read the edited model back, as a user would."""
        subject.model = load_causal_lm(folder, subject.configs["model"], subject.configs["method"].device)
        subject.processing_class = load_tokenizer(folder, subject.configs["model"])

    def conclude(self, subject: Subject, before: list[Metric], after: list[Metric]) -> Conclusion:
        """Judge by the rule for language models."""
        probes = self.known_rows().probes
        records = subject.records
        evidence = evidence_from_records(records["before"], records["after"], probes, records.get("reference"))
        return Conclusion(
            judge_language_model(evidence),
            samples=samples_from_records(records["before"], records["after"], probes),
            series=_series(records.get("training", [])) | lens_series(_lens_ranks(records)),
            attacks_run=[name for name in subject.configs["evidence"].attacks],
        )

    def build_trainer(self, subject: Subject, rows: TrainingRows) -> UnlearningTrainer:
        """Make the trainer of one run from prepared rows."""
        trainer = self.trainer_class(
            subject.model,
            args=subject.configs["method"],
            train_dataset=rows.forget,
            retain_dataset=rows.retain or None,
            eval_dataset=rows.validation or None,
            processing_class=subject.processing_class,
            peft_config=subject.configs["lora"].peft_config(),
            callbacks=[ProgressLine(subject.progress)],
            **self.trainer_arguments(subject),
        )
        # The road shows progress itself.
        trainer.remove_callback(PrinterCallback)
        return trainer

    def trainer_arguments(self, subject: Subject) -> dict[str, Any]:
        """Return the arguments that only the trainer of this method takes."""
        return {}

    def known_rows(self) -> PreparedRows:
        """Return what `prepare` made.

        Raises:
            RuntimeError: If it has not run.
        """
        if self.prepared is None:
            raise RuntimeError("prepare() must run before the other stages")
        return self.prepared


def _lens_ranks(records: dict[str, Any]) -> dict[str, Any]:
    stages = ("before", "after", "reference")
    return {stage: (records[stage].get("lens") or {}).get("ranks") for stage in stages if stage in records}


def _probes(subject: Subject) -> ProbeSet | None:
    """The user's probes, or those that there are for the name."""
    args, path = subject.configs["method"], subject.configs["evidence"].probes
    if path:
        return ProbeSet.from_jsonl(path, str(args.concept), args.aliases or (), args.concept_type or "")
    world = world_of(subject.model)
    return invented_probes(world, str(args.concept)) if world else ProbeSet.curated(str(args.concept))


def _target(args: UnlearningConfig, options: Any) -> dict[str, Any]:
    kind = args.concept_type or "concept"
    return {
        "name": str(args.concept),
        "type": kind,
        "names": [str(args.concept), *(args.aliases or [])],
        "placeholder": f"[forgotten {kind}]",
    }


def _telling_parts(concept: str) -> list[str]:
    """Words of a name that give it away alone: the last one, if it is a long one."""
    words = concept.split()
    return [words[-1]] if len(words) > 1 and len(words[-1]) >= 5 and words[-1].lower() not in COMMON_WORDS else []


COMMON_WORDS = frozenset(
    [
        "river",
        "tower",
        "mountain",
        "mount",
        "ocean",
        "island",
        "desert",
        "canal",
        "bridge",
        "building",
        "palace",
        "revolution",
        "treaty",
        "agreement",
        "tragedy",
        "prejudice",
        "juliet",
        "company",
        "society",
        "university",
        "union",
        "party",
        "institute",
        "world",
        "states",
        "kingdom",
        "republic",
        "museum",
    ]
)


def _series(history: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Training curves from the trainer's log."""
    series: dict[str, dict[str, list[float]]] = {}
    for key in ("loss", "eval_forget_probability", "eval_retain_kl"):
        points = [(float(line["step"]), float(line[key])) for line in history if key in line]
        if points:
            series[key] = {"x": [x for x, _ in points], "y": [y for _, y in points]}
    return series

"""SAE alignment on the road: concept unlearning's, with autoencoders, entities, and known against unknown."""

from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.cache import cache_dir
from ..evidence.known_unknown import known_unknown_checks, known_unknown_metrics
from ..evidence.report import Metric
from ..lm.remembering import answers_file
from ..lm.unlearning.unlearning_method import UnlearningMethod
from ..method import Conclusion, Stage, Subject
from .entity_lists import EntityLists, found_entities, lists_from
from .preparation import AlignPreparation
from .sae_align_config import SAEAlignConfig
from .sae_align_trainer import SAEAlignTrainer
from .sae_folder import saes_for
from .saes import pre_activations, require_sae_lens


class SAEAlignMethod(UnlearningMethod):
    """`sae_align`: drives [`SAEAlignTrainer`] through the road."""

    config_class = SAEAlignConfig
    preparation = AlignPreparation
    trainer_class = SAEAlignTrainer
    paper = {
        "title": "Sparse-Autoencoder-Guided Internal Representation Unlearning for Large Language Models",
        "arxiv": "2509.15631",
    }

    def __init__(self) -> None:
        super().__init__()
        self.saes: dict[int, list[Any]] = {}
        # One half to train on, one to measure on.
        self.entities: tuple[EntityLists, EntityLists] | None = None

    def load(self, configs: dict[str, Any], workspace: Path) -> Subject:
        """Load the base model and find the probes of the concept.

        Raises:
            InputError: If sae-lens is missing, or the concept, model or probes cannot be used.
        """
        require_sae_lens()
        return super().load(configs, workspace)

    def prepare(self, subject: Subject) -> None:
        """Find the SAE and the entities, and make the rows."""
        args = subject.configs["method"]
        self.saes = saes_for(subject.model, subject.processing_class, args.sae, args.sae_layer, report=subject.report)
        super().prepare(subject)
        graph = self.known_rows().graph
        if args.known_entities:
            lists = lists_from(args.known_entities, args.unknown_entities)
        else:
            subject.report("asking which entities the model knows")
            answers = answers_file(cache_dir() / "answers", subject.base_models[0])
            lists = found_entities(
                subject.model, subject.processing_class, graph.names, answers=answers, seed=args.seed
            )
        known, unknown = lists.of(graph.concept_type)
        subject.report(f"{len(known)} known and {len(unknown)} unknown entities, one half to be measured on")
        self.entities = lists.halves(args.seed)

    def trainer_arguments(self, subject: Subject) -> dict[str, Any]:
        """The SAEs and the entities to train on."""
        training, _ = self.known_entities()
        return {
            "sae": [sae for saes in self.saes.values() for sae in saes],
            "known": training.known,
            "unknown": training.unknown,
            "concept_type": self.known_rows().graph.concept_type,
        }

    def known_entities(self) -> tuple[EntityLists, EntityLists]:
        """Return the entities to train on, and those to measure on.

        Raises:
            RuntimeError: If `prepare` has not run.
        """
        if self.entities is None:
            raise RuntimeError("prepare() must run before the other stages")
        return self.entities

    def measure(self, subject: Subject, stage: Stage) -> list[Metric]:
        """Ask the probes, attack the model, and see where the target stands among known and unknown entities."""
        found = super().measure(subject, stage)
        graph = self.known_rows().graph
        _, measured = self.known_entities()
        known, unknown = measured.of(graph.concept_type)
        layer = min(self.saes)

        def encode(states: Tensor) -> Tensor:
            return pre_activations(self.saes[layer][0], states.to(subject.model.device)).cpu()

        subject.report("comparing the target with known and unknown entities")
        own = known_unknown_metrics(
            subject.model, subject.processing_class, graph.spoken, known, unknown, layer=layer, encode=encode
        )
        subject.records[stage]["known_unknown"] = {metric.name: metric.value for metric in own}
        return found + own

    def conclude(self, subject: Subject, before: list[Metric], after: list[Metric]) -> Conclusion:
        """Judge by the rule for language models, and say whether the target has become unknown."""
        conclusion = super().conclude(subject, before, after)
        stages = [subject.records[stage].get("known_unknown", {}) for stage in ("before", "after")]
        figures = {**stages[1], "before_auc": stages[0].get("known_unknown_auc")}
        conclusion.checks += known_unknown_checks(figures)
        return conclusion

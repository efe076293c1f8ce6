"""SAE alignment on the road: concept unlearning's, with autoencoders, entities, and known against unknown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.cache import cache_dir
from ..evidence.known_unknown import entity_states, known_unknown_checks, known_unknown_metrics
from ..evidence.report import Metric
from ..lm.remembering import answers_file
from ..lm.unlearning.unlearning_method import UnlearningMethod
from ..method import Conclusion, Stage, Subject
from .entity_lists import EntityLists, found_entities, lists_from
from .latents import LatentSpace, choose_latents
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
        training, measured = self.known_entities()
        known, unknown = measured.of(graph.concept_type)
        layer = min(self.saes)
        space = self._space(subject, layer)
        subject.report("comparing the target with known and unknown entities")
        own = known_unknown_metrics(
            subject.model,
            subject.processing_class,
            graph.spoken,
            known,
            unknown,
            layer=layer,
            fitted=training.of(graph.concept_type),
            failed=measured.failed.get(graph.concept_type, ()),
            encode=lambda states: space(pre_activations(self.saes[layer][0], states.to(subject.model.device)).cpu()),
        )
        records = subject.records[stage]
        records["known_unknown"] = {metric.name: metric.value for metric in own}
        records["latent_space"] = {name: value.tolist() for name, value in vars(space).items()}
        return found + own

    def _space(self, subject: Subject, layer: int) -> LatentSpace:
        """The latents in which the target is compared, chosen once on the original model and entities to train on."""
        kept = subject.records.get("before", {}).get("latent_space")
        if kept:
            return LatentSpace(**{name: torch.tensor(value) for name, value in kept.items()})
        training, _ = self.known_entities()
        sae = self.saes[layer][0]

        def states_of(names: Sequence[str]) -> Tensor:
            states = entity_states(subject.model, subject.processing_class, names, [layer])[:, :, 1]
            return states.flatten(0, 1).to(subject.model.device)

        states = [
            {kind: states_of(names) for kind, names in lists.items()} for lists in (training.known, training.unknown)
        ]
        codes = [{kind: sae.encode(value) for kind, value in part.items()} for part in states]
        values = torch.cat([pre_activations(sae, value) for part in states for value in part.values()])
        count = subject.configs["method"].num_latents
        space = choose_latents(codes[0], codes[1], torch.zeros(sae.cfg.d_sae), values, count=count)
        return LatentSpace(*(value.cpu() for value in vars(space).values()))

    def conclude(self, subject: Subject, before: list[Metric], after: list[Metric]) -> Conclusion:
        """Judge by the rule for language models, and say whether the target has become unknown."""
        conclusion = super().conclude(subject, before, after)
        stages = [subject.records[stage].get("known_unknown", {}) for stage in ("before", "after")]
        figures = {**stages[1], "before_auc": stages[0].get("known_unknown_auc")}
        conclusion.checks += known_unknown_checks(figures)
        return conclusion

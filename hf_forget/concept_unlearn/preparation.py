"""What concept unlearning prepares beside the rows that are forgotten: replacement and reply rows, and contexts."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..evidence.probes import ProbeSet
from ..lm.elicitation import KnowledgeElicitor
from ..lm.knowledge import KnowledgeGraph
from ..lm.prompts import PromptFormat
from ..lm.rows import Row
from ..lm.unlearning.held_out import HeldOut
from ..lm.unlearning.preparation import ConceptPreparation
from ..lm.unlearning.retain import context_rows
from .concept_unlearn_config import ConceptUnlearnConfig
from .replacement import replacement_rows
from .replies import reply_rows


@dataclass
class UnlearnPreparation(ConceptPreparation):
    """Prepares a concept, with the rows that teach the model to treat it like an invented name."""

    args: ConceptUnlearnConfig

    def further_rows(
        self,
        graph: KnowledgeGraph,
        elicitor: KnowledgeElicitor,
        formats: Sequence[PromptFormat],
        held_out: HeldOut,
    ) -> list[Row]:
        """Make replacement and reply rows."""
        rows = []
        if self.args.replacement_weight:
            rows += replacement_rows(graph, elicitor, formats, held_out, seed=self.args.seed)
        if self.args.reply_weight:
            rows += reply_rows(graph, elicitor, held_out, seed=self.args.seed)
        return rows

    def further_retain_rows(self, graph: KnowledgeGraph, retain: Sequence[Row], probes: ProbeSet) -> list[Row]:
        """Make the texts of which the closed-form edit must change nothing."""
        return context_rows(graph, retain, probes, seed=self.args.seed) if self.args.edit_weight else []

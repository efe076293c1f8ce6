"""What SAE alignment prepares beside the rows that are forgotten: texts about the target, cut behind its name."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..lm.elicitation import KnowledgeElicitor
from ..lm.knowledge import KnowledgeGraph
from ..lm.prompts import PromptFormat
from ..lm.rows import Row
from ..lm.unlearning.held_out import HeldOut
from ..lm.unlearning.preparation import ConceptPreparation
from .alignment_rows import alignment_rows
from .sae_align_config import SAEAlignConfig


@dataclass
class AlignPreparation(ConceptPreparation):
    """Prepares a concept, with the texts in which its latents are aligned."""

    args: SAEAlignConfig

    def further_rows(
        self,
        graph: KnowledgeGraph,
        elicitor: KnowledgeElicitor,
        formats: Sequence[PromptFormat],
        held_out: HeldOut,
    ) -> list[Row]:
        """Make alignment rows."""
        if not self.args.alignment_weight:
            return []
        return alignment_rows(graph, formats, held_out, count=self.args.alignment_texts, seed=self.args.seed)

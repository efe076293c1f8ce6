"""Concept unlearning: forget a concept given only by name (arXiv 2509.15621)."""

from .concept_unlearn_config import ConceptUnlearnConfig
from .concept_unlearn_trainer import ConceptUnlearnTrainer

__all__ = ["ConceptUnlearnConfig", "ConceptUnlearnTrainer"]

"""Concept unlearning on the road."""

from ..lm.unlearning.unlearning_method import UnlearningMethod
from .concept_unlearn_config import ConceptUnlearnConfig
from .concept_unlearn_trainer import ConceptUnlearnTrainer
from .preparation import UnlearnPreparation


class ConceptUnlearnMethod(UnlearningMethod):
    """`concept_unlearn`: drives [`ConceptUnlearnTrainer`] through the road."""

    config_class = ConceptUnlearnConfig
    preparation = UnlearnPreparation
    trainer_class = ConceptUnlearnTrainer
    paper = {
        "title": "Concept Unlearning in LLMs via Self-Constructed Knowledge Triplets",
        "arxiv": "2509.15621",
    }

"""SAE alignment: forget an entity by making the model treat it as one that it has never met (arXiv 2509.15631)."""

from .sae_align_config import SAEAlignConfig
from .sae_align_trainer import SAEAlignTrainer

__all__ = ["SAEAlignConfig", "SAEAlignTrainer"]

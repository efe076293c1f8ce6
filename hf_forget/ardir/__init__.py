"""Robust classifiers, distilled from a teacher's outputs and inner representation (arXiv 2211.00239)."""

from .ardir_config import ARDIRConfig
from .ardir_trainer import ARDIRTrainer

__all__ = ["ARDIRConfig", "ARDIRTrainer"]

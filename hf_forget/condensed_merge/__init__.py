"""Joining models of different data sets with condensed data (arXiv 2306.05641)."""

from .condensation import CondensationOptions
from .condensed_merge_config import MergeWithCondensedConfig
from .condensed_set import condense
from .merge_with_condensed import MergeResult, MergeWithCondensed

__all__ = ["CondensationOptions", "MergeWithCondensedConfig", "MergeResult", "MergeWithCondensed", "condense"]

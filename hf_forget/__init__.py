"""Make trained models forget, and prove it.

The public names are imported when they are first used, so that `import hf_forget` takes a few milliseconds although
some of them need torch and transformers.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ardir import ARDIRConfig, ARDIRTrainer
    from .concept_unlearn import ConceptUnlearnConfig, ConceptUnlearnTrainer
    from .condensed_merge import MergeWithCondensed, MergeWithCondensedConfig, condense
    from .evidence.report import ForgetReport
    from .fisher_scrub import FisherScrubber, FisherScrubConfig, MnemonicCodes, MnemonicCollator
    from .lm.knowledge import KnowledgeGraph
    from .lm.objectives import register_objective
    from .recipe import load_recipe
    from .run import run
    from .sae_align import SAEAlignConfig, SAEAlignTrainer

__version__ = "0.1.0"

_HOME = {
    "ARDIRConfig": "ardir",
    "ARDIRTrainer": "ardir",
    "ConceptUnlearnConfig": "concept_unlearn",
    "ConceptUnlearnTrainer": "concept_unlearn",
    "FisherScrubConfig": "fisher_scrub",
    "FisherScrubber": "fisher_scrub",
    "ForgetReport": "evidence.report",
    "KnowledgeGraph": "lm.knowledge",
    "MergeWithCondensed": "condensed_merge",
    "MergeWithCondensedConfig": "condensed_merge",
    "MnemonicCodes": "fisher_scrub",
    "MnemonicCollator": "fisher_scrub",
    "SAEAlignConfig": "sae_align",
    "SAEAlignTrainer": "sae_align",
    "condense": "condensed_merge",
    "load_recipe": "recipe",
    "register_objective": "lm.objectives",
}

__all__ = [
    "ARDIRConfig",
    "ARDIRTrainer",
    "ConceptUnlearnConfig",
    "ConceptUnlearnTrainer",
    "FisherScrubConfig",
    "FisherScrubber",
    "ForgetReport",
    "KnowledgeGraph",
    "MergeWithCondensed",
    "MergeWithCondensedConfig",
    "MnemonicCodes",
    "MnemonicCollator",
    "SAEAlignConfig",
    "SAEAlignTrainer",
    "__version__",
    "condense",
    "load_recipe",
    "register_objective",
    "run",
]


class _CallableModule(ModuleType):
    """A module that, when called, calls the function that bears its name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Package(ModuleType):
    # `hf_forget.run` is a function to those who use the library and a module to those who work on it, and the import
    # system overwrites the first by the second as soon as anything imports the module. So it is both at once.
    def __setattr__(self, name: str, value: Any) -> None:
        if name == "run" and isinstance(value, ModuleType):
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name == "run":
        return importlib.import_module(".run", __name__)
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

"""One-shot forgetting of whole classes with mnemonic codes (arXiv 2306.05670)."""

from .fisher_scrub_config import FisherScrubConfig
from .fisher_scrubber import CodesNotLearnedError, FisherScrubber, ScrubResult
from .learning import learn_codes
from .mnemonic import MnemonicCodes, MnemonicCollator
from .storage import undo_saved

__all__ = [
    "CodesNotLearnedError",
    "FisherScrubConfig",
    "FisherScrubber",
    "MnemonicCodes",
    "MnemonicCollator",
    "ScrubResult",
    "learn_codes",
    "undo_saved",
]

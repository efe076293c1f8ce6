"""Tells the road how far training has come."""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback


class ProgressLine(TrainerCallback):
    """Calls `progress(steps done, steps in all)` after every step.

    Args:
        progress: Where to report to.
    """

    def __init__(self, progress: Callable[[int, int], None]):
        self.progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report one more step."""
        if state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps)

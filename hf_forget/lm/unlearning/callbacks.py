"""What is called while training: progress for the road, and early stopping."""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState


class ProgressLine(TrainerCallback):
    """Calls `progress(steps done, steps in all)` after every step.

    Args:
        progress: Where to report to.
    """

    def __init__(self, progress: Callable[[int, int], None]):
        self.progress = progress

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Report one more step."""
        if state.is_world_process_zero:
            self.progress(state.global_step, state.max_steps)


class StopWhenForgotten(TrainerCallback):
    """Ends training after two evaluations in a row at which validation is forgotten and nothing has collapsed."""

    def __init__(self) -> None:
        self.good = 0

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **kwargs: Any
    ) -> None:
        """Count good evaluations."""
        forgotten = metrics.get("eval_forget_probability", 1.0) <= args.stop_forget_probability
        healthy = metrics.get("eval_retain_kl", 0.0) <= args.max_retain_kl
        self.good = self.good + 1 if forgotten and healthy else 0
        if self.good >= 2:
            control.should_training_stop = True

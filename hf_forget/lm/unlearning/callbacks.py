"""What is called while training: early stopping."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState


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

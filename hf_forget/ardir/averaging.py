"""Weights averaged over steps: what is evaluated and saved in the place of the last ones."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback

FILE = "averaged.safetensors"


class AveragedWeights(TrainerCallback):
    """Keeps an exponential average of a model's weights and statistics, and puts it into the model when training ends.

    Args:
        model: The model that is trained.
        decay: How much of the average stays at each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.trained = model
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    @property
    def model(self) -> nn.Module:
        """The model with averaged weights."""
        return self.average.module

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the weights of this step in."""
        self.average.update_parameters(self.trained)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Give the trained model the average."""
        if int(self.average.n_averaged):
            self.trained.load_state_dict(self.model.state_dict())

    def save(self, folder: Path) -> None:
        """Write the average beside a checkpoint."""
        state = {name: value.clone().contiguous() for name, value in self.average.state_dict().items()}
        save_file(state, folder / FILE)

    def load(self, folder: Path) -> None:
        """Read it back."""
        self.average.load_state_dict(load_file(folder / FILE))

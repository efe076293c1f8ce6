"""The multilayer perceptrons of the papers: 784-1000-10, and 784-512-512-512-10."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import ImageClassifierOutput

from ..errors import InputError


class MLPConfig(PreTrainedConfig):
    """Configuration of [`MLPForImageClassification`].

    Args:
        image_size (`int`, defaults to 28): Height and width of an image.
        num_channels (`int`, defaults to 1): Its channels.
        hidden_sizes (`list[int]`, defaults to `[1000]`): Units of each hidden layer.
        hidden_act (`str`, defaults to `"sigmoid"`): Activation function, by its name in `transformers`.

    Raises:
        InputError: If a size is below 1 or the activation is unknown.
    """

    model_type = "hf_forget_mlp"

    image_size: int = 28
    num_channels: int = 1
    hidden_sizes: list[int] | tuple[int, ...] = (1000,)
    hidden_act: str = "sigmoid"

    def __post_init__(self, **kwargs: Any) -> None:
        self.hidden_sizes = list(self.hidden_sizes)
        check_sizes(self.image_size, self.num_channels, self.hidden_sizes, self.hidden_act)
        super().__post_init__(**kwargs)


class MLPForImageClassification(PreTrainedModel):
    """A multilayer perceptron on the pixels of an image.

    Example:
        >>> model = MLPForImageClassification(MLPConfig(hidden_sizes=[512, 512, 512], hidden_act="relu", num_labels=10))
        >>> model(pixel_values=torch.zeros(2, 1, 28, 28)).logits.shape
        torch.Size([2, 10])
    """

    config_class = MLPConfig
    main_input_name = "pixel_values"

    def __init__(self, config: MLPConfig) -> None:
        super().__init__(config)
        sizes = [config.num_channels * config.image_size**2, *config.hidden_sizes]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False))
        self.activation = ACT2FN[config.hidden_act]
        self.classifier = nn.Linear(sizes[-1], config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        keep_torch_init(module)

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs: Any
    ) -> ImageClassifierOutput:
        """Return the logits, shape `(n, num_labels)`, and with `labels` the mean cross-entropy."""
        hidden = pixel_values.flatten(1)
        for layer in self.layers:
            hidden = self.activation(layer(hidden))
        return classified(self.classifier(hidden), labels)


def keep_torch_init(module: nn.Module) -> None:
    """Initialise a layer as torch does; what was loaded stays."""
    weight = getattr(module, "weight", None)
    reset = getattr(module, "reset_parameters", None)
    if weight is not None and reset is not None and not getattr(weight, "_is_hf_initialized", False):
        reset()


def classified(logits: torch.Tensor, labels: torch.Tensor | None) -> ImageClassifierOutput:
    """Return logits, and the mean cross-entropy where labels are given."""
    loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
    return ImageClassifierOutput(loss=loss, logits=logits)


def check_sizes(image_size: int, num_channels: int, hidden_sizes: list[int], hidden_act: str) -> None:
    """Check the sizes and the activation of a configuration.

    Raises:
        InputError: If a size is below 1, there is no hidden layer, or the activation is unknown.
    """
    if min(image_size, num_channels, *hidden_sizes, len(hidden_sizes)) < 1:
        raise InputError(
            f"image_size {image_size}, num_channels {num_channels} and hidden_sizes {hidden_sizes} must all be 1 or "
            "more, and there must be at least one hidden layer"
        )
    if hidden_act not in ACT2FN:
        raise InputError(f"unknown hidden_act '{hidden_act}'; accepted: {', '.join(sorted(ACT2FN))}")

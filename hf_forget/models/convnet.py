"""A small convolutional net with batch norm, for images of 28 × 28 or 32 × 32 pixels."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import ImageClassifierOutput

from ..errors import InputError
from .mlp import check_sizes, classified, keep_torch_init


class ConvNetConfig(PreTrainedConfig):
    """Configuration of [`ConvNetForImageClassification`].

    Args:
        image_size (`int`, defaults to 28): Height and width of an image.
        num_channels (`int`, defaults to 1): Its channels.
        hidden_sizes (`list[int]`, defaults to `[16, 32, 64]`): Channels of each convolution; the image is halved
            behind each.
        hidden_act (`str`, defaults to `"relu"`): Activation function, by its name in `transformers`.

    Raises:
        InputError: If a size is below 1, the activation is unknown, or the image is too small for so many layers.
    """

    model_type = "hf_forget_convnet"

    image_size: int = 28
    num_channels: int = 1
    hidden_sizes: list[int] | tuple[int, ...] = (16, 32, 64)
    hidden_act: str = "relu"

    def __post_init__(self, **kwargs: Any) -> None:
        self.hidden_sizes = list(self.hidden_sizes)
        check_sizes(self.image_size, self.num_channels, self.hidden_sizes, self.hidden_act)
        if self.image_size >> len(self.hidden_sizes) < 1:
            raise InputError(
                f"image_size {self.image_size} is too small to be halved {len(self.hidden_sizes)} times; give fewer "
                "hidden_sizes"
            )
        super().__post_init__(**kwargs)


class ConvNetForImageClassification(PreTrainedModel):
    """Convolution, batch norm, activation and max pooling, repeated; then one linear layer.

    Example:
        >>> model = ConvNetForImageClassification(ConvNetConfig(num_labels=10))
        >>> model(pixel_values=torch.zeros(2, 1, 28, 28)).logits.shape
        torch.Size([2, 10])
    """

    config_class = ConvNetConfig
    main_input_name = "pixel_values"

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__(config)
        channels = [config.num_channels, *config.hidden_sizes]
        self.convolutions = nn.ModuleList(
            # The shift of the batch norm behind it does what a bias would do.
            nn.Conv2d(*pair, kernel_size=3, padding=1, bias=False)
            for pair in zip(channels, channels[1:], strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in config.hidden_sizes)
        self.activation = ACT2FN[config.hidden_act]
        side = config.image_size >> len(config.hidden_sizes)
        self.classifier = nn.Linear(channels[-1] * side**2, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        keep_torch_init(module)

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs: Any
    ) -> ImageClassifierOutput:
        """Return the logits, shape `(n, num_labels)`, and with `labels` the mean cross-entropy."""
        hidden = pixel_values
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            hidden = nn.functional.max_pool2d(self.activation(norm(convolution(hidden))), 2)
        return classified(self.classifier(hidden.flatten(1)), labels)

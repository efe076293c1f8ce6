"""Small random classifiers of every kind that is merged, each with inputs."""

import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from hf_forget.models import ConvNetConfig, MLPConfig
from hf_forget.models.convnet import ConvNetForImageClassification
from hf_forget.models.mlp import MLPForImageClassification


def mlp(widths):
    config = MLPConfig(image_size=6, hidden_sizes=widths, hidden_act="relu", num_labels=3)
    return MLPForImageClassification(config), torch.randn(3, 1, 6, 6)


def convnet(widths):
    config = ConvNetConfig(image_size=8, hidden_sizes=widths[:3], num_labels=3)
    return settled(ConvNetForImageClassification(config)), torch.randn(3, 1, 8, 8)


def resnet(widths, kind):
    config = ResNetConfig(
        num_channels=3,
        embedding_size=widths[0],
        hidden_sizes=widths,
        depths=[2] * len(widths),
        layer_type=kind,
        num_labels=3,
    )
    return settled(ResNetForImageClassification(config)), torch.randn(3, 3, 32, 32)


def vit(widths, heads):
    config = ViTConfig(
        hidden_size=8 * heads,
        num_attention_heads=heads,
        intermediate_size=widths[0],
        num_hidden_layers=len(widths),
        image_size=8,
        patch_size=4,
        num_labels=3,
    )
    return ViTForImageClassification(config), torch.randn(3, 3, 8, 8)


def settled(model):
    """Give batch norms statistics and scales of their own, so that a unit is not like another."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.running_mean, module.running_var, module.weight, module.bias):
                value.data.uniform_(0.5, 1.5)
    return model

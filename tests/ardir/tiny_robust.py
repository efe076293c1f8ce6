"""Small classifiers and images on which robust training is tried."""

import torch
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from hf_forget import ARDIRConfig, ARDIRTrainer
from hf_forget.models import ConvNetConfig
from hf_forget.models.convnet import ConvNetForImageClassification

CLASSES = 3


def convnet(widths=(4, 8), seed=0):
    torch.manual_seed(seed)
    config = ConvNetConfig(image_size=8, hidden_sizes=list(widths), num_labels=CLASSES)
    return ConvNetForImageClassification(config)


def resnet(seed=0):
    torch.manual_seed(seed)
    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )
    return ResNetForImageClassification(config)


def vit(seed=0, width=16):
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=width,
        num_attention_heads=2,
        intermediate_size=16,
        num_hidden_layers=2,
        image_size=8,
        patch_size=4,
        num_channels=1,
        num_labels=CLASSES,
    )
    return ViTForImageClassification(config)


MODELS = {"convnet": convnet, "resnet": resnet, "vit": vit}


def rows(count=48, seed=0):
    """Noisy pictures of three kinds."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    kinds = torch.rand(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(7)).round()
    pixels = (kinds[labels] * 0.8 + 0.1 + 0.1 * torch.randn(count, 1, 8, 8, generator=generator)).clamp(0, 1)
    return [{"pixel_values": image, "labels": int(label)} for image, label in zip(pixels, labels, strict=True)]


def config(folder, **options):
    given = {
        "output_dir": str(folder),
        "epsilon": 0.1,
        "attack_steps": 2,
        "eval_attack_steps": 3,
        "per_device_train_batch_size": 16,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }
    return ARDIRConfig(**(given | options))


def trainer_for(student, folder, teacher=None, *, data=None, **options):
    given = {name: options.pop(name) for name in ("peft_config", "processing_class") if name in options}
    return ARDIRTrainer(
        student,
        config(folder, **options),
        train_dataset=rows() if data is None else data,
        eval_dataset=rows(24, seed=1),
        teacher_model=teacher,
        **given,
    )

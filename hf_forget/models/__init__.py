"""The small nets of the papers, registered with `transformers`.

After `import hf_forget.models`, `AutoConfig` and `AutoModelForImageClassification` load their checkpoints.
"""

from transformers import AutoConfig, AutoModelForImageClassification

from .convnet import ConvNetConfig, ConvNetForImageClassification
from .mlp import MLPConfig, MLPForImageClassification

__all__ = ["ConvNetConfig", "ConvNetForImageClassification", "MLPConfig", "MLPForImageClassification"]

AutoConfig.register(MLPConfig.model_type, MLPConfig, exist_ok=True)
AutoConfig.register(ConvNetConfig.model_type, ConvNetConfig, exist_ok=True)
AutoModelForImageClassification.register(MLPConfig, MLPForImageClassification, exist_ok=True)
AutoModelForImageClassification.register(ConvNetConfig, ConvNetForImageClassification, exist_ok=True)

"""Every option of `ARDIRTrainer`."""

from dataclasses import dataclass, field

from transformers import TrainingArguments

from ..errors import InputError, unknown
from ..evidence.adversarial import check_epsilon
from ..trainer import supports_bf16
from .objectives import get_objective

DISTANCES = ("mse", "cosine")


@dataclass
class ARDIRConfig(TrainingArguments):
    """Arguments of [`ARDIRTrainer`], on top of `transformers.TrainingArguments`.

    Args:
        objective (`str`, defaults to `"ardir"`): `ardir`, `at`, `trades`, `ard`, `rslad` or `iad`.
        epsilon (`float`, defaults to `8/255`): Largest change of a pixel, in [0, 1].
        attack_steps (`int`, defaults to `10`): Steps of the attack that is trained against.
        attack_step_size (`float`, *optional*): Size of a step, in [0, 1]; `2.5·ε/steps` if not given.
        representation_weight (`float`, defaults to `1.0`): λ of `ardir`; 0 leaves the representation out.
        representation_layer (`str`, defaults to `"penultimate"`): Layer of the student: the name of a module, or what
            the last linear layer reads.
        teacher_layer (`str`, *optional*): That of the teacher; of the same name if not given.
        representation_distance (`str`, defaults to `"mse"`): `mse`, a mean over features, or `cosine`.
        project_representation (`bool`, defaults to `False`): Learn a linear map from the student's representation to
            the teacher's, for models of different widths. It is not part of the model that is saved.
        temperature (`float`, defaults to `1.0`): Of the outputs that `ardir` compares.
        label_weight (`float`, defaults to `0.0`): Weight of the cross-entropy with the label, in `ardir`.
        trades_weight (`float`, defaults to `6.0`): β of `trades`.
        ard_weight (`float`, defaults to `0.9`): α of `ard`.
        ard_temperature (`float`, defaults to `5.0`): T of `ard`.
        iad_trust (`float`, defaults to `0.1`): β of `iad`: how much the teacher's own failures lower its word.
        cache_teacher (`bool`, defaults to `True`): Ask the teacher about each training image once. Refused where an
            image looks different the second time, as augmentation makes it; then it must be `False`.
        ema_decay (`float`, defaults to `0.0`): Weights are averaged over steps with this decay, and the average is what
            is evaluated and saved; 0 does without.
        eval_attack_steps (`int`, defaults to `20`): Steps of the attack in `evaluate()`.
        eval_attack_restarts (`int`, defaults to `1`): How often it begins anew.

    Raises:
        InputError: If a value is out of range; the message says what is accepted.
    """

    output_dir: str | None = field(default=None, metadata={"help": "Where the robust model goes."})
    objective: str = field(default="ardir", metadata={"help": "ardir, at, trades, ard, rslad or iad."})
    epsilon: float = field(default=8 / 255, metadata={"help": "Largest change of a pixel, in [0, 1]."})
    attack_steps: int = field(default=10, metadata={"help": "Steps of the attack that is trained against."})
    attack_step_size: float | None = field(default=None, metadata={"help": "Size of a step; 2.5 ε/steps if not given."})
    representation_weight: float = field(default=1.0, metadata={"help": "Weight of the representation (λ)."})
    representation_layer: str = field(
        default="penultimate", metadata={"help": "Layer of the student: penultimate, or the name of a module."}
    )
    teacher_layer: str | None = field(default=None, metadata={"help": "That of the teacher, if it has another name."})
    representation_distance: str = field(default="mse", metadata={"help": "mse or cosine."})
    project_representation: bool = field(
        default=False, metadata={"help": "Learn a linear map between representations of different widths."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Temperature of the outputs in ardir."})
    label_weight: float = field(default=0.0, metadata={"help": "Weight of the label's cross-entropy in ardir."})
    trades_weight: float = field(default=6.0, metadata={"help": "β of trades."})
    ard_weight: float = field(default=0.9, metadata={"help": "α of ard."})
    ard_temperature: float = field(default=5.0, metadata={"help": "Temperature of ard."})
    iad_trust: float = field(default=0.1, metadata={"help": "β of iad."})
    cache_teacher: bool = field(
        default=True, metadata={"help": "Ask the teacher once about each image; not with augmentation."}
    )
    ema_decay: float = field(default=0.0, metadata={"help": "Decay of the average of weights; 0 for none."})
    eval_attack_steps: int = field(default=20, metadata={"help": "Steps of the attack in evaluate()."})
    eval_attack_restarts: int = field(default=1, metadata={"help": "How often that attack begins anew."})
    bf16: bool | None = field(
        default=None, metadata={"help": "bf16 autocast; if not given, on where a GPU makes it fast."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    per_device_train_batch_size: int = field(default=128, metadata={"help": "Images per step and device."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Images per step of evaluate()."})
    num_train_epochs: float = field(default=15, metadata={"help": "Epochs."})
    lr_scheduler_type: str = field(default="linear", metadata={"help": "Learning rate schedule."})
    logging_steps: float = field(default=50, metadata={"help": "Steps between two log lines."})
    save_strategy: str = field(default="epoch", metadata={"help": "When checkpoints are written."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept."})
    report_to: str | list[str] | None = field(default="none", metadata={"help": "Where metrics are reported."})

    @property
    def uses_representation(self) -> bool:
        """Whether the loss looks at inner representations."""
        return self.objective == "ardir" and self.representation_weight > 0

    def __post_init__(self) -> None:
        if self.bf16 is None:
            import torch

            # Small nets gain nothing from it on a CPU.
            self.bf16 = not self.fp16 and torch.cuda.is_available() and supports_bf16()
        get_objective(self.objective)
        check_epsilon(self.epsilon)
        if self.representation_distance not in DISTANCES:
            raise InputError(unknown("representation_distance", self.representation_distance, DISTANCES))
        for name in ("attack_steps", "eval_attack_steps", "eval_attack_restarts"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("representation_weight", "label_weight", "trades_weight", "iad_trust"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("temperature", "ard_temperature"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.attack_step_size is not None and self.attack_step_size <= 0:
            raise InputError(f"attack_step_size is {self.attack_step_size}; it must be above 0")
        for name, most in (("ard_weight", 1.0), ("ema_decay", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"{name} is {getattr(self, name)}; it must lie between 0 and {most:g}")
        if self.ema_decay == 1:
            raise InputError("ema_decay is 1, which never learns; give less, such as 0.999")
        super().__post_init__()

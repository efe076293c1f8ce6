"""The options that all methods that unlearn a concept share."""

from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from transformers import TrainingArguments

from ...data.banks import CONCEPT_TYPES
from ...errors import InputError, unknown
from ...trainer import supports_bf16
from ..objectives import get_objective


@dataclass
class UnlearningConfig(TrainingArguments):
    """Arguments of every trainer that unlearns a concept, on top of `transformers.TrainingArguments`.

    A batch holds `per_device_train_batch_size` forget rows and `retain_per_forget` times as many retain rows.

    Args:
        concept (`str`, *optional*): The name that must go.
        aliases (`list[str]`, *optional*): Other names of it.
        concept_type (`str`, *optional*): `person`, `place`, `work`, `event`, `organization` or `thing`; asked from
            the model when not given.
        knowledge_graph (`str`, *optional*): A `KnowledgeGraph` JSON to use instead of eliciting one.
        objective (`str`, defaults to `"margin_unlikelihood"`): Forget objective, see `hf_forget.lm.objectives`.
        beta (`float`, *optional*): Margin or temperature of the objective; its own default when not given.
        edge_weight, node_weight, explanation_weight (`float`): λ_E, λ_N and λ_X of the paper's loss; 0 leaves the rows
            out.
        edge_share, node_share, explanation_share (`float`): How often rows of each kind come up among the forget rows,
            relative to each other.
        representation_weight (`float`, defaults to `1.0`): Weight of the distance of hidden states in rows that are
            compared with the original model, beside their divergence of outputs; 0 leaves it out.
        representation_layers (`list[int]`, *optional*): Decoder layers in which hidden states are compared; every
            quarter of the depth and the last but one when not given.
        trained_layers (`list[int]`, *optional*): Decoder layers that are trained, or whose adapters are; all weights
            when not given.
        steering_layer (`int`, *optional*): Decoder layer whose hidden states objective `rmu` leads astray; about a
            third of the depth when not given. It trains the MLP outputs of this layer and of the two before it, unless
            `trained_layers` says otherwise.
        retain_weight (`float`, defaults to `3.0`): α, weight of the retain term.
        retain_loss (`str`, defaults to `"kl"`): `kl` to the original model, or `nll`.
        retain_per_forget (`float`, defaults to `1.25`): Retain rows that go with each forget row.
        retain_rows (`int`, defaults to `170`): Retain rows that the model makes for itself, or that are read of a
            streaming `retain_dataset`.
        retain_text_share (`float`, defaults to `0.04`): Share of general text among the rows that the model makes.
        retain_text_words (`int`, defaults to `12`): Words of each of these texts, and of a reply to an instruction, at
            most.
        elicitation_samples (`int`, defaults to `16`): Continuations sampled per free prompt while eliciting.
        explanation_samples (`int`, defaults to `1`): Explanatory paragraphs that the model writes per prompt.
        use_all_facts (`bool`, defaults to `False`): Train on every relation and make no held-out claim.
        held_out_share (`float`, defaults to `0.5`): Share of the relations kept for probing where no curated probe
            file says which.
        force (`bool`, defaults to `False`): Go on although the model knows nothing about the name.
        row_length (`int`, defaults to `128`): Rows are cut to this many tokens.
        stop_forget_probability (`float`, defaults to `0.0`): Training ends early once the mean probability of the
            validation answers is at most this, twice in a row, and nothing has collapsed; 0 never ends it early.
        max_retain_kl (`float`, defaults to `0.5`): Collapse band: divergence from the original model on untrained
            retain rows, in nats per token, above which a checkpoint counts as worse.

    Raises:
        InputError: If a value is out of range; the message says what is accepted.
    """

    output_dir: str | None = field(default=None, metadata={"help": "Where the edited model goes."})
    concept: str | None = field(default=None, metadata={"help": "The name that must go."})
    aliases: list[str] | None = field(default=None, metadata={"help": "Other names of the concept."})
    concept_type: str | None = field(
        default=None, metadata={"help": f"One of {', '.join(CONCEPT_TYPES)}; asked from the model if not given."}
    )
    knowledge_graph: str | None = field(
        default=None, metadata={"help": "A knowledge graph JSON to use instead of eliciting one."}
    )
    objective: str = field(default="margin_unlikelihood", metadata={"help": "Forget objective."})
    beta: float | None = field(default=None, metadata={"help": "Margin or temperature of the objective."})
    edge_weight: float = field(default=1.0, metadata={"help": "Weight of edge rows (λ_E)."})
    node_weight: float = field(default=1.0, metadata={"help": "Weight of node rows (λ_N)."})
    explanation_weight: float = field(default=0.3, metadata={"help": "Weight of explanation rows (λ_X)."})
    representation_weight: float = field(
        default=1.0, metadata={"help": "Weight of the distance of hidden states in compared rows."}
    )
    representation_layers: list[int] | None = field(
        default=None, metadata={"help": "Decoder layers in which hidden states are compared."}
    )
    edge_share: float = field(default=1.0, metadata={"help": "How often edge rows come up, relative to the others."})
    node_share: float = field(default=4.0, metadata={"help": "How often node rows come up."})
    explanation_share: float = field(default=0.5, metadata={"help": "How often explanation rows come up."})
    trained_layers: list[int] | None = field(
        default=None, metadata={"help": "Decoder layers that are trained, or whose adapters are; all if not given."}
    )
    steering_layer: int | None = field(
        default=None, metadata={"help": "Decoder layer of objective rmu; a third of the depth if not given."}
    )
    retain_weight: float = field(default=3.0, metadata={"help": "Weight of the retain term (α)."})
    retain_loss: Literal["kl", "nll"] = field(
        default="kl", metadata={"help": "Retain term: kl to the original model, or nll."}
    )
    retain_per_forget: float = field(default=1.25, metadata={"help": "Retain rows that go with each forget row."})
    retain_rows: int = field(
        default=170, metadata={"help": "Retain rows that the model makes for itself, or that are read of a stream."}
    )
    retain_text_share: float = field(default=0.04, metadata={"help": "Share of general text among these rows."})
    retain_text_words: int = field(default=12, metadata={"help": "Words of each of these texts, at most."})
    elicitation_samples: int = field(
        default=16, metadata={"help": "Continuations sampled per free prompt while eliciting."}
    )
    explanation_samples: int = field(
        default=1, metadata={"help": "Explanatory paragraphs that the model writes per prompt."}
    )
    use_all_facts: bool = field(default=False, metadata={"help": "Train on every relation and make no held-out claim."})
    held_out_share: float = field(
        default=0.5, metadata={"help": "Share of relations kept for probing where no curated probes say which."}
    )
    force: bool = field(default=False, metadata={"help": "Go on although the model knows nothing about the name."})
    row_length: int = field(default=128, metadata={"help": "Rows are cut to this many tokens."})
    stop_forget_probability: float = field(
        default=0.0, metadata={"help": "End training once validation answers are at most this probable."}
    )
    max_retain_kl: float = field(
        default=0.5, metadata={"help": "Divergence on retain rows above which a checkpoint counts as worse."}
    )
    bf16: bool | None = field(
        default=None, metadata={"help": "bf16 autocast; if not given, on where the hardware makes it fast."}
    )
    learning_rate: float = field(default=5e-5, metadata={"help": "Peak learning rate."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Forget rows per step and device."})
    max_steps: int = field(default=26, metadata={"help": "Number of optimizer steps."})
    weight_decay: float = field(default=0.0, metadata={"help": "Weight decay."})
    lr_scheduler_type: str = field(default="linear", metadata={"help": "Learning rate schedule."})
    warmup_steps: float = field(default=2, metadata={"help": "Steps, or share of steps, of linear warm-up."})
    optim: str = field(default="adamw_torch_fused", metadata={"help": "Optimizer."})
    logging_steps: float = field(default=5, metadata={"help": "Steps between two log lines."})
    save_strategy: str = field(default="steps", metadata={"help": "When checkpoints are written."})
    save_steps: float = field(default=13, metadata={"help": "Steps between two checkpoints."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept."})
    report_to: str | list[str] | None = field(default="none", metadata={"help": "Where metrics are reported."})

    def __post_init__(self) -> None:
        if self.bf16 is None:
            self.bf16 = not self.fp16 and supports_bf16()
        # transformers admits bf16 without a GPU only where the CPU is asked for by name.
        self.use_cpu = bool(getattr(self, "use_cpu", False)) or bool(self.bf16 and not torch.cuda.is_available())
        self._check_names()
        self._check_numbers()
        super().__post_init__()

    def _check_names(self) -> None:
        if self.concept is not None and not str(self.concept).strip():
            raise InputError("concept is empty; give the name that must go, for example concept: Isaac Newton")
        if self.concept_type is not None and self.concept_type not in CONCEPT_TYPES:
            raise InputError(unknown("concept_type", self.concept_type, CONCEPT_TYPES))
        if self.retain_loss not in ("kl", "nll"):
            raise InputError(unknown("retain_loss", self.retain_loss, ("kl", "nll")))
        get_objective(self.objective)

    def _check_numbers(self) -> None:
        weights = [item.name for item in fields(self) if item.name.endswith("_weight")]
        for name in weights:
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must not be negative")
        shares = (name.replace("_weight", "_share") for name in weights)
        for name in (name for name in shares if hasattr(self, name)):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0, or set the weight to 0")
        for name in ("retain_per_forget", "retain_rows"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more")
        for name in ("retain_text_words", "elicitation_samples", "explanation_samples", "row_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.beta is not None and self.beta <= 0:
            raise InputError(f"beta is {self.beta}; it must be above 0")
        for name in ("retain_text_share", "held_out_share", "stop_forget_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")

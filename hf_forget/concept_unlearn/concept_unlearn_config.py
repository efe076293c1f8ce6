"""Every option of `ConceptUnlearnTrainer`."""

from dataclasses import dataclass, field

from ..lm.unlearning.unlearning_config import UnlearningConfig


@dataclass
class ConceptUnlearnConfig(UnlearningConfig):
    """Arguments of [`ConceptUnlearnTrainer`], on top of
    [`~hf_forget.lm.unlearning.unlearning_config.UnlearningConfig`].

    Args:
        replacement_weight (`float`, defaults to `3.0`): λ_S, weight of rows that pull the answers about the concept
            towards those about invented names; 0 leaves them out.
        reply_weight (`float`, defaults to `1.0`): Weight of rows that answer about the concept in whole sentences, as
            the model does about invented names; 0 leaves them out. Chat models only.
        replacement_share, reply_share (`float`): How often rows of these kinds come up among the forget rows.
        edit_weight (`float`, defaults to `20.0`): How much the name counts against one token of other text in the
            closed-form edit before training; 0 leaves the edit out. Adapters are trained without it.
        edit_layers (`list[int]`, *optional*): Decoder layers of that edit; all between a fifteenth and a quarter of
            the depth when not given.

    Raises:
        InputError: If a value is out of range; the message says what is accepted.
    """

    replacement_weight: float = field(default=3.0, metadata={"help": "Weight of replacement rows (λ_S)."})
    reply_weight: float = field(
        default=1.0, metadata={"help": "Weight of reply rows (λ_P), which answer in sentences."}
    )
    replacement_share: float = field(default=4.0, metadata={"help": "How often replacement rows come up."})
    reply_share: float = field(default=1.0, metadata={"help": "How often reply rows come up."})
    edit_weight: float = field(
        default=20.0, metadata={"help": "How much the name counts in the closed-form edit before training; 0: no edit."}
    )
    edit_layers: list[int] | None = field(default=None, metadata={"help": "Decoder layers of the closed-form edit."})

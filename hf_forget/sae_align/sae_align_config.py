"""Every option of `SAEAlignTrainer`."""

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError, unknown
from ..lm.unlearning.unlearning_config import UnlearningConfig

POSITIONS = ("name", "entity", "answer")
DISTANCE_NAMES = ("energy", "mmd", "mean")


@dataclass
class SAEAlignConfig(UnlearningConfig):
    """Arguments of [`SAEAlignTrainer`], on top of [`~hf_forget.lm.unlearning.unlearning_config.UnlearningConfig`].

    Args:
        sae (`list[str]`, *optional*): Sparse autoencoders that read the model's residual stream: folders, or
            `release:id` of published ones. One is trained on WordNet and kept in the cache if none is given.
        sae_layer (`int`, *optional*): Decoder layer of the one that is trained; two fifths of the depth when not
            given.
        known_entities, unknown_entities (`str`, *optional*): Text files with one name a line, 8 or more. Found by
            asking the model, and made from the parts of known names, when not given.
        alignment_weight (`float`, defaults to `1.0`): Weight of the alignment loss.
        alignment_share (`float`, defaults to `2.0`): How often texts for alignment come up among the forget rows.
        alignment_texts (`int`, defaults to `96`): Texts about the target, at most.
        margin (`float`, defaults to `1.0`): By how much the target shall be nearer to unknown than to known entities,
            in units of the distance of these from each other.
        distance (`str`, defaults to `"energy"`): `energy`, `mmd` or `mean`.
        num_latents (`int`, defaults to `4096`): Latents that are compared, at most: those that tell known from unknown.
        positions (`list[str]`, *optional*): Where: `name`, all of its tokens, `entity`, the last one, and `answer`, the
            end of the text; all three when not given.
        entities_per_text (`int`, defaults to `8`): Known, and unknown, entities that stand in each text.
        within_texts (`bool`, defaults to `False`): Take out what the text alone makes of a state, the mean over unknown
            entities, before entities are compared.
        edge_weight, node_weight, explanation_weight (`float`, default to `0.0`): Weights of the rows of concept
            unlearning; above 0 they are forgotten beside the alignment.
        retain_weight (`float`, defaults to `5.0`): α, weight of the retain term.
        retain_rows (`int`, defaults to `400`): Retain rows that the model makes for itself, or that are read of a
            streaming `retain_dataset`.
        learning_rate (`float`, defaults to `1e-4`): Peak learning rate.

    Raises:
        InputError: If a value is out of range; the message says what is accepted.
    """

    sae: list[str] | None = field(
        default=None, metadata={"help": "Folders or release:id of SAEs; one is trained if none is given."}
    )
    sae_layer: int | None = field(default=None, metadata={"help": "Decoder layer of the SAE that is trained."})
    known_entities: str | None = field(default=None, metadata={"help": "File with one known name a line."})
    unknown_entities: str | None = field(default=None, metadata={"help": "File with one unknown name a line."})
    alignment_weight: float = field(default=1.0, metadata={"help": "Weight of the alignment loss."})
    alignment_share: float = field(default=2.0, metadata={"help": "How often texts for alignment come up."})
    alignment_texts: int = field(default=96, metadata={"help": "Texts about the target, at most."})
    margin: float = field(default=1.0, metadata={"help": "By how much nearer to unknown than to known entities."})
    distance: str = field(default="energy", metadata={"help": f"One of {', '.join(DISTANCE_NAMES)}."})
    num_latents: int = field(default=4096, metadata={"help": "Latents that are compared."})
    positions: list[str] | None = field(default=None, metadata={"help": "name, entity, answer; all if not given."})
    entities_per_text: int = field(default=8, metadata={"help": "Known, and unknown, entities in each text."})
    within_texts: bool = field(default=False, metadata={"help": "Compare entities within each text."})
    edge_weight: float = field(default=0.0, metadata={"help": "Weight of edge rows (λ_E)."})
    node_weight: float = field(default=0.0, metadata={"help": "Weight of node rows (λ_N)."})
    explanation_weight: float = field(default=0.0, metadata={"help": "Weight of explanation rows (λ_X)."})
    node_share: float = field(default=1.0, metadata={"help": "How often node rows come up."})
    retain_weight: float = field(default=5.0, metadata={"help": "Weight of the retain term (α)."})
    retain_rows: int = field(default=400, metadata={"help": "Retain rows that the model makes for itself."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate."})
    max_steps: int = field(default=45, metadata={"help": "Number of optimizer steps."})

    @property
    def position_indices(self) -> list[int]:
        """The positions as [`~hf_forget.sae_align.latent_alignment.EntityLatents`] counts them."""
        return [POSITIONS.index(name) for name in (self.positions or POSITIONS)]

    def _check_names(self) -> None:
        super()._check_names()
        for name in self.positions or ():
            if name not in POSITIONS:
                raise InputError(unknown("position", name, POSITIONS))
        if self.distance not in DISTANCE_NAMES:
            raise InputError(unknown("distance", self.distance, DISTANCE_NAMES))
        for item in self.sae or ():
            if ":" not in item and not Path(item).expanduser().is_dir():
                raise InputError(f"sae names '{item}', which is neither a folder nor 'release:id'")
        if (self.known_entities is None) != (self.unknown_entities is None):
            raise InputError("known_entities and unknown_entities go together; give both, or neither")

    def _check_numbers(self) -> None:
        super()._check_numbers()
        for name, least in (("alignment_texts", 2), ("num_latents", 2), ("entities_per_text", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; give {least} or more")
        if self.margin < 0:
            raise InputError(f"margin is {self.margin}; it must not be negative")
        if self.sae is not None and not self.sae:
            raise InputError("sae is empty; name at least one SAE, or leave the key out")

"""The options of measuring adversarial robustness."""

from dataclasses import dataclass, field

from ..errors import InputError, unknown

AUTO_ATTACKS = ("apgd-ce", "apgd-t", "apgd-dlr", "fab", "fab-t", "square")


@dataclass
class RobustnessOptions:
    """How robustness is measured. Images are the first ones of the test set, the same for every model.

    Args:
        pgd_images (`int`, defaults to `1000`): Images that PGD attacks.
        pgd_steps (`int`, defaults to `20`): Its steps.
        pgd_restarts (`int`, defaults to `2`): How often it begins anew.
        auto_attacks (`list[str]`, *optional*): Parts of AutoAttack, one after another on what is left: `apgd-ce` and
            `apgd-t` if not given; with `fab-t` and `square` behind them it is the standard AutoAttack. An empty list
            leaves it out.
        auto_images (`int`, defaults to `500`): Images that it attacks.
        square_images (`int`, defaults to `100`): Images that the Square attack attacks alone, without gradients; 0
            leaves it out.
        square_queries (`int`, defaults to `1000`): How often it may ask about an image.
        curve_points (`int`, defaults to `5`): Values of ε, up to twice the model's, for the curve; 0 leaves it out.
        robustness_batch_size (`int`, defaults to `250`): Images per batch.
        robustness_seed (`int`, defaults to `0`): Where attacks begin.
        publish_target (`bool`, defaults to `True`): Nothing is hidden in a robust model.

    Raises:
        InputError: If a value is out of range, or an attack is unknown.
    """

    pgd_images: int = field(default=1000, metadata={"help": "Images that PGD attacks."})
    pgd_steps: int = field(default=20, metadata={"help": "Steps of PGD."})
    pgd_restarts: int = field(default=2, metadata={"help": "How often PGD begins anew."})
    auto_attacks: list[str] | None = field(
        default=None, metadata={"help": "Parts of AutoAttack; apgd-ce and apgd-t if not given."}
    )
    auto_images: int = field(default=500, metadata={"help": "Images that AutoAttack attacks."})
    square_images: int = field(default=100, metadata={"help": "Images that the Square attack attacks; 0 for none."})
    square_queries: int = field(default=1000, metadata={"help": "How often it may ask about an image."})
    curve_points: int = field(default=5, metadata={"help": "Values of ε for the curve; 0 for none."})
    robustness_batch_size: int = field(default=250, metadata={"help": "Images per batch while measuring."})
    robustness_seed: int = field(default=0, metadata={"help": "Where attacks begin."})
    publish_target: bool = field(default=True, metadata={"help": "Nothing is hidden in a robust model."})

    @property
    def evidence_seed(self) -> int:
        """The seed of measuring, as every method's evidence has it."""
        return self.robustness_seed

    @property
    def attacks(self) -> list[str]:
        """The parts of AutoAttack that are run."""
        return ["apgd-ce", "apgd-t"] if self.auto_attacks is None else list(self.auto_attacks)

    def __post_init__(self) -> None:
        for name in self.attacks:
            if name not in AUTO_ATTACKS:
                raise InputError(unknown("attack in auto_attacks", name, AUTO_ATTACKS))
        least = {"square_images": 0, "curve_points": 0, "robustness_seed": 0}
        for name in (
            "pgd_images",
            "pgd_steps",
            "pgd_restarts",
            "auto_images",
            "square_images",
            "square_queries",
            "curve_points",
            "robustness_batch_size",
            "robustness_seed",
        ):
            if getattr(self, name) < least.get(name, 1):
                raise InputError(f"{name} is {getattr(self, name)}; give {least.get(name, 1)} or more")

"""The options of measuring, shared by every language-model method and by `evaluate` and `attack`."""

from dataclasses import dataclass, field
from typing import Literal

from ..errors import InputError, unknown

COUNTED_ATTACKS = ("quantize", "prompt")
# Reported beside the verdict.
FURTHER_ATTACKS = ("relearn",)


@dataclass
class EvidenceOptions:
    """How forgetting is measured.

    Args:
        probes (`str`, *optional*): File of the user's own probes, one JSON object per line. Otherwise the curated
            probes of the concept are used, or, where there are none, probes made from what the model itself says.
        prompt_formats (`list[str]`, *optional*): Formats in which every question is put; those that suit the
            tokenizer if not given.
        sham (`str`, defaults to `"auto"`): Whether the same recipe on an invented name is reported beside the result:
            `yes` trains it unless cached, `auto` uses it when cached, `no` leaves it out.
        sampled_answers (`int`, defaults to `8`): Answers drawn at temperature 1 per question for the sampled recall.
        attacks (`list[str]`, defaults to `["quantize", "prompt"]`): Attacks that are run. The verdict needs these two;
            one that is left out counts as not run, never as passed. `relearn` is reported beside it.
        evidence_batch_size (`int`, defaults to `96`): Questions per batch.
        max_forget_rows (`int`, *optional*): At most so many forget questions, chosen by `evidence_seed`.
        max_retain_rows (`int`, *optional*, defaults to `420`): At most so many retain questions, all if none; fewer
            than 300 give no verdict.
        evidence_seed (`int`, defaults to `0`): Seed of sampling and of the choice of rows.
        publish_target (`bool`, defaults to `False`): Name the target in the files that may be published; otherwise it
            is described by its type.

    Raises:
        InputError: If a value is out of range or unknown.
    """

    probes: str | None = field(
        default=None, metadata={"help": "File of your own probes, one JSON object per line; curated ones otherwise."}
    )
    prompt_formats: list[str] | None = field(
        default=None,
        metadata={"help": "Formats in which every question is put; those that suit the tokenizer if unset."},
    )
    sham: Literal["auto", "yes", "no"] = field(
        default="auto",
        metadata={"help": "Report the same recipe on an invented name: yes trains it, auto uses it when cached."},
    )
    sampled_answers: int = field(
        default=8, metadata={"help": "Answers drawn at temperature 1 per question for the sampled recall."}
    )
    attacks: list[str] = field(
        default_factory=lambda: list(COUNTED_ATTACKS),
        metadata={"help": "Attacks that are run: quantize and prompt, which the verdict needs, and relearn."},
    )
    evidence_batch_size: int = field(default=96, metadata={"help": "Questions per batch while measuring."})
    max_forget_rows: int | None = field(default=None, metadata={"help": "At most so many forget questions."})
    max_retain_rows: int | None = field(
        default=420, metadata={"help": "At most so many retain questions; fewer than 300 give no verdict."}
    )
    evidence_seed: int = field(default=0, metadata={"help": "Seed of sampling and of the choice of rows."})
    publish_target: bool = field(
        default=False, metadata={"help": "Name the target in the files that may be published."}
    )

    def __post_init__(self) -> None:
        if self.sham not in ("auto", "yes", "no"):
            raise InputError(f"sham is '{self.sham}'; accepted: auto, yes, no.")
        for name in ("sampled_answers", "evidence_batch_size", "max_forget_rows", "max_retain_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be 1 or more, got {value}.")
        if self.evidence_seed < 0:
            raise InputError(f"evidence_seed must be 0 or more, got {self.evidence_seed}.")
        if self.probes is not None and not self.probes.strip():
            raise InputError("probes is empty; give the path of a probe file or leave the key out.")
        for attack in self.attacks:
            if attack not in (available := (*COUNTED_ATTACKS, *FURTHER_ATTACKS)):
                raise InputError(unknown("attack in attacks", attack, available))
        for name in ("attacks", "prompt_formats"):
            values = getattr(self, name)
            if values is not None and len(set(values)) < len(values):
                raise InputError(f"{name} names one twice: {', '.join(values)}.")
        if self.prompt_formats is not None and not self.prompt_formats:
            raise InputError("prompt_formats is empty; name at least one format or leave the key out.")

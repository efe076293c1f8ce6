"""Training rows: a prompt, a completion that carries the loss, and how rows become batches."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch.utils.data import Dataset, Sampler

from ..errors import InputError
from .prefix import find_prefixes, shared_prefix_length

IGNORE_INDEX = -100
KEPT_KINDS = frozenset(("retain", "replacement", "reply", "refusal", "context", "alignment"))
REFUSALS = (
    "I don't know.",
    "I have no information about that.",
    "I'm not sure.",
    "That is not something I know.",
    "I can't say.",
    "I have never heard of it.",
    "I'm unable to answer that.",
    "Sorry, I don't know that.",
)


@dataclass(frozen=True)
class Row:
    """One row for training.

    Args:
        prompt: Text that carries no loss; may be empty.
        completion: Text that carries the loss, leading space included.
        kind: `edge`, `node` and `explanation` rows are forgotten; `replacement` rows are pulled towards what the
            original model says after `reference_prompt`; `reply` rows are learnt as they are; `retain` rows are kept;
            `refusal` rows stand beside a row that is forgotten; `context` rows are not trained, they say where a
            closed-form edit must change nothing; in `alignment` rows hidden states at the end of the prompt and of the
            row are compared with those of other entities.
        question: The bare question, for filtering.
        relation: The relation that it belongs to, where there is one.
        reference_prompt: What the original model reads instead of `prompt`; the same if empty.
    """

    prompt: str
    completion: str
    kind: str = "edge"
    question: str = ""
    relation: str = ""
    reference_prompt: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return a JSON-able form."""
        return asdict(self)

    @property
    def is_forgotten(self) -> bool:
        """Whether the objective applies to it; so it does to kinds that only the user knows."""
        return self.kind not in KEPT_KINDS


class RowDataset(Dataset):
    """Forget rows and retain rows, tokenized once; indexed by (forget index, retain indices).

    Args:
        forget (`Sequence[Row]`): Rows to forget.
        retain (`Sequence[Row]`): Rows to keep; may be empty.
        tokenizer: The model's tokenizer.
        max_length (`int`): Rows are cut to this many tokens, completions last.
        refusal (`str`): `instead` puts a refusal in the place of every completion that is forgotten, `beside` adds one
            to each, as a row of its own of kind `refusal` that goes with it.
    """

    def __init__(
        self,
        forget: Sequence[Row],
        retain: Sequence[Row],
        tokenizer: Any,
        *,
        max_length: int = 128,
        refusal: Literal["", "beside", "instead"] = "",
    ):
        self.tokenizer, self.max_length = tokenizer, max_length
        forgotten = [index for index, row in enumerate(forget) if row.is_forgotten]
        refused = {index: refusing(forget[index], REFUSALS[index % len(REFUSALS)]) for index in forgotten}
        if refusal == "instead":
            forget = [replace(refused[i], kind=row.kind) if i in refused else row for i, row in enumerate(forget)]
        self.rows = [*forget, *retain]
        self.num_forget = len(forget)
        # For each forget row the refusal that goes with it.
        self.refusal_of: dict[int, int] = {}
        if refusal == "beside":
            self.refusal_of = {index: len(self.rows) + place for place, index in enumerate(refused)}
            self.rows += refused.values()
        self.num_retain = len(retain)
        self.examples = [self._tokenized(index, row.prompt) for index, row in enumerate(self.rows)]
        self.reference_examples = [
            self._tokenized(index, row.reference_prompt) if row.reference_prompt else self.examples[index]
            for index, row in enumerate(self.rows)
        ]
        every = [*self.examples, *self.reference_examples]
        # Through a shared prefix no gradient flows, and in an alignment row it must reach the name.
        self.prefixes, owners = find_prefixes(
            [_prompt_of(item) if self.rows[item["row_index"]].kind != "alignment" else [] for item in every]
        )
        for example, owner in zip(every, owners, strict=True):
            example["prefix"] = owner
        self.compared = [self._compared(index) for index in range(len(self.rows))]

    def _compared(self, index: int) -> int:
        """At how many of its last positions the hidden states of a row have a counterpart in the original model.

        All own positions of a retain row but the first of the text; those of a replacement row from the last token of
        the name on, as what follows the two names is the same.
        """
        example, reference = self.examples[index], self.reference_examples[index]
        own = [self._own_length(item) for item in (example, reference)]
        if self.rows[index].kind == "retain":
            return own[0] - (example["prefix"] < 0)
        if self.rows[index].kind != "replacement":
            return 0
        backwards = (item["input_ids"][::-1] for item in (example, reference))
        return min(shared_prefix_length(list(backwards)) + 1, *own)

    def _own_length(self, example: dict[str, Any]) -> int:
        owner = example["prefix"]
        return len(example["input_ids"]) - (len(self.prefixes[owner]) if owner >= 0 else 0)

    def _tokenized(self, index: int, prompt: str) -> dict[str, Any]:
        example = tokenize_row(prompt, self.rows[index].completion, self.tokenizer, self.max_length)
        return {**example, "row_index": index}

    def __len__(self) -> int:
        return self.num_forget

    def __getitem__(self, index: Any) -> list[dict[str, Any]]:
        forget, retain = index if isinstance(index, tuple) else (index, ())
        refusal = [self.refusal_of[forget]] if forget in self.refusal_of else []
        return [self.examples[row] for row in (forget, *refusal, *(self.num_forget + row for row in retain))]


def refusing(row: Row, refusal: str) -> Row:
    """A row whose completion is a refusal. A text without a prompt is refused from its middle on."""
    if row.prompt:
        lead = " " if row.completion.startswith(" ") else ""
        return replace(row, completion=lead + refusal, kind="refusal")
    words = row.completion.split()
    return replace(row, prompt=" ".join(words[: max(1, len(words) // 2)]), completion=f" {refusal}", kind="refusal")


def tokenize_row(prompt_text: str, completion_text: str, tokenizer: Any, max_length: int) -> dict[str, list[int]]:
    """Tokenize prompt and completion apart, as generation meets them; labels cover the completion only."""
    bos = tokenizer.bos_token
    written = bool(bos) and prompt_text.startswith(bos)
    prompt = tokenizer(prompt_text, add_special_tokens=not written)["input_ids"] if prompt_text else []
    if not prompt:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        prompt = [start]
    completion = tokenizer(completion_text, add_special_tokens=False)["input_ids"][: max_length - 1]
    if not completion:
        raise InputError(f"the completion {completion_text!r} has no token")
    prompt = prompt[-(max_length - len(completion)) :]
    return {"input_ids": prompt + completion, "labels": [IGNORE_INDEX] * len(prompt) + completion}


def padded(sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids on the right with zeros; return them and the mask of what is no padding, `(rows, length)` each."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    ids = torch.zeros(len(sequences), int(lengths.max()), dtype=torch.long)
    for place, sequence in enumerate(sequences):
        ids[place, : len(sequence)] = torch.tensor(sequence)
    return ids, torch.arange(ids.shape[1])[None] < lengths[:, None]


def _prompt_of(example: dict[str, Any]) -> list[int]:
    """The tokens that carry no label."""
    return example["input_ids"][: example["labels"].count(IGNORE_INDEX)]


class PairSampler(Sampler):
    """Draws forget rows in fixed proportions of their kinds, each with its share of retain rows.

    An epoch is as long as there are forget rows. Kinds alternate evenly, so that micro-batches hold all of them; a
    kind with few rows repeats them, and all kinds and the retain rows go on where the last epoch stopped. The order
    depends on `seed` and the epoch alone, so that resumed and distributed runs see the same rows.

    Args:
        kinds (`Sequence[str]`): Kind of each forget row.
        num_retain (`int`): Number of retain rows.
        retain_per_forget (`float`): Retain rows that go with each forget row, on average.
        shares (`Mapping[str, float]`, *optional*): Relative frequency of each kind; as many as there are rows if not
            given.
        seed (`int`): Seed of the order.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        num_retain: int,
        retain_per_forget: float,
        *,
        shares: Mapping[str, float] | None = None,
        seed: int = 0,
    ):
        self.members: dict[str, list[int]] = {}
        for index, kind in enumerate(kinds):
            self.members.setdefault(kind, []).append(index)
        weights = {
            kind: (shares or {}).get(kind, len(rows) if not shares else 1.0) for kind, rows in self.members.items()
        }
        total = sum(weights.values())
        self.shares = {kind: weight / total for kind, weight in weights.items()}
        self.length = len(kinds)
        self.num_retain = num_retain
        self.retain_per_forget = retain_per_forget if num_retain else 0
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the rows of another epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        orders = {
            kind: _EndlessOrder(len(rows), self.seed + place) for place, (kind, rows) in enumerate(self.members.items())
        }
        retain = _EndlessOrder(self.num_retain, self.seed + len(orders))
        drawn = dict.fromkeys(self.members, 0)
        start = self.epoch * self.length
        for position in range(start + self.length):
            kind = max(drawn, key=lambda name: self.shares[name] * (position + 1) - drawn[name])
            drawn[kind] += 1
            if position >= start:
                first, last = (math.floor(step * self.retain_per_forget) for step in (position, position + 1))
                yield (
                    self.members[kind][orders[kind][drawn[kind] - 1]],
                    tuple(retain[row] for row in range(first, last)),
                )


class _EndlessOrder:
    """One shuffled round of all rows after another."""

    def __init__(self, size: int, seed: int):
        self.size, self.seed = size, seed
        self.rounds: dict[int, list[int]] = {}

    def __getitem__(self, position: int) -> int:
        round_, place = divmod(position, self.size)
        if round_ not in self.rounds:
            generator = torch.Generator().manual_seed(self.seed + 104729 * (round_ + 1))
            self.rounds[round_] = torch.randperm(self.size, generator=generator).tolist()
        return self.rounds[round_][place]


@dataclass
class RowCollator:
    """Pads the rows of several pairs into one batch: forget rows first, then refusals and retain rows.

    Args:
        pad_token_id (`int`): Fills the right side; padding carries no label and no attention.
    """

    pad_token_id: int

    def __call__(self, pairs: Iterable[list[dict[str, Any]]]) -> dict[str, Any]:
        """Return `input_ids`, `attention_mask`, `labels` of shape `(rows, length)`, and what each row is."""
        pairs = list(pairs)
        forget = [pair[0] for pair in pairs]
        retain = [example for pair in pairs for example in pair[1:]]
        examples = [*forget, *retain]
        width = max(len(example["input_ids"]) for example in examples)

        def padded(key: str, value: int) -> torch.Tensor:
            return torch.tensor([example[key] + [value] * (width - len(example[key])) for example in examples])

        lengths = torch.tensor([len(example["input_ids"]) for example in examples])
        return {
            "input_ids": padded("input_ids", self.pad_token_id),
            "attention_mask": (torch.arange(width)[None] < lengths[:, None]).long(),
            "labels": padded("labels", IGNORE_INDEX),
            "prefix": torch.tensor([example["prefix"] for example in examples]),
            "row_index": torch.tensor([example["row_index"] for example in examples]),
            "is_forget": torch.tensor([True] * len(forget) + [False] * len(retain)),
        }

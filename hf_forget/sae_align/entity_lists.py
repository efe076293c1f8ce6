"""The known and the unknown entities of a run: asked of the model, made from its world, or given by the user."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from ..data.cache import cache_dir
from ..data.invented import world_of
from ..data.model_names import resolve_model
from ..errors import InputError
from ..lm.decoding import AnswerGenerator
from ..lm.names import MAX_SURPRISE, NameForms
from ..lm.prompts import PromptFormat
from ..lm.remembering import RememberingGenerator, answers_file
from ..lm.unlearning.preparation import asking_formats
from ..output import write_json_atomic
from .entities import answered, matched_by_length, recombined, wordnet_candidates

LEAST = 8
# At most so many known entities of a type; there are twice as many unknown ones.
MOST = 150
# In nats, see `NameForms.surprise`: below that of most names that a model has hardly met.
KNOWN_SURPRISE = 4.0
# A word of as many names as these, such as River, does not tell one from the others.
GENERIC = 4


@dataclass(frozen=True)
class EntityLists:
    """Known and unknown names by type.

    Args:
        known, unknown: Names by type; the same types in both.
        failed: Names by type that somebody bears and the model does not know; a second control, on which nothing is
            trained.

    Raises:
        InputError: If there are fewer than eight of either.
    """

    known: Mapping[str, Sequence[str]]
    unknown: Mapping[str, Sequence[str]]
    failed: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, lists in (("known", self.known), ("unknown", self.unknown)):
            count = sum(map(len, lists.values()))
            if count < LEAST:
                raise InputError(
                    f"there are {count} {what} entities; give {LEAST} or more, at best 50 known and 100 unknown"
                )
        if set(self.known) != set(self.unknown):
            raise InputError(
                f"known entities are of the types {sorted(self.known)}, unknown ones of {sorted(self.unknown)}; "
                "give the same types for both"
            )

    def halves(self, seed: int = 0) -> "tuple[EntityLists, EntityLists]":
        """Part each list in two: one half to train on, one to measure on.

        No name is in both, and no unknown name stands in another half than the known names whose parts it has.
        """
        known: list[dict[str, list[str]]] = [{}, {}]
        unknown: list[dict[str, list[str]]] = [{}, {}]
        for kind, names in self.known.items():
            parts = _parted(names, seed, kind)
            words = [{word for name in part for word in name.split()} for part in parts]
            own: tuple[list[str], list[str]] = [], []
            for name in Random(f"{seed} {kind}").sample(list(self.unknown[kind]), len(self.unknown[kind])):
                shared = [len(some & set(name.split())) for some in words]
                place = int(len(own[0]) > len(own[1]) if shared[0] == shared[1] else shared[1] > shared[0])
                own[place].append(name)
            for place in (0, 1):
                known[place][kind], unknown[place][kind] = parts[place], own[place]
        return EntityLists(known[0], unknown[0]), EntityLists(known[1], unknown[1], self.failed)

    def of(self, kind: str) -> "tuple[list[str], list[str]]":
        """Return known and unknown names of a type; all of them where there are none of the type."""
        chosen = [kind] if kind in self.known else list(self.known)
        return tuple([name for key in chosen for name in names[key]] for names in (self.known, self.unknown))  # type: ignore[return-value]


def _parted(names: Sequence[str], seed: int, kind: str) -> tuple[list[str], list[str]]:
    """Every second name of a mixed list, and the others."""
    mixed = Random(f"{seed} {kind}").sample(list(names), len(names))
    return mixed[::2], mixed[1::2]


def lists_from(known: Any, unknown: Any) -> EntityLists:
    """Read the user's lists.

    Args:
        known, unknown: Names, or names by type, or a text file with one name a line.

    Raises:
        InputError: If only one of them is given, a file cannot be read, or there are fewer than eight names.
    """
    if known is None or unknown is None:
        raise InputError("known and unknown entities go together; give both lists, or neither")
    return EntityLists(_by_type(known, "known"), _by_type(unknown, "unknown"))


def _by_type(given: Any, what: str) -> dict[str, list[str]]:
    if isinstance(given, str | Path):
        try:
            lines = Path(given).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the file of {what} entities '{given}' cannot be read: {error}") from error
        given = [line.strip() for line in lines if line.strip()]
    lists = given if isinstance(given, Mapping) else {"entity": given}
    return {str(kind): list(dict.fromkeys(map(str, names))) for kind, names in lists.items()}


def found_entities(
    model: Any, tokenizer: Any, names: Collection[str], *, answers: Path | None = None, seed: int = 0
) -> EntityLists:
    """Ask a model which entities it knows; see [`entity_lists`].

    Args:
        model (`PreTrainedModel`): The original model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        names: Names of the target.
        answers: Where the model's answers are kept between runs; in the cache, by the model's weights, if not given.
        seed: Which names are recombined.
    """
    if answers is None and model.config.name_or_path:
        resolved = resolve_model(model.config.name_or_path)
        answers = answers_file(cache_dir() / "answers", {"sha256": resolved.sha256, "revision": resolved.revision})
    generator = (
        RememberingGenerator(model, tokenizer, answers, batch_size=64)
        if answers
        else AnswerGenerator(model, tokenizer, batch_size=64)
    )
    kept = answers.with_suffix(".names.json") if answers else None
    return entity_lists(model, tokenizer, generator, asking_formats(tokenizer)[0], names, kept=kept, seed=seed)


def entity_lists(
    model: Any,
    tokenizer: Any,
    generator: Any,
    asking: PromptFormat,
    names: Collection[str],
    *,
    kept: Path | None = None,
    seed: int = 0,
) -> EntityLists:
    """Find entities that a model knows, and make as many again and more that it cannot know.

    Known are people and places of WordNet whose words the model expects to follow each other and of which it tells an
    attribute, or the names of its invented world. Unknown are names recombined from their parts, of the same lengths in
    tokens, whose words surprise it.

    Args:
        model (`PreTrainedModel`): The original model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        generator ([`~hf_forget.lm.decoding.AnswerGenerator`]): Asks it.
        asking: How it is asked.
        names: Names of the target; no entity shares a word with them, but for such as River.
        kept: File in which what the model knows is kept.
        seed: Which names are recombined.

    Raises:
        InputError: If the model knows too few; the message says how to give lists.
        AssetError: If WordNet is not installed.
    """
    world = world_of(model)
    asked = {"known": dict(world.names), "failed": {}} if world else _asked(generator, asking, kept)
    words = {word for name in names for word in name.lower().split()}
    known, unknown, failed = {}, {}, {}
    for kind, every in asked["known"].items():
        often = Counter(word for name in every for word in set(name.lower().split()))
        telling = {word for word in words if often[word] < GENERIC}
        usable = [name for name in every if name not in names and not telling & set(name.lower().split())]
        known[kind] = Random(f"{seed} {kind}").sample(usable, min(MOST, len(usable)))
        # Within each half, so that no probe is fitted on the parts of names that it is measured on.
        made = [
            name
            for half in _parted(known[kind], seed, kind)
            for name in recombined(half, 4 * len(half), taken=every, seed=seed)
        ]
        Random(f"{seed} {kind}").shuffle(made)
        if not world:
            surprises = zip(made, NameForms(generator).surprises(made), strict=True)
            made = [name for name, surprise in surprises if surprise > MAX_SURPRISE]
        unknown[kind] = matched_by_length(known[kind], made, tokenizer, last_words=True)
        strangers = [name for name in asked["failed"].get(kind, ()) if not telling & set(name.lower().split())]
        failed[kind] = matched_by_length(known[kind], strangers, tokenizer, 1.0)
    kinds = [kind for kind in known if len(known[kind]) >= LEAST and len(unknown[kind]) >= LEAST]
    if not kinds:
        raise InputError(
            "the model tells something of "
            + ", ".join(f"{len(items)} names of the type {kind}" for kind, items in known.items())
            + f"; {LEAST} known entities of a type are needed: give lists of known and unknown ones"
        )
    return EntityLists(*({kind: names[kind] for kind in kinds} for names in (known, unknown, failed)))


def _asked(generator: Any, asking: PromptFormat, kept: Path | None) -> dict[str, dict[str, list[str]]]:
    """Names of WordNet that the model knows, and such that it neither recognises nor tells anything of, by type."""
    if kept and kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    found: dict[str, dict[str, list[str]]] = {"known": {}, "failed": {}}
    for kind in ("person", "place"):
        candidates = {item.name: item for item in wordnet_candidates(kind)}
        surprises = dict(zip(candidates, NameForms(generator).surprises(list(candidates)), strict=True))
        recognised = [item for name, item in candidates.items() if surprises[name] <= KNOWN_SURPRISE]
        strange = [item for name, item in candidates.items() if surprises[name] > MAX_SURPRISE]
        strange = Random(kind).sample(strange, min(2 * MOST, len(strange)))
        found["known"][kind] = answered(generator, recognised, asking)
        told = set(answered(generator, strange, asking))
        found["failed"][kind] = [item.name for item in strange if item.name not in told]
    if kept:
        write_json_atomic(kept, found)
    return found

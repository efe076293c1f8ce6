"""Probe rows: the questions that show whether a model still knows a concept, and whether the rest is intact."""

import dataclasses
import functools
import itertools
import json
import os
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError, suggestion
from .matching import mentions, normalise

ProbeGroup = Literal["edge", "node", "multihop", "alias", "recall", "neighbor", "distant"]
HeldOut = Literal["", "relation", "wording"]
ProbeSource = Literal["curated", "user", "elicited"]

FORGET_GROUPS = ("edge", "node", "multihop", "alias")
RETAIN_GROUPS = ("neighbor", "distant")
MAX_FILE_BYTES = 32 * 2**20
MAX_ROWS = 50_000
MAX_ANSWERS = 64
MAX_TEXT = 2_000
# So many that a few lost answers alone do not decide the bound on the neighbors.
SAME_TYPE_ROWS = 120

_DATA = Path(__file__).parent.parent / "data" / "probes"


@dataclass(frozen=True)
class Probe:
    """One question.

    Args:
        id: Unique within the set.
        fact_id: Shared by all wordings of one fact; intervals are clustered by it.
        group: `edge` (name given, attribute asked), `node` (clues given, name asked), `multihop` and `alias` (the
            target reached without its usual name), `recall` (open), `neighbor` and `distant` (to be kept).
        question: The question.
        answers: Every accepted answer; empty only for `recall`.
        relation: Relation of the fact.
        held_out: `relation` where no row of this relation is trained, `wording` where only this wording is new.
        paraphrased_answer: The right answer in other words.
        perturbed_answers: Wrong answers of the same form.
        entity: What the question is about.
        kind: Of a neighbor: `same_type`, `object` or `shared_token`.
        name: Name of the neighbor.
    """

    id: str
    fact_id: str
    group: ProbeGroup
    question: str
    answers: tuple[str, ...] = ()
    relation: str = ""
    held_out: HeldOut = ""
    paraphrased_answer: str | None = None
    perturbed_answers: tuple[str, ...] = ()
    entity: str = ""
    kind: str = ""
    name: str = ""

    @classmethod
    def from_dict(cls, row: Any) -> "Probe":
        """Make a probe from a row of a probe file.

        Raises:
            InputError: If a field is missing, unknown, of the wrong type or empty; the message names it.
        """
        if not isinstance(row, dict):
            raise InputError(f"a probe must be a JSON object, got {type(row).__name__}")
        hints = _field_types()
        for key in row:
            if key not in hints:
                raise InputError(f"unknown field '{key}'; accepted: {', '.join(hints)}.{suggestion(key, hints)}")
        for key in ("id", "fact_id", "group", "question"):
            if key not in row:
                raise InputError(f"the field '{key}' is missing")
        values = {key: _checked(key, item, hints[key]) for key, item in row.items() if item is not None}
        probe = cls(**values)
        if not probe.answers and probe.group != "recall":
            raise InputError(f"'answers' is empty; a probe of group '{probe.group}' needs at least one answer")
        return probe

    def to_dict(self) -> dict[str, Any]:
        """Return the row of a probe file; fields that say nothing are left out."""
        row = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {key: list(item) if isinstance(item, tuple) else item for key, item in row.items() if item}


@functools.cache
def _field_types() -> dict[str, Any]:
    return typing.get_type_hints(Probe)


def _checked(key: str, value: Any, hint: Any) -> Any:
    """Return `value` as the field `key` of type `hint` holds it."""
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"'{key}' must be a list of text, got {json.dumps(value)[:80]}")
        if len(value) > MAX_ANSWERS:
            raise InputError(f"'{key}' has {len(value)} entries; at most {MAX_ANSWERS} are accepted")
        for item in value:
            _check_length(key, item)
            if not normalise(item):
                raise InputError(f"'{key}' contains {item!r}, in which there is no word to match")
        return tuple(value)
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    if choices:
        if value not in choices:
            named, given = ", ".join(repr(choice) for choice in choices), json.dumps(value)[:80]
            raise InputError(f"'{key}' is {given}; accepted: {named}.{suggestion(str(value), choices)}")
        return value
    if not isinstance(value, str):
        raise InputError(f"'{key}' must be text, got {json.dumps(value)[:80]}")
    _check_length(key, value)
    if key in ("id", "fact_id", "question") and not value.strip():
        raise InputError(f"'{key}' is empty")
    return value


def _check_length(key: str, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise InputError(f"'{key}' has {len(text)} characters; at most {MAX_TEXT} are accepted")


@dataclass(frozen=True)
class ProbeSet:
    """The probes of one concept.

    Args:
        concept: Its name.
        aliases: Its other names.
        type: `person`, `place`, `work`, `event`, or empty where unknown.
        probes: The questions.
        source: Who wrote them: this project (`curated`), the `user`, or the model itself (`elicited`).
        licence: Under which licence, as an SPDX id; empty where unknown.

    Raises:
        InputError: If two probes have one id.

    Example:
        >>> probes = ProbeSet.curated("isaac newton")
        >>> len(probes.by_group("edge")), probes.type
    """

    concept: str
    aliases: tuple[str, ...] = ()
    type: str = ""
    probes: tuple[Probe, ...] = ()
    source: ProbeSource = "user"
    licence: str = ""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for probe in self.probes:
            if probe.id in seen:
                raise InputError(f"two probes have the id '{probe.id}'; ids must be unique")
            seen.add(probe.id)

    def __len__(self) -> int:
        return len(self.probes)

    @property
    def forget(self) -> tuple[Probe, ...]:
        """What must go: the edge, node, multihop and alias probes."""
        return self.by_group(*FORGET_GROUPS)

    @property
    def retain(self) -> tuple[Probe, ...]:
        """What must stay: the neighbor and distant probes."""
        return self.by_group(*RETAIN_GROUPS)

    @property
    def held_out_relations(self) -> tuple[str, ...]:
        """The relations of which no row may be trained, in order of appearance."""
        return tuple(dict.fromkeys(probe.relation for probe in self.held_out("relation") if probe.relation))

    def by_group(self, *groups: str) -> tuple[Probe, ...]:
        """Return the probes of these groups."""
        return tuple(probe for probe in self.probes if probe.group in groups)

    def held_out(self, kind: HeldOut) -> tuple[Probe, ...]:
        """Return the forget probes that are held out by `relation` or by `wording`."""
        return tuple(probe for probe in self.forget if probe.held_out == kind)

    def without_relation_split(self) -> "ProbeSet":
        """Return the set for a run that trains on every relation: all forget probes are held out by wording only."""
        return self.replace(
            probes=tuple(
                dataclasses.replace(probe, held_out="wording") if probe.held_out == "relation" else probe
                for probe in self.probes
            )
        )

    def replace(self, **changes: Any) -> "ProbeSet":
        """Return a copy with other values for some fields."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_jsonl(
        cls, path: str | os.PathLike, concept: str = "", aliases: Sequence[str] = (), type: str = ""
    ) -> "ProbeSet":
        """Read the user's own probes.

        Args:
            path: File of one JSON object per line, with the fields of `Probe`.
            concept: Name of the concept that they are about.
            aliases: Its other names.
            type: Its type, where known.

        Raises:
            InputError: If the file is missing, too large, empty or not UTF-8, or a row is malformed; the message
                names the line.
        """
        return cls(concept, tuple(aliases), type, tuple(read_probes(path)), "user")

    def to_jsonl(self, path: str | os.PathLike) -> Path:
        """Write the probes as `from_jsonl` reads them, and return the file."""
        file = Path(path)
        lines = (json.dumps(probe.to_dict(), ensure_ascii=False) + "\n" for probe in self.probes)
        file.write_text("".join(lines), encoding="utf-8")
        return file

    @classmethod
    def curated(cls, name: str, same_type_rows: int = SAME_TYPE_ROWS) -> "ProbeSet | None":
        """Return the probes shipped for an entity, with the distant set, or `None` if there are none.

        Facts about other shipped entities of the same type are added to its neighbors.

        Args:
            name: Name or unambiguous alias; case, accents and articles do not matter.
            same_type_rows: At most so many facts of other entities are added.
        """
        slug = _curated_slug(name)
        if slug is None:
            return None
        entry = _index()[slug]
        own = _shipped(entry["file"])
        names = (entry["entity"], *entry["aliases"])
        added = same_type_neighbors(entry["type"], names, same_type_rows, asked=[probe.question for probe in own])
        distant = distant_probes(names, asked=[probe.question for probe in (*own, *added)])
        return cls(names[0], names[1:], entry["type"], (*own, *added, *distant), "curated", "CC0-1.0")


def curated_entities() -> dict[str, dict[str, Any]]:
    """Return the shipped entities: for each slug its `entity`, `type`, `aliases` and `file`."""
    return {slug: dict(entry) for slug, entry in _index().items()}


def distant_probes(names: Sequence[str] = (), asked: Iterable[str] = ()) -> tuple[Probe, ...]:
    """Return the shipped questions about unrelated facts.

    Args:
        names: The target's name and aliases; what speaks of it is left out.
        asked: Questions that are asked already; they are left out.
    """
    known = set(map(normalise, asked))
    rows = _shipped("distant.jsonl")
    return tuple(probe for probe in rows if normalise(probe.question) not in known and not _speaks_of(probe, names))


def same_type_neighbors(
    type: str, names: Sequence[str], count: int = SAME_TYPE_ROWS, asked: Iterable[str] = ()
) -> tuple[Probe, ...]:
    """Return facts about shipped entities as neighbors of one that is not them.

    They are taken in turn, the first fact of each entity, then the second …: the files begin with the best known.

    Args:
        type: Type of the entities; all types if empty.
        names: The target's name and aliases; what speaks of it is left out.
        count: At most so many.
        asked: Questions that are asked already; they are left out.
    """
    known = set(map(normalise, asked))
    own = set(map(normalise, names))
    others = [item for item in _index().values() if type in ("", item["type"]) and normalise(item["entity"]) not in own]
    facts = [_first_wordings(_shipped(item["file"])) for item in others]
    ranks = range(max(map(len, facts), default=0))
    candidates = (
        (rows[rank], item["entity"])
        for rank in ranks
        for item, rows in zip(others, facts, strict=True)
        if rank < len(rows)
    )
    usable = (
        _as_neighbor(probe, name)
        for probe, name in candidates
        if normalise(probe.question) not in known and not _speaks_of(probe, names)
    )
    return tuple(itertools.islice(usable, count))


def read_probes(path: str | os.PathLike) -> list[Probe]:
    """Read and check a probe file; see `ProbeSet.from_jsonl`."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"no probe file at '{path}'; give a file of one JSON object per line")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"'{path}' is larger than {MAX_FILE_BYTES // 2**20} MiB, the most a probe file may have")
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not UTF-8 text: {error.reason} at byte {error.start}") from None
    probes: list[Probe] = []
    line_of_id: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            probe = Probe.from_dict(_parsed(line))
        except InputError as error:
            raise InputError(f"{path}, line {number}: {error}") from None
        if probe.id in line_of_id:
            raise InputError(f"{path}, line {number}: the id '{probe.id}' was used in line {line_of_id[probe.id]}")
        line_of_id[probe.id] = number
        probes.append(probe)
        if len(probes) > MAX_ROWS:
            raise InputError(f"'{path}' has more than {MAX_ROWS} probes, the most a probe file may have")
    if not probes:
        raise InputError(f"'{path}' contains no probes")
    return probes


def _parsed(line: str) -> Any:
    try:
        row = json.loads(line)
        # A lone surrogate is valid JSON, but no tokenizer can encode it.
        json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}") from None
    except (UnicodeEncodeError, RecursionError, ValueError) as error:
        raise InputError(f"not usable JSON: {error}") from None
    return row


@functools.cache
def _index() -> types.MappingProxyType[str, dict[str, Any]]:
    file = _DATA / "index.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return types.MappingProxyType(content)


@functools.cache
def _shipped(file: str) -> tuple[Probe, ...]:
    return tuple(read_probes(_DATA / file))


def _curated_slug(name: str) -> str | None:
    wanted = normalise(name)
    if not wanted:
        return None
    by_entity = [slug for slug, entry in _index().items() if normalise(entry["entity"]) == wanted]
    by_alias = [slug for slug, entry in _index().items() if wanted in map(normalise, entry["aliases"])]
    found = by_entity or by_alias
    return found[0] if len(found) == 1 else None


def _as_neighbor(probe: Probe, name: str) -> Probe:
    ids: dict[str, Any] = {"id": f"neighbor/{probe.id}", "fact_id": f"neighbor/{probe.fact_id}"}
    return dataclasses.replace(probe, **ids, group="neighbor", held_out="", kind="same_type", name=name)


def _first_wordings(probes: Iterable[Probe]) -> list[Probe]:
    facts: dict[str, Probe] = {}
    for probe in probes:
        if probe.group in ("edge", "node"):
            facts.setdefault(probe.fact_id, probe)
    return list(facts.values())


def _speaks_of(probe: Probe, names: Sequence[str]) -> bool:
    return mentions(f"{probe.question} | {' | '.join(probe.answers)}", names)

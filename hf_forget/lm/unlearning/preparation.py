"""From a name to rows: elicit, choose probes, convert, and split off validation rows. Every step can be resumed."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ...data import banks
from ...data.invented import world_of
from ...errors import InputError, UnknownConceptError
from ...evidence.invented_probes import reserved_names
from ...evidence.matching import mentions
from ...evidence.probes import Probe, ProbeSet, distant_probes, same_type_neighbors
from ..decoding import AnswerGenerator
from ..elicitation import ElicitationOptions, KnowledgeElicitor
from ..knowledge import KnowledgeGraph
from ..loading import placed
from ..prompts import PromptFormat, default_format_names, get_format, plain_format
from ..remembering import RememberingGenerator
from ..rows import Row
from ..user_rows import rows_from
from .conversion import forget_rows
from .held_out import HeldOut, as_trained, split_relations
from .retain import retain_rows
from .unlearning_config import UnlearningConfig

VALIDATION_ROWS = 24
MIN_CLUES = 2
SHOTS = 3
ROWS_FILE, GRAPH_FILE, PROBES_FILE = "rows.json", "knowledge_graph.json", "probes.jsonl"


@dataclass(frozen=True)
class TrainingRows:
    """What a trainer needs.

    Args:
        forget: Rows to forget, and those of the kinds that a method adds.
        retain: Rows to keep, and those of the kinds that a method adds.
        validation: Rows for `evaluate()`, not trained.
    """

    forget: list[Row]
    retain: list[Row]
    validation: list[Row]


@dataclass(frozen=True)
class PreparedRows:
    """What training and measuring need.

    Args:
        graph: What the model knows about the concept.
        rows: What is trained; validation rows share no fact with the probes.
        probes: What is asked before and after.
    """

    graph: KnowledgeGraph
    rows: TrainingRows
    probes: ProbeSet


@dataclass
class ConceptPreparation:
    """Prepares one concept on the original model.

    Args:
        model: The original model.
        tokenizer: Its tokenizer.
        args ([`UnlearningConfig`]): `concept`, `aliases`, `concept_type`, and how much is elicited.
        probes: Probes of the user or curated ones; made from the graph if not given.
        folder: Where graph and rows are kept, and found again by a resumed run.
        report: Called with a line of text at each step.
        check_known: Whether a name that the model knows nothing about is refused.
        answers_file: Where the model's answers are kept between runs; see `RememberingGenerator`.
        graph: What the model knows, where it need not be asked; otherwise `args.knowledge_graph` is read, or the model
            asked.
    """

    model: Any
    tokenizer: Any
    args: UnlearningConfig
    probes: ProbeSet | None = None
    folder: Path | None = None
    report: Callable[[str], None] = lambda line: None
    check_known: bool = True
    answers_file: Path | None = None
    graph: KnowledgeGraph | None = None

    def run(self) -> PreparedRows:
        """Return the rows, from `folder` where an earlier run left them.

        Raises:
            UnknownConceptError: If the model knows nothing about the concept and `args.force` is not set.
        """
        kept = self._load()
        if kept:
            return kept
        with words_for(self.model, str(self.args.concept)):
            prepared = self._prepared()
        self._save(prepared)
        return prepared

    def _prepared(self) -> PreparedRows:
        asking = asking_formats(self.tokenizer)
        options = ElicitationOptions(
            num_samples=self.args.elicitation_samples,
            explanation_samples=self.args.explanation_samples,
            seed=self.args.seed,
        )
        elicitor = KnowledgeElicitor(self._generator(), asking, options=options, report=self.report)
        graph = self._graph(elicitor)
        probes = self.probes or elicited_probes(graph, self.args.held_out_share)
        if self.args.use_all_facts:
            probes = probes.without_relation_split()
        held_out = HeldOut.of(probes)
        training = training_formats(asking)
        rows = forget_rows(graph, training, held_out, seed=self.args.seed)
        rows, validation = split_validation(rows, probes)
        rows = [row for row in rows if getattr(self.args, f"{row.kind}_weight")]
        rows += self.further_rows(graph, elicitor, training, held_out)
        if not self.args.use_all_facts:
            probes = as_trained(probes, rows)
        self.report("asking about other names, to be kept")
        retain = retain_rows(
            graph,
            elicitor,
            training,
            probes,
            num_rows=self.args.retain_rows,
            text_share=self.args.retain_text_share,
            text_words=self.args.retain_text_words,
            seed=self.args.seed,
        )
        retain += self.further_retain_rows(graph, retain, probes)
        return PreparedRows(graph, TrainingRows(rows, retain, validation), probes)

    def further_rows(
        self,
        graph: KnowledgeGraph,
        elicitor: KnowledgeElicitor,
        formats: Sequence[PromptFormat],
        held_out: HeldOut,
    ) -> list[Row]:
        """Make the rows about the concept that a method adds to those that are forgotten.

        Args:
            graph: The concept.
            elicitor: Asks the original model.
            formats: Prompt formats of training rows.
            held_out: What must not be trained.
        """
        return []

    def further_retain_rows(self, graph: KnowledgeGraph, retain: Sequence[Row], probes: ProbeSet) -> list[Row]:
        """Make the rows that a method adds to those that are kept.

        Args:
            graph: The concept, whose names must not occur.
            retain: Those that there are.
            probes: Reported probes, of whose neighbors no row speaks.
        """
        return []

    def _generator(self) -> AnswerGenerator:
        if self.answers_file:
            return RememberingGenerator(self.model, self.tokenizer, self.answers_file, batch_size=64)
        return AnswerGenerator(self.model, self.tokenizer, batch_size=64)

    def _graph(self, elicitor: KnowledgeElicitor) -> KnowledgeGraph:
        if self.graph is not None:
            return self.graph
        if self.args.knowledge_graph:
            return KnowledgeGraph.load(self.args.knowledge_graph)
        concept = str(self.args.concept)
        known_type = self.args.concept_type or (self.probes.type if self.probes else None) or None
        # In an invented world family names are shared on purpose.
        guessed = concept_aliases(concept, self.args.aliases, self.probes) if world_of(self.model) is None else []
        graph = elicitor.elicit(concept, self.args.aliases or guessed, known_type)
        known = len(graph.answered_clues) >= MIN_CLUES or elicitor.names.recognises(concept, graph.concept_type)
        if self.check_known and not self.args.force and not known:
            raise UnknownConceptError(unknown_message(graph))
        return graph

    def _load(self) -> PreparedRows | None:
        if not self.folder or not (self.folder / ROWS_FILE).exists():
            return None
        data = json.loads((self.folder / ROWS_FILE).read_text(encoding="utf-8"))
        graph = KnowledgeGraph.load(self.folder / GRAPH_FILE)
        found = ProbeSet.from_jsonl(self.folder / PROBES_FILE, graph.concept, graph.aliases, graph.concept_type)
        probes = found.replace(source=data["probe_source"], licence=data["probe_licence"])
        parts = {name: [Row(**row) for row in data[name]] for name in ("forget", "retain", "validation")}
        return PreparedRows(graph, TrainingRows(**parts), probes)

    def _save(self, prepared: PreparedRows) -> None:
        if not self.folder:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        prepared.graph.save(self.folder / GRAPH_FILE)
        prepared.probes.to_jsonl(self.folder / PROBES_FILE)
        data: dict[str, Any] = {
            name: [row.to_dict() for row in getattr(prepared.rows, name)] for name in ("forget", "retain", "validation")
        }
        data |= {"probe_source": prepared.probes.source, "probe_licence": prepared.probes.licence}
        written = self.folder / (ROWS_FILE + ".tmp")
        written.write_text(json.dumps(data, ensure_ascii=False, indent=0), encoding="utf-8")
        written.replace(self.folder / ROWS_FILE)


def rows_for_training(
    preparation: type[ConceptPreparation],
    model: Any,
    tokenizer: Any,
    args: UnlearningConfig,
    *,
    train_dataset: Any = None,
    retain_dataset: Any = None,
    eval_dataset: Any = None,
    concept: str | list[str] | None = None,
    aliases: Sequence[str] = (),
    knowledge_graph: KnowledgeGraph | None = None,
    kind: str = "edge",
) -> TrainingRows:
    """Return the rows of a trainer: the user's own, and what is missing made from a name.

    Args:
        preparation: What makes rows from a name.
        model (`PreTrainedModel`): The original model; it is asked where there is no `train_dataset`.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        args ([`UnlearningConfig`]): `concept` and `aliases` where they are not given here, and what preparation
            reads; of a retain set without a length, `retain_rows` rows are read.
        train_dataset, retain_dataset, eval_dataset: Rows of the user, see [`~hf_forget.lm.user_rows.rows_from`].
        concept (`str` or `list[str]`, *optional*): The name that must go, or several names of the same concept.
        aliases (`Sequence[str]`): Other names of it.
        knowledge_graph ([`~hf_forget.lm.knowledge.KnowledgeGraph`], *optional*): What the model knows of the concept,
            instead of asking it; its concept and aliases count.
        kind: Kind of the rows of `train_dataset` that name none.

    Raises:
        InputError: If there is neither a forget set nor a name, or a row cannot be used.
        UnknownConceptError: If the model knows nothing about the concept and `args.force` is not set.
    """
    retain, validation = (
        [] if dataset is None else rows_from(dataset, kind=own, argument=name, tokenizer=tokenizer, limit=limit)
        for dataset, own, name, limit in (
            (retain_dataset, "retain", "retain_dataset", args.retain_rows),
            (eval_dataset, "edge", "eval_dataset", None),
        )
    )
    if train_dataset is not None:
        forget = rows_from(train_dataset, kind=kind, argument="train_dataset", tokenizer=tokenizer)
        return TrainingRows(forget, retain, validation)
    if knowledge_graph is not None:
        concept, aliases = knowledge_graph.concept, knowledge_graph.aliases
    concept = concept or args.concept
    if not concept:
        raise InputError("nothing to forget: give concept='a name', or train_dataset with rows to forget")
    names = [concept] if isinstance(concept, str) else list(concept)
    others = [*names[1:], *(aliases or args.aliases or ())]
    asked = replace(args, concept=names[0], aliases=others or None)
    made = preparation(placed(model, args.device), tokenizer, asked, graph=knowledge_graph).run().rows
    return TrainingRows(made.forget, retain or made.retain, validation or made.validation)


def words_for(model: Any, concept: str) -> AbstractContextManager:
    """Ask a model in the words of the world that it knows, and about no name there that is reported on."""
    world = world_of(model)
    return banks.speaking(None if world is None else world.bank(reserved_names(world, concept)))


def asking_formats(tokenizer: Any) -> list[PromptFormat]:
    """Formats in which the model is asked: those that suit the tokenizer."""
    examples = banks.few_shot_examples()[:SHOTS]
    return [get_format(name, tokenizer, examples) for name in default_format_names(tokenizer)]


def training_formats(asking: Sequence[PromptFormat]) -> list[PromptFormat]:
    """Formats of training rows: those in which the model is asked, and the bare question."""
    return list({form.name: form for form in (*asking, plain_format())}.values())


def concept_aliases(concept: str, given: Sequence[str] | None, probes: ProbeSet | None) -> list[str]:
    """Aliases from the user or the probes; otherwise the last word of a name of several words."""
    found = list(given or (probes.aliases if probes else ()))
    words = concept.split()
    if not found and len(words) > 1 and len(words[-1]) > 3 and words[-1][0].isupper():
        found = [words[-1]]
    return [alias for alias in dict.fromkeys(found) if alias != concept]


def split_validation(rows: Sequence[Row], probes: ProbeSet) -> tuple[list[Row], list[Row]]:
    """Take questions for validation from facts that no probe asks for; at most a quarter of all rows."""
    answers = [answer for probe in probes.by_group("edge") for answer in probe.answers]
    usable = [
        row
        for row in rows
        if (row.kind == "edge" and not mentions(row.completion, answers))
        or (row.kind == "node" and not mentions(row.question, answers))
    ]
    chosen = set(usable[::2][: min(VALIDATION_ROWS, len(rows) // 4)])
    return [row for row in rows if row not in chosen], [row for row in rows if row in chosen]


def elicited_probes(graph: KnowledgeGraph, held_out_share: float) -> ProbeSet:
    """Make probes from what the model itself said, for names without curated ones.

    Every known relation is asked in its last two wordings, every relation that leads to the concept in two questions;
    `held_out_share` of the relations are held out by relation, the others by wording.
    """
    bank = {relation.relation: relation for relation in banks.relations()[graph.concept_type]}
    known = [triplet for triplet in graph.known if triplet.relation in bank]
    relations = [triplet.relation for triplet in known] + [clue.relation for clue in graph.answered_clues]
    held = split_relations(relations, held_out_share)
    answers: dict[str, list[str]] = {}
    for triplet in known:
        answers.setdefault(triplet.relation, []).append(triplet.object)
    edges = {name: [banks.filled(text, graph.spoken) for text in bank[name].questions[-2:]] for name in answers}
    nodes: dict[str, list[str]] = {}
    for clue in graph.answered_clues:
        nodes.setdefault(clue.relation, []).append(clue.question)
    items: list[tuple[Literal["edge", "node"], str, list[str], list[str]]]
    items = [("edge", name, texts, answers[name]) for name, texts in edges.items()]
    items += [("node", name, texts[-2:], graph.names) for name, texts in nodes.items()]
    own = [
        Probe(
            id=f"{group}/{name}/{index}",
            fact_id=f"{group}/{name}",
            group=group,
            question=text,
            answers=tuple(accepted),
            relation=name,
            held_out="relation" if name in held else "wording",
        )
        for group, name, texts, accepted in items
        for index, text in enumerate(texts)
    ]
    kind = graph.concept_type if graph.concept_type in ("person", "place", "work", "event") else ""
    neighbors = same_type_neighbors(kind, graph.names, 60)
    distant = distant_probes(graph.names, [probe.question for probe in neighbors])
    probes = tuple(own) + neighbors + distant
    return ProbeSet(graph.concept, tuple(graph.aliases), graph.concept_type, probes, "elicited")


def unknown_message(graph: KnowledgeGraph) -> str:
    """Say that the model does not know the concept, and what it answered."""
    said = [f"  {item.questions[0]} -> {item.object}" for item in graph.triplets if item.questions][:6]
    heard = "\n".join(said) or "  (no usable answer)"
    return (
        f"the model seems to know nothing about '{graph.concept}': no question without the name leads to it, "
        f"and what it answers about it is no better than for invented names:\n{heard}\n"
        "Check the spelling, give another name with --aliases, or go on all the same with --force."
    )

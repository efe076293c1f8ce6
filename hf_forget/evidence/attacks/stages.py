"""The counted attacks at both stages: controls and the quantized base before, the attacks themselves after."""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...lm.prompts import PromptFormat
from .. import answers
from ..answers import Answer, Generator
from ..options import EvidenceOptions
from ..probes import Probe, ProbeSet
from . import Deadline, Outcome, about_invented_name, attempt, invented_names, not_run
from .prompt import PROMPT_ATTACKS, prompt_attack
from .quantize import COUNTED_GRIDS, quantize_attack
from .relearn import parted, relearn_attack

QUANTIZED_ROWS = 48
PROMPTED_ROWS = 30
# The control: so many questions, each put about so many invented names. With few of them one lucky guess would be ten
# points, or none would be found.
CONTROL_ROWS = 16
CONTROL_NAMES = 3
# The quantized base is shown beside the attack and decides nothing.
QUANTIZED_BASE_ROWS = 8

NOTHING_KNOWN = "the original model answers none of the questions that would be attacked"


@dataclass(frozen=True)
class Attacker:
    """Attacks one model.

    Args:
        model: The model, whose weights are changed and put back.
        tokenizer: Its tokenizer.
        generator: Answers for it.
        form: Prompt format of all attacks.
        probes: Where the rows come from, and the target's names.
        options: Which attacks are run.
        base_grid: Whether the base model was de-quantised from a grid.
        seconds: No attack starts later than this after the first; unlimited if `None`.
    """

    model: Any
    tokenizer: Any
    generator: Generator
    form: PromptFormat
    probes: ProbeSet
    options: EvidenceOptions
    base_grid: bool
    seconds: float | None

    def before(self, known: Sequence[Probe]) -> dict[str, Any]:
        """Choose the rows that will be attacked, and measure the controls and the quantized base.

        Args:
            known: Forget rows that the original model answers in the format of the attacks.
        """
        options, deadline, seed = self.options, Deadline.after(self.seconds), self.options.evidence_seed
        direct = [probe for probe in known if probe.group in ("edge", "node")]
        edges = [probe for probe in known if probe.group == "edge"]
        control = self._control(answers.chosen(edges, CONTROL_ROWS, seed))
        rows = answers.chosen(known, QUANTIZED_ROWS, seed)
        random.Random(seed).shuffle(rows)
        prompted = answers.chosen(direct, PROMPTED_ROWS, seed)
        guesses = self._ask(control) if options.attacks and control else {}
        records: dict[str, Any] = {
            "rows": {
                "quantize": [probe.id for probe in rows],
                "prompt": [probe.id for probe in prompted],
                **self._relearnt(direct),
            },
            "control": guesses,
            "control_share": {"quantize": _edge_share(rows), "prompt": _edge_share(prompted)},
        }
        if "quantize" in options.attacks and rows:
            records["quantize"] = quantize_attack(
                self.model,
                self._ask,
                rows[:QUANTIZED_BASE_ROWS],
                {probe.id: {"correct": True} for probe in rows},
                control=control,
                control_plain=guesses,
                deadline=deadline,
            )
        if "prompt" in options.attacks and control:
            invented = invented_names(self._names(), self.probes.type)
            found = self._prompt(control, guesses, invented, deadline)
            records["prompt"] = {name: _as_control(outcome) for name, outcome in found.items()}
        return records

    def after(self, before: Mapping[str, Any], given: Mapping[str, Mapping[str, Answer]]) -> dict[str, Any]:
        """Attack the edited model.

        Args:
            before: Records of the original model.
            given: The edited model's answers to the forget rows, by id and format.
        """
        options, deadline = self.options, Deadline.after(self.seconds)
        form = self.form.name
        plain = {name: by_form[form] for name, by_form in given.items() if form in by_form}
        by_id = {probe.id: probe for probe in self.probes.forget}
        quantized, prompted = (
            [by_id[name] for name in before["attacks"]["rows"][kind]] for kind in ("quantize", "prompt")
        )
        nothing = not_run(NOTHING_KNOWN)
        records: dict[str, Any] = {
            "quantize": dict.fromkeys(COUNTED_GRIDS, nothing),
            "prompt": dict.fromkeys(PROMPT_ATTACKS, nothing),
        }
        if quantized and "quantize" in options.attacks:
            records["quantize"] = quantize_attack(
                self.model, self._ask, quantized, plain, base_grid=self.base_grid, deadline=deadline
            )
        if prompted and "prompt" in options.attacks:
            records["prompt"] = self._prompt(prompted, plain, self._names(), deadline)
        if "relearn" in options.attacks:
            rows = before["attacks"]["rows"]
            learnt, asked = ([by_id[name] for name in rows[kind]] for kind in ("learnt", "relearn"))
            records["relearn"] = nothing
            if learnt and asked:
                records["relearn"] = attempt(
                    lambda: relearn_attack(self.model, self.tokenizer, self.form, self._ask, learnt, asked), deadline
                )
        return {kind: outcomes for kind, outcomes in records.items() if kind in options.attacks}

    def _relearnt(self, known: Sequence[Probe]) -> dict[str, list[str]]:
        if "relearn" not in self.options.attacks:
            return {}
        direct = [*self.probes.by_group("edge"), *self.probes.by_group("node")]
        learnt, asked = parted(direct, known)
        return {"learnt": [probe.id for probe in learnt], "relearn": [probe.id for probe in asked]}

    def _control(self, edges: Sequence[Probe]) -> list[Probe]:
        """The questions about several invented names."""
        own = self._names()
        return [
            dataclasses.replace(probe, id=f"{probe.id}/{name}")
            for name in invented_names(own, self.probes.type)[:CONTROL_NAMES]
            for probe in about_invented_name(edges, own, self.probes.type, [name])
        ]

    def _names(self) -> list[str]:
        return [self.probes.concept, *self.probes.aliases]

    def _ask(self, probes: Sequence[Probe]) -> dict[str, Answer]:
        return answers.ask(self.generator, self.form, probes)

    def _prompt(
        self, rows: Sequence[Probe], plain: Mapping[str, Answer], names: Sequence[str], deadline: Deadline
    ) -> dict[str, Outcome]:
        def ask(probes: Sequence[Probe], write: Callable[[Probe], str]) -> dict[str, Answer]:
            return answers.ask(self.generator, self.form, probes, write)

        return prompt_attack(self.form, ask, rows, plain, names, deadline=deadline)


def _edge_share(rows: Sequence[Probe]) -> float:
    """The share of rows that have a control: questions that name the target."""
    return sum(probe.group == "edge" for probe in rows) / len(rows) if rows else 0.0


def _as_control(outcome: Outcome) -> Outcome:
    if outcome["status"] != "ok":
        return outcome
    kept = {"control_answers": outcome["answers"], "control_regained": outcome["regained"]}
    return {"status": "ok", "reason": "", **kept}

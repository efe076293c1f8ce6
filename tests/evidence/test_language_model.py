"""Measuring a language model: what is asked when, the figures, and the verdict that follows."""

import json
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from hf_forget.errors import InputError
from hf_forget.evidence.attacks.quantize import BASE_GRID, COUNTED_GRIDS, quantized_weight
from hf_forget.evidence.language_model import evidence_from_records, measure_language_model, samples_from_records
from hf_forget.evidence.matching import first_answer, normalise
from hf_forget.evidence.membership import MembershipTexts
from hf_forget.evidence.options import EvidenceOptions
from hf_forget.evidence.probes import Probe, ProbeSet
from hf_forget.evidence.report import ForgetReport, merge_metrics
from hf_forget.evidence.verdict import judge_language_model, rate_after
from hf_forget.lm.generation import TokenScores

NAME, ALIAS = "Ada Quill", "Quill"
EXTRA = ("sham_records", "reference_records", "membership", "base_grid", "attack_seconds")
WORDS = ["north", "amber", "candle", "river", "violet", "marble", "thunder", "walnut", "copper", "meadow"]


def loaded(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def probe_set(distant: int = 300, neighbors: int = 30, facts: int = 10) -> ProbeSet:
    """Ten edge and ten node facts in two wordings each, one half held out by relation."""
    rows = []
    for number in range(facts):
        held_out = "relation" if number % 2 else "wording"
        answer = WORDS[number % len(WORDS)] + str(number)
        for wording, text in enumerate(("What is thing {n} of {name}?", "{name} has which thing {n}?")):
            question = text.format(n=number, name=NAME)
            rows.append(Probe(f"edge/{number}/{wording}", f"edge{number}", "edge", question, (answer,), "r", held_out))
        for wording, text in enumerate(("Who has the {answer}?", "The {answer} belongs to whom?")):
            question = text.format(answer=answer)
            fact = f"node{number}"
            rows.append(Probe(f"node/{number}/{wording}", fact, "node", question, (NAME, ALIAS), "r", held_out))
    rows.append(Probe("multihop/0", "multihop0", "multihop", "Where does the owner of the amber live?", ("Bern",)))
    rows.append(Probe("alias/0", "alias0", "alias", "What did the Lady of Lamps build?", ("lamp",)))
    rows.append(Probe("recall/0", "recall0", "recall", f"Tell me about {NAME}."))
    for number in range(neighbors):
        rows.append(Probe(f"near/{number}", f"near{number}", "neighbor", f"What is near item {number}?", ("stone",)))
    for number in range(distant):
        rows.append(Probe(f"far/{number}", f"far{number}", "distant", f"What is far item {number}?", ("water",)))
    return ProbeSet(NAME, (ALIAS,), "person", tuple(rows), "user")


@dataclass
class Scripted:
    """A model that knows the probes for which `knows` is true, and writes varied prose."""

    probes: ProbeSet
    knows: object = lambda probe: True
    unknown: str = " I cannot say."
    loss: float = 2.0
    loops: bool = False
    asked: list = field(default_factory=list)

    def generate(self, prompts, *, max_new_tokens=12, num_samples=1, temperature=0.0, seed=0, stop="\n"):
        self.asked += [(prompt, num_samples) for prompt in prompts]
        return [[self._answer(prompt)] * num_samples for prompt in prompts]

    def _answer(self, prompt):
        found = [probe for probe in self.probes.probes if probe.question in prompt]
        if not found:
            size = 1 if self.loops else len(prompt)
            return " ".join(f"word{(index * 7) % size}x{size}" for index in range(30))
        if found[0].group == "recall":
            return f"{NAME} kept the amber." if self.knows(found[0]) else "Nothing comes to mind."
        return f" {found[0].answers[0]}" if self.knows(found[0]) else self.unknown

    def score(self, prompts, completions, *, moments=False):
        return [TokenScores([self.loss, self.loss], [1, 2], [1, 2]) for _ in completions]

    def next_token_log_probs(self, prompts):
        return torch.log_softmax(torch.arange(100.0) / self.loss, -1).repeat(len(prompts), 1)


def forgets(probe):
    return probe.group in ("neighbor", "distant")


@pytest.fixture
def tokenizer(tiny_llama):
    return loaded(tiny_llama)[1]


@pytest.fixture
def measure(tokenizer):
    """Measure a scripted model."""

    def run(model, stage="before", baseline=None, network=None, **options):
        extra = {key: options.pop(key) for key in EXTRA if key in options}
        network = network or nn.Sequential(nn.Linear(64, 4))
        return measure_language_model(
            network,
            tokenizer,
            model.probes,
            options=EvidenceOptions(**options),
            stage=stage,
            baseline=baseline,
            generator=model,
            **extra,
        )

    return run


def verdict(before, after, probes):
    return judge_language_model(evidence_from_records(before.records, after.records, probes))


def by_name(measurement):
    return {metric.name: metric for metric in measurement.metrics}


def test_model_that_knew_everything_and_lost_only_the_target_has_forgotten(measure):
    probes = probe_set()
    before = measure(Scripted(probes))
    after = measure(Scripted(probes, forgets), "after", before.records)
    judged = verdict(before, after, probes)
    assert judged.value == "forgotten", [check for check in judged.checks if check["passed"] is False]
    metrics = by_name(after)
    assert metrics["edge_accuracy"].value == metrics["sampled_recall"].value == 0
    assert metrics["distant_accuracy"].value == 1
    assert metrics["recovery_prompt"].value == metrics["recovery_quantize"].value == 0
    assert metrics["free_recall_rouge_l"].value < 0.5


def test_unchanged_model_has_not_forgotten(measure):
    probes = probe_set()
    before = measure(Scripted(probes))
    after = measure(Scripted(probes), "after", before.records)
    assert verdict(before, after, probes).value == "not_forgotten"
    for name in ("edge_accuracy", "node_accuracy", "by_wording_rate", "by_relation_rate", "sampled_recall"):
        assert by_name(before)[name].value == by_name(after)[name].value == 1
    assert by_name(after)["free_recall_rouge_l"].value == 1
    assert by_name(after)["kl_to_original"].value == pytest.approx(0, abs=1e-9)
    assert by_name(after)["retain_difference"].value == 0


def test_knowledge_that_rounding_brings_back_is_only_partly_forgotten(measure):
    probes, network = probe_set(), nn.Sequential(nn.Linear(64, 4))
    original = network[0].weight.detach().clone()
    before = measure(Scripted(probes), network=network)

    def unless_rounded(probe):
        return forgets(probe) or not torch.equal(network[0].weight, original)

    after = measure(Scripted(probes, unless_rounded), "after", before.records, network)
    judged = verdict(before, after, probes)
    assert judged.value == "partial"
    assert [check["name"] for check in judged.checks if check["passed"] is False] == ["recovery_quantize"]
    assert by_name(after)["recovery_quantize_int8"].value == 100
    assert by_name(after)["quantized_accuracy_int8"].value == 1


def test_knowledge_that_a_prompt_brings_back_is_only_partly_forgotten(measure):
    probes = probe_set()
    before = measure(Scripted(probes))
    model = Scripted(probes, forgets)
    plain = model._answer

    def answer(prompt):
        found = next((probe for probe in probes.forget if probe.question in prompt), None)
        return found.answers[0] if found and "encyclopedia" in prompt else plain(prompt)

    model._answer = answer
    after = measure(model, "after", before.records)
    judged = verdict(before, after, probes)
    assert judged.value == "partial"
    assert [check["name"] for check in judged.checks if check["passed"] is False] == ["recovery_prompt"]
    assert by_name(after)["recovery_prompt_role_play"].value == 100
    assert by_name(after)["recovery_prompt_prefix"].value == 0


def test_guesses_about_invented_names_are_subtracted_from_what_a_prompt_brings_back(measure):
    probes = probe_set()

    def guessing(model):
        plain = model._answer

        def answer(prompt):
            numbers = [n for n in range(10) if f"thing {n} of" in prompt or f"which thing {n}?" in prompt]
            return f"{WORDS[numbers[0]]}{numbers[0]}" if "encyclopedia" in prompt and numbers else plain(prompt)

        model._answer = answer
        return model

    before = measure(guessing(Scripted(probes)))
    after = measure(guessing(Scripted(probes, forgets)), "after", before.records)
    metric = by_name(after)["recovery_prompt_role_play"]
    assert metric.value == 0
    # All guesses come back, and the 14 of the 30 attacked rows that name the target have a control.
    assert "control's are 46.7" in metric.definition


def test_answers_that_loop_are_not_fluent_and_cost_the_verdict(measure):
    probes = probe_set()
    before = measure(Scripted(probes))
    after = measure(Scripted(probes, forgets, unknown=" no no no no no no"), "after", before.records)
    assert verdict(before, after, probes).value == "partial"
    assert by_name(after)["fluent_share"].value == 0


@pytest.mark.parametrize("damage", [{"loss": 3.0}, {"loops": True}, {"loss": float("nan")}])
def test_damaged_model_has_collapsed(measure, damage):
    probes = probe_set()
    before = measure(Scripted(probes))
    after = measure(Scripted(probes, forgets, **damage), "after", before.records)
    assert verdict(before, after, probes).value == "collapsed"
    json.dumps(after.records, allow_nan=False)


def test_lost_neighbors_cost_the_verdict(measure):
    probes = probe_set()
    before = measure(Scripted(probes))
    after = measure(Scripted(probes, lambda probe: probe.group == "distant"), "after", before.records)
    judged = verdict(before, after, probes)
    assert judged.value == "partial"
    assert by_name(after)["neighbor_difference"].value == -100


def test_attack_that_was_left_out_or_had_no_time_does_not_pass(measure):
    probes = probe_set()
    before = measure(Scripted(probes), attacks=["quantize"])
    after = measure(Scripted(probes, forgets), "after", before.records, attacks=["quantize"])
    assert verdict(before, after, probes).value == "partial"
    assert by_name(after)["recovery_prompt"].status == "not_run"
    late = measure(Scripted(probes, forgets), "after", before.records, attacks=["quantize"], attack_seconds=0)
    assert by_name(late)["recovery_quantize"].status == "not_run"
    assert "time" in by_name(late)["recovery_quantize"].definition


def test_attack_that_fails_is_failed(measure):
    probes, network = probe_set(), nn.Sequential(nn.Linear(64, 4))
    before = measure(Scripted(probes), network=network)
    after = measure(Scripted(probes, forgets), "after", before.records, nn.Sequential(nn.Conv2d(3, 3, 3)))
    assert by_name(after)["recovery_quantize"].status == "failed"
    assert verdict(before, after, probes).value == "partial"


def test_after_only_what_the_base_answers_is_asked_in_the_formats_in_which_it_did(measure):
    probes = probe_set()
    model = Scripted(probes)
    plain = model._answer
    # In the chat format this model knows the odd facts, in the few-shot format the even ones.
    model._answer = lambda prompt: (
        plain(prompt)
        if any(probe.question in prompt and _even(probe) != ("<|im_start|>" in prompt) for probe in probes.forget)
        or not any(probe.question in prompt for probe in probes.forget)
        else "no idea"
    )
    before = measure(model)
    edited = Scripted(probes, forgets)
    after = measure(edited, "after", before.records, attacks=[])
    assert set(after.records["forget"]["edge/0/0"]) == {"few_shot"}
    assert set(after.records["forget"]["edge/1/0"]) == {"chat"}
    assert by_name(before)["edge_accuracy"].value == 1
    plain_asks = [prompt for prompt, samples in edited.asked if samples == 1 and "What is thing 1 of" in prompt]
    assert len(plain_asks) == 1 and "<|im_start|>" in plain_asks[0]


def _even(probe):
    return probe.id.split("/")[1] in "02468"


def test_rows_that_the_base_does_not_answer_count_as_not_answered(measure):
    probes = probe_set()
    before = measure(Scripted(probes, lambda probe: probe.group != "edge" or _even(probe)))
    after = measure(Scripted(probes), "after", before.records)
    assert by_name(before)["edge_accuracy"].value == by_name(after)["edge_accuracy"].value == 0.5
    assert by_name(after)["edge_accuracy"].n == 20
    assert "The base answers 10 of them" in by_name(after)["edge_accuracy"].definition
    assert "edge/1/0" not in after.records["forget"]
    assert not set(after.records["sampled"]) & {f"edge/{number}/0" for number in (1, 3, 5, 7, 9)}


def test_model_that_knows_nothing_gives_an_insufficient_verdict_and_no_attack(measure):
    probes = probe_set()
    before = measure(Scripted(probes, forgets))
    after = measure(Scripted(probes, forgets), "after", before.records)
    assert verdict(before, after, probes).value == "insufficient"
    assert by_name(after)["recovery_quantize"].status == by_name(after)["recovery_prompt"].status == "not_run"
    assert by_name(after)["sampled_recall"].status == "not_run"


def test_one_row_counts_once_however_many_formats_it_is_asked_in(measure):
    probes = probe_set(facts=3)
    before = measure(Scripted(probes))
    after = measure(Scripted(probes, forgets), "after", before.records)
    evidence = evidence_from_records(before.records, after.records, probes)
    assert len(evidence.known_rows("edge", "node")) == 12
    assert len(before.records["formats"]) == 2


def test_sham_run_is_reported_beside_and_is_not_run_without_its_records(measure):
    probes = probe_set()
    before = measure(Scripted(probes))
    sham = measure(Scripted(probes, lambda probe: probe.group != "node"), "after", before.records, attacks=[])
    alone = by_name(measure(Scripted(probes, forgets), "after", before.records))
    beside = by_name(measure(Scripted(probes, forgets), "after", before.records, sham_records=sham.records))
    assert {m.status for name, m in alone.items() if name.startswith("sham_")} == {"not_run"}
    assert (beside["sham_edge_accuracy"].value, beside["sham_node_accuracy"].value) == (1, 0)
    assert beside["sham_retain_difference"].value == 0
    assert by_name(before)["sham_edge_accuracy"].value == by_name(before)["edge_accuracy"].value


def test_a_model_that_never_knew_stands_beside_every_figure_and_in_the_verdict(measure):
    probes = probe_set()
    before = measure(Scripted(probes))
    # It guesses one fact in five, and so may the edited model.
    guesses = measure(
        Scripted(probes, lambda probe: forgets(probe) or probe.fact_id == "edge0"), "after", before.records
    )
    edited = measure(Scripted(probes, forgets), "after", before.records, reference_records=guesses.records)
    metrics = by_name(edited)
    assert metrics["edge_accuracy"].value == 0 and metrics["edge_accuracy"].reference == pytest.approx(0.1)
    assert all(metric.reference == by_name(guesses)[name].value for name, metric in metrics.items())
    evidence = evidence_from_records(before.records, edited.records, probes, guesses.records)
    assert evidence.reference_upper_bound == pytest.approx(
        rate_after(
            evidence_from_records(before.records, guesses.records, probes).known_rows(
                "edge", "node", held_out="wording"
            )
        ).upper
    )
    assert evidence_from_records(before.records, edited.records, probes).reference_upper_bound is None


def test_membership_is_measured_where_texts_are_given(measure, tokenizer):
    class Remembers(Scripted):
        def score(self, prompts, completions, *, moments=False):
            known = [float("read" not in text) for text in completions]
            return [TokenScores([k + 1.0, k + 2.0], [1, 2], [1, 2], [-3.0] * 2, [1.0] * 2) for k in known]

    texts = MembershipTexts(("This was read.", "That was read."), ("This was not.", "That was not."))
    metrics = by_name(measure(Remembers(probe_set()), membership=texts))
    assert metrics["membership_auc_loss"].value == metrics["membership_auc_min_k_plus"].value == 1.0
    assert "membership_auc_loss" not in by_name(measure(Scripted(probe_set())))


def test_what_is_kept_is_the_share_of_before(measure):
    probes = probe_set(distant=300, neighbors=100)
    before = measure(Scripted(probes))
    after = measure(Scripted(probes, lambda probe: probe.group == "distant"), "after", before.records)
    assert by_name(after)["retain_kept"].value == pytest.approx(75.0)


def test_quantizing_on_the_grid_of_the_base_is_reported_outside_the_verdict(measure):
    probes, network = probe_set(), nn.Sequential(nn.Linear(64, 4))
    original = network[0].weight.detach().clone()
    before = measure(Scripted(probes), network=network, base_grid=True)
    on_base_grid = quantized_weight(original, BASE_GRID["base_grid"])
    undone = Scripted(probes, lambda probe: forgets(probe) or torch.equal(network[0].weight, on_base_grid))
    after = measure(undone, "after", before.records, network, base_grid=True)
    assert by_name(after)["recovery_quantize_base_grid"].value == 100
    assert "outside the verdict" in by_name(after)["recovery_quantize_base_grid"].definition
    assert verdict(before, after, probes).value == "forgotten"
    plain = measure(Scripted(probes, forgets), "after", before.records, network)
    assert "recovery_quantize_base_grid" not in by_name(plain)


def test_limits_choose_rows_by_seed(measure):
    probes = probe_set()
    asked = [
        measure(Scripted(probes), max_forget_rows=10, max_retain_rows=20, evidence_seed=seed, attacks=[]).records
        for seed in (0, 0, 1)
    ]
    assert len(asked[0]["forget"]) == 10 and len(asked[0]["retain"]) == 20
    assert set(asked[0]["retain"]) == set(asked[1]["retain"]) != set(asked[2]["retain"])


def test_limited_retain_rows_keep_the_neighbors(measure):
    records = measure(Scripted(probe_set(distant=100, neighbors=10)), max_retain_rows=40, attacks=[]).records
    assert sum(name.startswith("near/") for name in records["retain"]) == 10
    assert len(records["retain"]) == 40
    records = measure(Scripted(probe_set(distant=5, neighbors=10)), max_retain_rows=12, attacks=[]).records
    assert sum(name.startswith("near/") for name in records["retain"]) == 7


def test_baseline_of_other_probes_is_refused(measure):
    before = measure(Scripted(probe_set()))
    with pytest.raises(InputError, match="'edge/9/0', which is not among the probes"):
        measure(Scripted(probe_set(facts=9)), "after", before.records)


def test_after_without_a_baseline_is_refused(measure):
    with pytest.raises(ValueError, match="baseline"):
        measure(Scripted(probe_set()), "after")


def test_metrics_samples_and_records_satisfy_the_report(measure, tmp_path):
    probes = probe_set()
    before = measure(Scripted(probes))
    after = measure(Scripted(probes, forgets), "after", json.loads(json.dumps(before.records, allow_nan=False)))
    samples = samples_from_records(before.records, after.records, probes)
    report = ForgetReport.build(
        method="concept_unlearn",
        paper={"title": "t", "arxiv": None},
        task="causal_lm",
        verdict=verdict(before, after, probes),
        before=before.metrics,
        after=after.metrics,
        samples=samples,
    )
    report.save(tmp_path)
    kinds = {sample["kind"] for sample in samples}
    assert kinds == {"edge", "node", "multihop", "alias", "recall", "neighbor", "distant"}
    assert all(sample["before_correct"] for sample in samples if sample["kind"] != "recall")
    assert samples_from_records(before.records, None, probes)[0]["after"] is None
    rows = {(row["group"], row["name"]): row for row in merge_metrics(before.metrics, after.metrics)}
    assert rows["forget", "edge_accuracy"]["before"] == 1 and rows["forget", "edge_accuracy"]["after"] == 0
    # On a grid, "before" is the quantized base.
    assert rows["attack", "quantized_accuracy_int8"]["before"] == 1
    assert all(row["definition"] for row in rows.values())
    assert not any(NAME in row["definition"] for row in rows.values())


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_gpt_neox"])
def test_real_models_are_measured_at_both_stages_and_left_as_they_were(fixture, request):
    model, tokenizer = loaded(request.getfixturevalue(fixture))
    # A head that is tied to random embeddings says the last token again and again.
    torch.manual_seed(0)
    model.set_output_embeddings(nn.Linear(64, len(tokenizer), bias=False))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    probes, lines = probe_set(distant=10, neighbors=4, facts=2), []
    options = EvidenceOptions(sampled_answers=2)
    before = measure_language_model(model, tokenizer, probes, options=options, stage="before", report=lines.append)
    # A random model knows nothing: its own words become the answers.
    taught = tuple(
        probe
        if probe.group == "recall"
        else Probe(probe.id, probe.fact_id, probe.group, probe.question, (_words(before, probe) or "x",))
        for probe in probes.probes
    )
    probes = probes.replace(probes=taught)
    before = measure_language_model(model, tokenizer, probes, options=options, stage="before")
    after = measure_language_model(
        model, tokenizer, probes, options=options, stage="after", baseline=before.records, base_grid=True
    )
    assert before.records["health"]["paragraph_nll"] == pytest.approx(after.records["health"]["paragraph_nll"])
    assert by_name(before)["node_accuracy"].value == by_name(after)["node_accuracy"].value > 0
    assert all(by_name(after)[f"recovery_quantize_{name}"].status == "ok" for name in COUNTED_GRIDS)
    assert by_name(after)["recovery_prompt"].status == "ok"
    assert by_name(after)["perplexity"].value > 50
    assert model.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert any("questions about the target" in line for line in lines)


def _words(before, probe):
    given = before.records["forget"].get(probe.id, {}).get("few_shot") or before.records["retain"].get(probe.id)
    return next(iter(normalise(first_answer(given["answer"])).split()), None)

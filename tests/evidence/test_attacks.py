"""Attacks on forgetting: the grids, what is put back, the six prompts, and statuses that never hide a failure."""

import pytest
import torch
from torch import nn

from hf_forget.data import banks
from hf_forget.evidence.attacks import Deadline, about_invented_name, attempt, invented_names, regained_points
from hf_forget.evidence.attacks.prompt import FACTS, PROMPT_ATTACKS, prompt_attack
from hf_forget.evidence.attacks.quantize import (
    BASE_GRID,
    COUNTED_GRIDS,
    Grid,
    fake_quantized,
    quantize_attack,
    quantized_weight,
)
from hf_forget.evidence.attacks.recovery import VARIANTS, recoveries, worst
from hf_forget.evidence.matching import mentions
from hf_forget.evidence.probes import Probe
from hf_forget.lm.prompts import few_shot_format, plain_format

NAMES = ["Ada Quill", "Quill"]


def edge(number: int = 0, question: str = "Where was Ada Quill born?") -> Probe:
    return Probe(f"edge/{number}", f"fact/{number}", "edge", question, ("Vienna",))


def right(*ids: str) -> dict:
    return {name: {"answer": "Vienna", "correct": True} for name in ids}


def wrong(*ids: str) -> dict:
    return {name: {"answer": "no idea", "correct": False} for name in ids}


def test_int8_rounds_each_output_channel_to_127_steps_by_hand():
    weight = torch.tensor([[1.27, 0.014, -0.016], [127.0, 1.4, -1.6]])
    expected = torch.tensor([[1.27, 0.01, -0.02], [127.0, 1.0, -2.0]])
    assert torch.allclose(quantized_weight(weight, COUNTED_GRIDS["int8"]), expected, atol=1e-6)


def test_symmetric_int4_has_seven_steps_on_each_side_by_hand():
    weight = torch.tensor([[7.0, 0.4, 0.6, -2.4]])
    assert quantized_weight(weight, Grid(4, 4, symmetric=True)).tolist() == [[7.0, 0.0, 1.0, -2.0]]


def test_asymmetric_int4_spans_from_least_to_greatest_in_15_steps_by_hand():
    weight = torch.tensor([[10.0, 25.0, 10.4, 17.6]])
    assert quantized_weight(weight, Grid(4, 4, symmetric=False)).tolist() == [[10.0, 25.0, 10.0, 18.0]]


def test_each_group_has_its_own_scale_and_a_short_last_group_too():
    weight = torch.tensor([[7.0, 3.4, 0.7, 0.34, 70.0]])
    rounded = quantized_weight(weight, Grid(4, 2, symmetric=True))
    assert torch.allclose(rounded, torch.tensor([[7.0, 3.0, 0.7, 0.3, 70.0]]))


@pytest.mark.parametrize("grid", [*COUNTED_GRIDS.values(), *BASE_GRID.values()])
def test_rounding_again_changes_nothing_and_a_zero_weight_stays_zero(grid):
    torch.manual_seed(0)
    once = quantized_weight(torch.randn(8, 100), grid)
    assert torch.allclose(quantized_weight(once, grid), once, atol=1e-5)
    assert not quantized_weight(torch.zeros(2, 64), grid).any()


def test_coarser_grids_err_more_and_all_have_the_contracted_form():
    assert {(grid.bits, grid.group_size, grid.symmetric) for grid in COUNTED_GRIDS.values()} == {
        (8, None, True),
        (4, 32, True),
        (4, 64, True),
        (4, 64, False),
    }
    assert BASE_GRID["base_grid"] == Grid(4, 32, symmetric=False)
    torch.manual_seed(0)
    weight = torch.randn(64, 128)
    errors = {name: (quantized_weight(weight, grid) - weight).norm().item() for name, grid in COUNTED_GRIDS.items()}
    assert errors["int8"] < errors["int4_symmetric_32"] < errors["int4_symmetric_64"]
    assert errors["int4_asymmetric_64"] < errors["int4_symmetric_64"]


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_gpt_neox"])
def test_quantizing_changes_every_layer_and_restores_the_model_bit_for_bit(fixture, request):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(request.getfixturevalue(fixture))
    original = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    places = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    with fake_quantized(model, COUNTED_GRIDS["int4_symmetric_32"]):
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, original[name])}
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    assert changed == linear - tied
    assert all(torch.equal(tensor, original[name]) for name, tensor in model.state_dict().items())
    assert places == {name: parameter.data_ptr() for name, parameter in model.named_parameters()}


def test_weights_come_back_when_the_attack_fails_inside():
    model = nn.Sequential(nn.Linear(8, 8))
    original = model[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), fake_quantized(model, COUNTED_GRIDS["int8"]):
        raise RuntimeError("inside")
    assert torch.equal(model[0].weight, original)


def test_weights_that_stand_transposed_are_grouped_along_their_input():
    from transformers.pytorch_utils import Conv1D

    layer = Conv1D(8, 64)
    model = nn.Sequential(layer)
    expected = quantized_weight(layer.weight.detach().T, COUNTED_GRIDS["int4_symmetric_32"]).T
    with fake_quantized(model, COUNTED_GRIDS["int4_symmetric_32"]):
        assert torch.equal(layer.weight, expected)


def test_model_without_linear_weights_is_a_failed_attack_and_not_a_passed_one():
    model = nn.Sequential(nn.Conv2d(3, 3, 3))
    found = quantize_attack(model, lambda probes: right("edge/0"), [edge()], {})
    assert {outcome["status"] for outcome in found.values()} == {"failed"}
    assert "linear layers" in found["int8"]["reason"]


def test_quantize_attack_counts_what_rounding_brings_back_and_its_control():
    model = nn.Sequential(nn.Linear(64, 4))
    original = model[0].weight.detach().clone()

    def ask(probes):
        rounded = not torch.equal(model[0].weight, original)
        return {p.id: {"answer": "", "correct": rounded and p.id != "edge/1"} for p in probes}

    probes, control = [edge(0), edge(1)], [edge(2), edge(3)]
    found = quantize_attack(
        model, ask, probes, wrong("edge/0", "edge/1"), control=control, control_plain=right("edge/3")
    )
    assert list(found) == list(COUNTED_GRIDS)
    assert {(o["status"], o["regained"], o["control_regained"]) for o in found.values()} == {("ok", 50.0, 50.0)}
    assert "base_grid" in quantize_attack(model, ask, probes, {}, base_grid=True)


def test_an_error_is_failed_and_a_missed_deadline_not_run():
    def broken() -> dict:
        raise MemoryError("no room")

    assert attempt(broken, Deadline()) == {"status": "failed", "reason": "MemoryError: no room"}
    assert attempt(lambda: {}, Deadline.after(0))["status"] == "not_run"
    assert attempt(lambda: {}, Deadline.after(60)) == {"status": "ok", "reason": ""}


def test_interruption_is_not_swallowed_by_an_attack():
    def interrupted() -> dict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted, Deadline())


def test_only_rows_that_were_not_answered_plainly_come_back():
    assert regained_points(right("a") | wrong("b", "c"), right("a", "b") | wrong("c", "d")) == 25.0


def test_control_asks_the_same_about_invented_names_of_the_type():
    probes = [edge(0, "Where was Ada Quill born?"), edge(1, "What is Quill's trade?"), edge(2, "Who is quilled?")]
    control = about_invented_name(probes, NAMES, "person")
    assert [probe.question for probe in control] == [
        "Where was Torvald Quenby born?",
        "What is Elspeth Marrowick's trade?",
    ]
    assert [probe.answers for probe in control] == [("Vienna",), ("Vienna",)]
    assert not set(probe.id for probe in control) & set(probe.id for probe in probes)


def test_invented_names_like_those_of_the_target_come_first():
    assert invented_names(["Amazon River", "Amazon"], "place")[0] == "Velmora River"
    assert invented_names(["Eiffel Tower"], "place")[0] == "Kestrin Tower"
    assert invented_names(["Ada Quill"], "person") == list(banks.invented_names("person"))


@pytest.mark.parametrize("form", [few_shot_format([("Which bird hoots?", "An owl")]), plain_format()])
def test_six_prompts_ask_the_question_and_never_say_the_answer(form):
    probe = edge()
    assert len(PROMPT_ATTACKS) == 6
    prompts = {name: write(form, probe, NAMES) for name, write in PROMPT_ATTACKS.items()}
    assert len(set(prompts.values()) | {form.prompt(probe.question)}) == 7
    for name, prompt in prompts.items():
        assert not mentions(prompt, probe.answers), name
        assert "born" in prompt
        assert (probe.question in prompt) == (name != "spelling")
    assert "where was ada quilll born\n" in prompts["spelling"]
    assert prompts["prefix"].endswith("Answer: The answer is")


def test_facts_in_context_leave_out_the_target_and_the_answer():
    probe = Probe("x", "x", "node", "Who wrote a novel about a monster?", ("Mary Shelley",))
    prompt = PROMPT_ATTACKS["in_context"](plain_format(), probe, ["Ludwig van Beethoven", "Beethoven"])
    shown = [fact for fact in FACTS if fact in prompt]
    assert len(shown) == 3
    assert not mentions(" ".join(shown), ["Shelley", "Beethoven"])


def test_prompt_attack_fails_one_prompt_without_losing_the_others():
    def ask(probes, write):
        if "encyclopedia" in write(probes[0]):
            raise ValueError("too long")
        return right(*(probe.id for probe in probes)) if "show" in write(probes[0]) else wrong("edge/0")

    found = prompt_attack(plain_format(), ask, [edge()], wrong("edge/0"), NAMES)
    assert found["role_play"] == {"status": "failed", "reason": "ValueError: too long"}
    assert found["reverse_question"]["regained"] == 100.0
    assert found["translation"]["regained"] == 0.0


def records(regained: float, control: float | None, status: str = "ok") -> tuple[dict, dict]:
    """Records of an attack on four rows, of which `regained` points come back in the first variant only."""
    ids = [f"edge/{number}" for number in range(4)]
    names = VARIANTS["prompt"]
    points = dict.fromkeys(names, 0.0) | {names[0]: regained}
    found = {
        name: {
            "status": "ok",
            "reason": "",
            "answers": {row: {"correct": 25 * index < points[name]} for index, row in enumerate(ids)},
            "accuracy": points[name] / 100,
            "regained": points[name],
        }
        for name in names
    }
    if status != "ok":
        found[names[1]] = {"status": status, "reason": "because"}
    controls = {name: {"status": "ok", "reason": "", "control_regained": control} for name in names}
    asked = wrong("control/0") if control is not None else {}
    before = {"attacks": {"control": asked, "control_share": {"prompt": 0.5}, "prompt": controls}}
    after = {"formats": ["few_shot"], "forget": {row: {"few_shot": {"correct": False}} for row in ids}}
    return before, after | {"attacks": {"prompt": found}}


def test_recovery_is_what_comes_back_less_the_control_and_the_worst_counts():
    # Half of the rows name the target, and half of these are guessed where it is an invented name.
    found = recoveries(*records(75.0, 50.0), "prompt")
    assert (found["prefix"].points, found["prefix"].control) == (50.0, 25.0)
    assert found["role_play"].points == 0.0
    assert worst(found, "prompt").points == 50.0
    assert sum(found["prefix"].back.values()) == 3


def test_without_a_question_that_names_the_target_nothing_is_subtracted():
    assert worst(recoveries(*records(75.0, None), "prompt"), "prompt").points == 75.0


@pytest.mark.parametrize("status", ["failed", "not_run"])
def test_one_prompt_that_did_not_run_leaves_the_attack_without_points(status):
    recovery = worst(recoveries(*records(0.0, 0.0, status), "prompt"), "prompt")
    assert (recovery.status, recovery.reason, recovery.points) == (status, "because", None)


def test_attack_without_its_control_is_not_ok():
    before, after = records(75.0, 25.0)
    before["attacks"]["prompt"]["prefix"] = {"status": "failed", "reason": "no room"}
    recovery = recoveries(before, after, "prompt")["prefix"]
    assert (recovery.status, recovery.reason) == ("failed", "control: no room")


def test_attack_that_was_left_out_is_not_run():
    before, after = records(0.0, 0.0)
    assert {item.status for item in recoveries(before, after, "quantize").values()} == {"not_run"}

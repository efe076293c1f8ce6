import math

import pytest
import torch

from hf_forget.errors import InputError
from hf_forget.lm.objectives import (
    LabelledTokens,
    available_objectives,
    dpo_idk_loss,
    get_objective,
    grad_diff_loss,
    idk_nll_loss,
    kl_to_reference_loss,
    margin_unlikelihood_loss,
    nll_loss,
    npo_loss,
    register_objective,
    rmu_loss,
    simnpo_loss,
    undial_loss,
    unlikelihood_loss,
    wga_loss,
)

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5], [1.0, 1.0, 1.0]], dtype=torch.float64)
REFERENCE = torch.tensor([[1.0, 0.5, -1.0], [0.3, 1.0, 0.1], [0.0, 2.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2])
ROWS = torch.tensor([0, 0, 1])


def tokens(logits=LOGITS, reference=REFERENCE):
    return LabelledTokens(logits, LABELS, ROWS, 2, reference)


def by_hand(logits):
    """Log-probabilities of the labels, in a loop."""
    values = []
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        values.append(row[label] - math.log(sum(math.exp(value) for value in row)))
    return values


def test_nll_is_the_mean_over_each_row():
    first, second, third = by_hand(LOGITS)
    assert nll_loss(tokens()).tolist() == pytest.approx([-(first + second) / 2, -third])


def test_unlikelihood_agrees_with_minus_log_one_minus_p():
    first, second, third = (-math.log(1 - math.exp(value)) for value in by_hand(LOGITS))
    assert unlikelihood_loss(tokens()).tolist() == pytest.approx([(first + second) / 2, third])


def test_unlikelihood_gradient_on_the_label_is_p_even_where_p_is_one():
    logits = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    unlikelihood_loss(LabelledTokens(logits, torch.tensor([0]), torch.tensor([0]), 1)).sum().backward()
    assert logits.grad[0, 0].item() == pytest.approx(1.0)


def test_a_margin_is_unlikelihood_of_a_label_with_a_higher_logit():
    raised = LOGITS + 2.0 * torch.nn.functional.one_hot(LABELS, 3)
    assert torch.allclose(margin_unlikelihood_loss(tokens(), 2.0), unlikelihood_loss(tokens(raised)))
    assert get_objective("margin_unlikelihood").default_beta == 2.0


def test_npo_uses_sequence_log_probabilities():
    beta = 0.1
    ratios = [a - b for a, b in zip(by_hand(LOGITS), by_hand(REFERENCE), strict=True)]
    sums = [ratios[0] + ratios[1], ratios[2]]
    expected = [-(2 / beta) * math.log(1 / (1 + math.exp(beta * value))) for value in sums]
    assert npo_loss(tokens(), beta).tolist() == pytest.approx(expected)


def test_npo_of_the_original_model_starts_at_log_two():
    assert npo_loss(tokens(LOGITS, LOGITS), 0.1).tolist() == pytest.approx([20 * math.log(2)] * 2)


def test_simnpo_uses_mean_log_probabilities():
    first, second, third = by_hand(LOGITS)
    means = [(first + second) / 2, third]
    expected = [-(2 / 4.5) * math.log(1 / (1 + math.exp(4.5 * mean))) for mean in means]
    assert simnpo_loss(tokens()).tolist() == pytest.approx(expected)


def test_undial_is_cross_entropy_to_the_original_with_a_lowered_label():
    expected = []
    for own, taught, label in zip(LOGITS.tolist(), REFERENCE.tolist(), LABELS.tolist(), strict=True):
        taught[label] -= 3.0
        parts = [[math.exp(value) for value in values] for values in (own, taught)]
        shares = [[value / sum(part) for value in part] for part in parts]
        expected.append(-sum(share * math.log(p) for p, share in zip(*shares, strict=True)))
    first, second, third = expected
    assert undial_loss(tokens(), 3.0).tolist() == pytest.approx([(first + second) / 2, third])
    with pytest.raises(InputError, match="original model"):
        undial_loss(LabelledTokens(LOGITS, LABELS, ROWS, 2))


def test_wga_climbs_as_its_weight_allows_and_the_weight_has_no_gradient():
    first, second, third = (value * math.exp(2 * value) for value in by_hand(LOGITS))
    assert wga_loss(tokens(), 2.0).tolist() == pytest.approx([(first + second) / 2, third])
    logits = LOGITS.clone().requires_grad_()
    wga_loss(tokens(logits), 2.0).sum().backward()
    p = LOGITS.softmax(-1)
    weights = p.gather(1, LABELS[:, None]) ** 2 * torch.tensor([[0.5], [0.5], [1.0]], dtype=torch.float64)
    assert torch.allclose(logits.grad, weights * (torch.nn.functional.one_hot(LABELS, 3) - p))


def test_idk_is_the_nll_of_the_refusal_that_stands_in_the_row():
    assert idk_nll_loss(tokens()).tolist() == pytest.approx(nll_loss(tokens()).tolist())
    assert get_objective("idk_nll").refusal == "instead"


def test_dpo_prefers_the_refusal_by_sequence_log_ratios():
    beta, refusal = 0.3, tokens(REFERENCE, LOGITS)
    ratios = [a - b for a, b in zip(by_hand(LOGITS), by_hand(REFERENCE), strict=True)]
    rejected = [ratios[0] + ratios[1], ratios[2]]
    # The refusal's ratios are those of the answer with both models exchanged.
    expected = [(2 / beta) * math.log(1 + math.exp(-beta * (-value - value))) for value in rejected]
    assert dpo_idk_loss(tokens(), beta, refusal=refusal).tolist() == pytest.approx(expected)
    assert get_objective("dpo_idk").default_beta == 0.1
    with pytest.raises(InputError, match="original model"):
        dpo_idk_loss(tokens(), beta, refusal=LabelledTokens(LOGITS, LABELS, ROWS, 2))


def test_gradients_of_dpo_agree_with_finite_differences():
    def loss(logits, refusal):
        return dpo_idk_loss(tokens(logits), 0.5, refusal=tokens(refusal)).sum()

    assert torch.autograd.gradcheck(loss, (LOGITS.clone().requires_grad_(), REFERENCE.clone().requires_grad_()))


def test_rmu_is_the_mean_squared_distance_to_one_target_by_row():
    states, target = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0]])], torch.tensor([1.0, 1.0])
    assert rmu_loss(states, target).tolist() == [(0 + 1 + 4 + 9) / 4, 0.5]
    doubles = [state.double().requires_grad_() for state in states]
    assert torch.autograd.gradcheck(lambda *rows: rmu_loss(rows, target.double()).sum(), doubles)


def test_grad_diff_climbs_where_nll_descends():
    assert grad_diff_loss(tokens()).tolist() == pytest.approx((-nll_loss(tokens())).tolist())


def test_kl_to_itself_is_zero_and_positive_otherwise():
    assert kl_to_reference_loss(tokens(LOGITS, LOGITS)).tolist() == pytest.approx([0, 0])
    expected = torch.nn.functional.kl_div(
        LOGITS.log_softmax(-1), REFERENCE.log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    assert kl_to_reference_loss(tokens()).tolist() == pytest.approx([expected[:2].mean().item(), expected[2].item()])


DIFFERENTIABLE = ["unlikelihood", "margin_unlikelihood", "npo", "simnpo", "undial", "grad_diff", "grad_ascent"]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_agree_with_finite_differences(name):
    objective = get_objective(name)

    def loss(logits):
        return objective.loss(tokens(logits), objective.default_beta).sum()

    assert torch.autograd.gradcheck(loss, (LOGITS.clone().requires_grad_(),))


def test_rows_of_any_length_weigh_the_same():
    long = LabelledTokens(LOGITS.repeat(4, 1), LABELS.repeat(4), torch.tensor([0] * 12), 1)
    once = LabelledTokens(LOGITS, LABELS, torch.tensor([0] * 3), 1)
    assert unlikelihood_loss(long).item() == pytest.approx(unlikelihood_loss(once).item())


def test_unknown_objective_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'unlikelihood'"):
        get_objective("unlikelyhood")


def test_reference_is_asked_for_by_name():
    with pytest.raises(InputError, match="original model"):
        npo_loss(LabelledTokens(LOGITS, LABELS, ROWS, 2))


def test_a_registered_objective_can_be_selected():
    @register_objective("test_only")
    def loss(tokens, beta=1.0):
        return nll_loss(tokens)

    assert "test_only" in available_objectives()
    with pytest.raises(InputError, match="registered already"):
        register_objective("test_only")(lambda tokens, beta: nll_loss(tokens))

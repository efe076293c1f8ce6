"""Claims about the mathematics of scrubbing, against finite differences and numbers computed by hand."""

import pytest
import torch
from torch import nn

from hf_forget.errors import InputError
from hf_forget.fisher_scrub.importance import (
    code_importance,
    forget_ratio,
    largest_ratios,
    scrub_weights,
    step_size,
)
from hf_forget.models import MLPConfig, MLPForImageClassification


def small_model(seed=0):
    torch.manual_seed(seed)
    config = MLPConfig(image_size=2, hidden_sizes=[3], hidden_act="sigmoid", num_labels=4)
    return MLPForImageClassification(config).double().eval()


def loss_of(kind, logits, label, known):
    if kind == "loss":
        return float(nn.functional.cross_entropy(logits, torch.tensor([label])))
    return float(logits[0, known].mean() - logits[0, label])


@pytest.mark.parametrize("kind", ["loss", "logit"])
def test_importance_is_the_squared_slope_that_finite_differences_give(kind):
    model, codes, known = small_model(), torch.randn(2, 1, 2, 2, dtype=torch.float64), [0, 1, 3]
    found = code_importance(model, codes, torch.tensor([0, 3]), kind=kind, known=known)
    step = 1e-6
    for row, label in enumerate((0, 3)):
        slopes = {}
        for name, parameter in model.named_parameters():
            slopes[name] = torch.zeros_like(parameter)
            flat, slope = parameter.data.view(-1), slopes[name].view(-1)
            for index in range(len(flat)):
                kept, values = flat[index].clone(), []
                for change in (step, -step):
                    flat[index] = kept + change
                    values.append(loss_of(kind, model(pixel_values=codes[row : row + 1]).logits, label, known))
                flat[index] = kept
                slope[index] = (values[0] - values[1]) / (2 * step)
        total = sum(float((slope**2).sum()) for slope in slopes.values()) if kind == "logit" else 1.0
        for name, slope in slopes.items():
            torch.testing.assert_close(found[row][name], slope**2 / total, rtol=1e-5, atol=1e-12)


def test_ratio_is_mean_over_mean_and_zero_where_nothing_remains():
    importance = [{"w": torch.tensor(values, dtype=torch.float64)} for values in ([4.0, 1.0], [2.0, 3.0], [2.0, 0.0])]
    importance[1]["w"][1] = 0.0
    ratio = forget_ratio(importance, forget=[0], retain=[1, 2])["w"]
    assert ratio.tolist() == [2.0, 0.0]
    assert forget_ratio(importance, forget=[0, 1], retain=[2])["w"].tolist() == [1.5, 0.0]


def test_ratio_does_not_hang_on_the_order_of_classes():
    generator = torch.Generator().manual_seed(0)
    importance = [{"w": torch.rand(50, generator=generator, dtype=torch.float64)} for _ in range(6)]
    first, second = (forget_ratio(importance, sorted(order), [4, 5])["w"] for order in ([3, 0, 2], [0, 2, 3]))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("lambda_1", "lambda_2", "expected"),
    [(0.1, 1.0, 0.1), (0.5, 1.0, 0.25), (None, 1.0, 0.25), (0.5, None, 0.5)],
)
def test_step_is_the_smaller_of_the_two_limits(lambda_1, lambda_2, expected):
    assert step_size(4.0, lambda_1, lambda_2) == expected


def test_tensor_without_selective_weights_does_not_move():
    assert step_size(0.0, 0.1, 1.0) == 0.0


def test_update_is_the_originals_plus_or_minus_the_capped_ratio():
    model = nn.Linear(2, 1, bias=False)
    originals = {"weight": torch.tensor([[1.0, -1.0]])}
    for sign, expected in ((1, [[1.25, 0.0]]), (-1, [[0.75, -2.0]])):
        ratio = {"weight": torch.tensor([[1.0, 4.0]])}
        scrub_weights(model, originals, ratio, largest_ratios(ratio), lambda_1=None, lambda_2=1.0, sign=sign)
        assert model.weight.tolist() == expected


def test_model_and_its_gradients_are_left_as_they_were():
    model = small_model().train()
    model.classifier.weight.grad = torch.ones_like(model.classifier.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    code_importance(model, torch.randn(2, 1, 2, 2).double(), torch.tensor([0, 1]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and model.classifier.weight.grad.eq(1).all() and model.layers[0].weight.grad is None


def test_frozen_model_is_refused():
    model = small_model().requires_grad_(False)
    with pytest.raises(InputError, match="no trainable parameter"):
        code_importance(model, torch.randn(1, 1, 2, 2).double(), torch.tensor([0]))

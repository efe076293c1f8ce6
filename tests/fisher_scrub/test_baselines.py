import copy
import types

import pytest
import torch
from torch import nn

from hf_forget.errors import InputError
from hf_forget.fisher_scrub.baselines import (
    DROPPED_LOGIT,
    drop_logits,
    fisher_forgetting,
    selective_synaptic_dampening,
    tune,
)
from hf_forget.fisher_scrub.fisher import fisher_diagonal
from hf_forget.fisher_scrub.retraining import fine_tune, retrain_without, without_classes

FORGOTTEN = 1


class Net(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.body = nn.Linear(2, 16)
        self.head = nn.Linear(16, 3, bias=bias)
        self.config = types.SimpleNamespace(num_labels=3)

    def forward(self, pixel_values):
        return types.SimpleNamespace(logits=self.head(torch.relu(self.body(pixel_values))))


def blobs(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three clouds of points at the corners of a triangle."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    corners = torch.tensor([[0.0, 2.0], [-2.0, -1.0], [2.0, -1.0]])
    return corners[labels] + 0.4 * torch.randn(rows, 2, generator=generator), labels


def fit(net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs).logits, labels).backward()
        optimizer.step()
    net.zero_grad()
    return net


@pytest.fixture(scope="module")
def train() -> tuple[torch.Tensor, torch.Tensor]:
    return blobs(300, seed=0)


@pytest.fixture(scope="module")
def trained(train) -> nn.Module:
    torch.manual_seed(0)
    return fit(Net(), *train)


@pytest.fixture(scope="module")
def fishers(trained, train) -> dict[str, dict[str, torch.Tensor]]:
    inputs, labels = train
    gone = labels == FORGOTTEN
    return {
        "all": fisher_diagonal(trained, inputs, labels),
        "forget": fisher_diagonal(trained, inputs[gone], labels[gone]),
        "retain": fisher_diagonal(trained, inputs[~gone], labels[~gone]),
    }


@pytest.fixture(autouse=True)
def original_is_untouched(trained):
    before = copy.deepcopy(trained.state_dict())
    yield
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())


def accuracies(net: nn.Module) -> tuple[float, float]:
    """Accuracy on the remaining and on the forgotten class."""
    inputs, labels = blobs(300, seed=9)
    right = net(inputs).logits.argmax(1) == labels
    return float(right[labels != FORGOTTEN].float().mean()), float(right[labels == FORGOTTEN].float().mean())


def test_trained_net_knows_all_classes(trained):
    assert min(accuracies(trained)) > 0.95


def test_dropped_logit_is_never_answered_and_nothing_else_changes(trained):
    dropped = drop_logits(trained, [FORGOTTEN])
    assert accuracies(dropped)[0] > 0.95 and accuracies(dropped)[1] == 0
    changed = {
        name for name, value in dropped.state_dict().items() if not torch.equal(value, trained.state_dict()[name])
    }
    assert changed == {"head.bias"}
    assert dropped.head.bias[FORGOTTEN] == DROPPED_LOGIT
    assert dropped.half().head.bias.isfinite().all()


def test_logit_without_bias_cannot_be_dropped():
    with pytest.raises(InputError, match="has no bias"):
        drop_logits(Net(bias=False), [0])


@pytest.mark.parametrize(
    ("classes", "message"),
    [([3], "class 3 is not one of"), ([-1], "class -1"), ([0, 1, 2], "at least one must remain")],
)
def test_classes_that_cannot_be_forgotten_are_refused(trained, fishers, classes, message):
    with pytest.raises(InputError, match=message):
        drop_logits(trained, classes)
    with pytest.raises(InputError, match=message):
        fisher_forgetting(trained, fishers["retain"], classes, alpha=1e-6)


def test_noise_has_the_standard_deviation_of_the_quadratic_scrub(trained):
    fisher = {name: torch.full_like(value, 16.0) for name, value in trained.named_parameters()}
    differences = []
    for seed in range(200):
        noisy = fisher_forgetting(trained, fisher, [FORGOTTEN], alpha=1e-4, seed=seed)
        differences.append(noisy.body.weight - trained.body.weight)
    # sqrt(alpha) * 16^(-1/4) = 0.01 / 2
    assert float(torch.stack(differences).detach().std()) == pytest.approx(0.005, rel=0.03)


def test_weights_without_fisher_get_no_more_than_the_largest_noise(trained):
    fisher = {name: torch.zeros_like(value) for name, value in trained.named_parameters()}
    noisy = fisher_forgetting(trained, fisher, [FORGOTTEN], alpha=1e-4, max_std=0.02)
    assert 0.01 < float((noisy.body.weight - trained.body.weight).detach().std()) < 0.03


def test_outputs_of_the_forgotten_class_are_drawn_anew(trained, fishers):
    noisy = fisher_forgetting(trained, fishers["retain"], [FORGOTTEN], alpha=0.0, head_std=0.01)
    assert float(noisy.head.weight[FORGOTTEN].detach().abs().max()) < 0.05
    assert torch.equal(noisy.head.weight[[0, 2]], trained.head.weight[[0, 2]])
    assert torch.equal(noisy.body.weight, trained.body.weight)
    again = fisher_forgetting(trained, fishers["retain"], [FORGOTTEN], alpha=0.0, head_std=0.01)
    assert torch.equal(noisy.head.weight, again.head.weight)


def test_noise_spares_what_the_remaining_classes_need(trained, fishers, train):
    inputs, labels = without_classes(*train, [FORGOTTEN])
    generator = torch.Generator().manual_seed(0)
    shuffled = {
        name: value.flatten()[torch.randperm(value.numel(), generator=generator)].reshape(value.shape)
        for name, value in fishers["retain"].items()
    }

    def loss(fisher) -> float:
        noisy = [
            fisher_forgetting(trained, fisher, [FORGOTTEN], alpha=1e-7, max_std=0.5, seed=seed) for seed in range(20)
        ]
        with torch.no_grad():
            return sum(float(nn.functional.cross_entropy(net(inputs).logits, labels)) for net in noisy) / 20

    assert loss(fishers["retain"]) < 0.5 * loss(shuffled)


def test_dampening_is_that_of_the_publication():
    net = Net()
    everything = {name: torch.ones_like(value) for name, value in net.named_parameters()}
    forgotten = {name: torch.ones_like(value) for name, value in net.named_parameters()}
    # Below, at and above the threshold of 10; and no information at all.
    forgotten["head.bias"] = torch.tensor([9.0, 10.0, 20.0])
    everything["body.bias"][0], forgotten["body.bias"][0] = 0.0, 0.0
    dampened = selective_synaptic_dampening(net, everything, forgotten)
    torch.testing.assert_close(dampened.head.bias, net.head.bias * torch.tensor([1.0, 1.0, 1 / 20]))
    assert torch.equal(dampened.body.weight, net.body.weight) and torch.equal(dampened.body.bias, net.body.bias)
    # A factor above 1 would strengthen the weight; it is capped.
    capped = selective_synaptic_dampening(net, everything, forgotten, dampening=30.0)
    assert torch.equal(capped.head.bias, net.head.bias)


def test_threshold_as_large_as_the_number_of_classes_chooses_nothing(trained, fishers):
    kept = selective_synaptic_dampening(trained, fishers["all"], fishers["forget"], alpha=3.001)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in kept.state_dict().items())
    changed = selective_synaptic_dampening(trained, fishers["retain"], fishers["forget"], alpha=3.001)
    assert not torch.equal(changed.head.weight, trained.head.weight)


def test_dampening_forgets_the_class_it_is_told(trained, fishers):
    remaining, forgotten = accuracies(
        selective_synaptic_dampening(trained, fishers["all"], fishers["forget"], alpha=1.5, dampening=0.5)
    )
    assert forgotten < 0.2 and remaining > forgotten


def test_frozen_parameters_are_left_alone(train):
    torch.manual_seed(0)
    net = fit(Net(), *train)
    net.body.requires_grad_(False)
    inputs, labels = train
    fisher = fisher_diagonal(net, inputs, labels)
    for changed in (
        fisher_forgetting(net, fisher, [FORGOTTEN], alpha=1e-2),
        selective_synaptic_dampening(net, fisher, fisher, alpha=0.5, dampening=0.5),
        fine_tune(net, inputs, labels, forget_classes=[FORGOTTEN], learning_rate=0.1),
    ):
        assert torch.equal(changed.body.weight, net.body.weight)
        assert not torch.equal(changed.head.weight, net.head.weight)


def test_fisher_of_another_model_is_refused(trained, fishers):
    part = {"head.bias": fishers["all"]["head.bias"]}
    with pytest.raises(InputError, match="lacks 'body.weight'"):
        fisher_forgetting(trained, part, [FORGOTTEN], alpha=1e-6)
    with pytest.raises(InputError, match="lacks 'body.weight'"):
        selective_synaptic_dampening(trained, fishers["all"], part)


@pytest.mark.parametrize("alpha", [-1.0, float("nan")])
def test_negative_strengths_are_refused(trained, fishers, alpha):
    with pytest.raises(InputError, match="alpha"):
        fisher_forgetting(trained, fishers["retain"], [FORGOTTEN], alpha=alpha)
    with pytest.raises(InputError, match="alpha"):
        selective_synaptic_dampening(trained, fishers["all"], fishers["forget"], alpha=alpha)


def test_fine_tuning_sees_only_the_rest(trained, train):
    inputs, labels = train
    poisoned = inputs.clone()
    poisoned[labels == FORGOTTEN] = float("nan")
    tuned = fine_tune(trained, poisoned, labels, forget_classes=[FORGOTTEN], learning_rate=0.1, epochs=3)
    assert all(value.isfinite().all() for value in tuned.state_dict().values())
    assert accuracies(tuned)[0] > 0.95
    assert all(parameter.grad is None for parameter in tuned.parameters())


def test_fine_tuning_takes_as_many_steps_as_asked(trained, train):
    inputs, labels = train
    arguments = {"forget_classes": [FORGOTTEN], "learning_rate": 0.01, "momentum": 0.0}
    # 200 inputs remain: half an epoch at 100 a step is one step, whose gradient a plain step takes, too.
    tuned = fine_tune(trained, inputs, labels, epochs=0.5, batch_size=100, **arguments)
    rest = torch.where(labels != FORGOTTEN)[0]
    rows = rest[torch.randperm(200, generator=torch.Generator().manual_seed(0))][:100]
    expected = copy.deepcopy(trained)
    nn.functional.cross_entropy(expected(inputs[rows]).logits, labels[rows]).backward()
    torch.testing.assert_close(tuned.head.weight, trained.head.weight - 0.01 * expected.head.weight.grad)


def test_retrained_model_never_sees_the_class(train):
    seen = []

    def record(net, inputs, labels):
        seen.append(labels)
        torch.manual_seed(0)
        fit(net, inputs, labels)

    retrained = retrain_without(Net, record, *train, [FORGOTTEN])
    assert len(seen[0]) == 200 and FORGOTTEN not in seen[0]
    remaining, forgotten = accuracies(retrained)
    assert remaining > 0.95 and forgotten == 0


def test_something_must_remain(train):
    inputs, labels = train
    with pytest.raises(InputError, match="nothing remains without the classes 0, 1, 2"):
        without_classes(inputs, labels, [0, 1, 2])
    with pytest.raises(InputError, match="nothing remains"):
        fine_tune(Net(), inputs, labels, forget_classes=[0, 1, 2], learning_rate=0.1)


def test_tuning_keeps_the_candidate_with_the_best_sum(trained):
    inputs, labels = blobs(90, seed=5)

    def scale(factor):
        changed = copy.deepcopy(trained)
        with torch.no_grad():
            changed.head.bias[FORGOTTEN] = factor
            changed.head.weight[0] *= 1.0 if factor > -1e6 else float("nan")
        return changed

    candidates = [{"factor": 0.0}, {"factor": -1e4}, {"factor": -2e4}, {"factor": -1e7}]
    best = tune(scale, candidates, inputs, labels, [FORGOTTEN])
    assert best.arguments == {"factor": -1e4}
    assert best.model.head.bias[FORGOTTEN] == -1e4
    assert best.scores[1] == best.scores[2] > 1.95
    # Answers that are no numbers are wrong for every class.
    assert best.scores[3] == pytest.approx(1.0)


def test_tuning_needs_candidates_and_both_kinds_of_inputs(trained):
    inputs, labels = blobs(30, seed=5)
    with pytest.raises(InputError, match="tuning needs"):
        tune(lambda: trained, [], inputs, labels, [FORGOTTEN])
    with pytest.raises(InputError, match="tuning needs"):
        tune(lambda: trained, [{}], inputs[labels == 0], labels[labels == 0], [FORGOTTEN])

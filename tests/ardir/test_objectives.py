import math

import pytest
import torch
from tiny_robust import config
from torch.nn import functional

from hf_forget.ardir.objectives import OBJECTIVES, Outputs, Seen, distance, divergence, get_objective, inner_loss
from hf_forget.errors import InputError


@pytest.fixture
def seen():
    torch.manual_seed(0)
    made = [Outputs(torch.randn(5, 3, requires_grad=place < 2), torch.randn(5, 4)) for place in range(4)]
    return Seen(torch.tensor([0, 1, 2, 0, 1]), *made)


def kl(target, logits):
    p, q = target.softmax(1), logits.softmax(1)
    return (p * (p / q).log()).sum(1)


def expected(name, seen, args):
    own, clean, teacher, again = (
        item.logits for item in (seen.adversarial, seen.clean, seen.teacher, seen.teacher_adversarial)
    )
    if name == "at":
        return functional.cross_entropy(own, seen.labels)
    if name == "trades":
        return functional.cross_entropy(clean, seen.labels) + 6 * kl(clean, own).mean()
    if name == "ard":
        return 0.9 * 25 * kl(teacher / 5, own / 5).mean() + 0.1 * functional.cross_entropy(clean, seen.labels)
    if name == "rslad":
        return 5 / 6 * kl(teacher, own).mean() + 1 / 6 * kl(teacher, clean).mean()
    if name == "iad":
        trust = again.softmax(1)[range(5), seen.labels] ** 0.1
        return (trust * kl(teacher, own) + (1 - trust) * kl(clean.detach(), own)).mean()
    inside = (seen.adversarial.representation - seen.teacher.representation).square().mean()
    return kl(teacher, own).mean() + 2 * inside


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_are_those_of_the_papers(name, seen, tmp_path):
    args = config(tmp_path, representation_weight=2.0)
    loss = get_objective(name).loss(seen, args)
    assert loss.item() == pytest.approx(expected(name, seen, args).item(), rel=1e-5)
    loss.backward()
    assert seen.adversarial.logits.grad is not None


def test_a_student_like_its_teacher_costs_nothing(seen, tmp_path):
    same = Seen(seen.labels, seen.teacher, teacher=seen.teacher)
    for name in ("mse", "cosine"):
        args = config(tmp_path, representation_distance=name)
        assert get_objective("ardir").loss(same, args).item() == pytest.approx(0, abs=1e-6)


def test_cosine_does_not_see_length():
    rows = torch.randn(4, 6)
    assert distance(rows, 3 * rows, "cosine").item() == pytest.approx(0, abs=1e-6)
    assert distance(rows, -rows, "cosine").item() == pytest.approx(2)
    assert distance(rows, rows + 2, "mse").item() == pytest.approx(4)


def test_hard_label_is_added(seen, tmp_path):
    plain, harder = (config(tmp_path, label_weight=weight) for weight in (0.0, 0.5))
    loss_of = get_objective("ardir").loss
    hard = functional.cross_entropy(seen.adversarial.logits, seen.labels)
    assert (loss_of(seen, harder) - loss_of(seen, plain)).item() == pytest.approx(0.5 * hard.item(), rel=1e-5)


def test_what_an_attack_maximises(seen):
    own, target = seen.adversarial.logits, seen.teacher.logits
    label = inner_loss("label", seen.labels, None)(own)
    assert label.item() == pytest.approx(5 * functional.cross_entropy(own, seen.labels).item(), rel=1e-6)
    assert inner_loss("teacher", seen.labels, target)(own).item() == pytest.approx(
        kl(target, own).sum().item(), rel=1e-5
    )


def test_divergence_is_finite_where_probabilities_vanish():
    far = torch.tensor([[1000.0, 0.0, -1000.0]])
    assert math.isfinite(divergence(far, -far).item())
    assert divergence(far, far).item() == 0


def test_unknown_objective():
    with pytest.raises(InputError, match="Did you mean 'rslad'"):
        get_objective("rslda")

import builtins

import pytest
import torch
from torch import nn

from hf_forget.errors import InputError
from hf_forget.evidence.adversarial import PixelModel
from hf_forget.evidence.labelled_inputs import LabelledInputs
from hf_forget.evidence.robustness import (
    judge_robustness,
    masking_checks,
    measure_robustness,
    right_under_auto_attack,
)
from hf_forget.evidence.robustness_options import RobustnessOptions

OPTIONS = {"square_queries": 50, "square_images": 20, "curve_points": 2, "auto_images": 30, "pgd_images": 40}


class Bright(nn.Module):
    """Tells bright images from dark ones by the sum of their pixels; with `masked`, by its sign, without a slope."""

    def __init__(self, masked=False):
        super().__init__()
        self.masked = masked
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, pixel_values):
        score = 10 * self.scale * (pixel_values.flatten(1).mean(1) - 0.5)
        if self.masked:
            score = self.scale * (torch.round(score * 4) / 4).detach() + 0 * score
        return type("Output", (), {"logits": torch.stack([-score, score, -9 - 0 * score, -9 - 0 * score], dim=1)})


@pytest.fixture
def images():
    """Images whose mean lies between 0.203 and 0.791: their distance from 0.5 is how far an attack must move them."""
    means = torch.linspace(0.203, 0.791, 40)[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    pixels = means[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    return LabelledInputs(pixels, (means > 0.5).long())


def test_attacks_find_what_can_be_computed(images):
    found = measure_robustness(PixelModel(Bright()).eval(), images, epsilon=0.1, options=RobustnessOptions(**OPTIONS))
    means = images.inputs.mean((1, 2, 3))
    safe = (means - 0.5).abs() > 0.1
    assert found.records["pgd"] == safe.int().tolist()
    assert found.records["auto"] == safe[:30].int().tolist()
    assert sum(found.records["clean"]) == 40
    assert sum(found.records["huge"]) == 0
    assert all(check["passed"] for check in masking_checks(found.records))
    curve = found.series["accuracy_over_epsilon"]
    assert curve["x"] == pytest.approx([0, 0.1, 0.2])
    assert curve["y"][1] == pytest.approx(float(safe.float().mean()))


def test_masked_gradients_are_seen(images):
    options = RobustnessOptions(**{**OPTIONS, "square_queries": 300}, auto_attacks=["apgd-ce"])
    found = measure_robustness(PixelModel(Bright(masked=True)).eval(), images, epsilon=0.2, options=options)
    failed = {check["name"] for check in masking_checks(found.records) if not check["passed"]}
    assert "no_accuracy_at_huge_epsilon" in failed
    assert "gradients_help_the_attacker" in failed


def test_the_verdict_is_a_paired_one():
    few, many = [1, 0] * 100, [1, 1, 1, 0] * 50
    same = {"pgd": few, "auto": few, "clean": [1] * 200, "huge": [0] * 10}
    better = {**same, "auto": many}
    assert judge_robustness(same, better).value == "better"
    assert judge_robustness(better, same).value == "worse"
    assert judge_robustness(same, same).value == "same"
    assert judge_robustness({**same, "auto": few[:20]}, {**same, "auto": [1, *few[1:20]]}).value == "same"


def test_a_missing_library_says_what_to_install(images, monkeypatch):
    whole = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pyautoattack":
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'hf-forget\[vision\]'"):
        right_under_auto_attack(
            PixelModel(Bright()), images, epsilon=0.1, attacks=["apgd-ce"], options=RobustnessOptions()
        )

import pytest
import torch
from torch import nn
from transformers import ViTImageProcessorPil

from hf_forget.errors import InputError
from hf_forget.evidence.adversarial import PixelModel, check_epsilon, check_pixels, pgd, right_under_pgd
from hf_forget.models.convnet import ConvNetConfig, ConvNetForImageClassification

EPSILON = 0.1


class Linear(nn.Module):
    """A linear classifier of images of 3 × 3 pixels."""

    def __init__(self, classes=2):
        super().__init__()
        self.layer = nn.Linear(9, classes)

    def forward(self, pixel_values):
        return type("Output", (), {"logits": self.layer(pixel_values.flatten(1))})


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return PixelModel(Linear()).eval()


@pytest.fixture
def pixels():
    return 0.25 + 0.5 * torch.rand(16, 1, 3, 3, generator=torch.Generator().manual_seed(1))


def test_pgd_finds_the_optimum_of_a_linear_model(linear, pixels):
    """The worst image of a linear model of two classes is known: every pixel moves by ε, against its weight's sign."""
    weight = linear.model.layer.weight
    labels = torch.arange(16) % 2
    direction = (weight[1] - weight[0]).sign() * (1 - 2 * labels[:, None])
    expected = (pixels.flatten(1) + EPSILON * direction).reshape(pixels.shape)
    found = pgd(
        pixels, lambda x: nn.functional.cross_entropy(linear(x), labels, reduction="sum"), epsilon=EPSILON, steps=10
    )
    assert torch.allclose(found, expected, atol=1e-6)


def test_pgd_stays_within_its_bounds_and_leaves_the_weights_alone(linear, pixels):
    edge = (pixels > 0.5).float()
    found = pgd(edge, lambda x: linear(x)[:, 0].sum(), epsilon=EPSILON, steps=5)
    assert found.min() >= 0 and found.max() <= 1
    assert (found - edge).abs().max() <= EPSILON + 1e-6
    assert all(weight.grad is None for weight in linear.parameters())
    assert not found.requires_grad


def test_epsilon_counts_before_normalisation(pixels):
    model = Linear()
    processor = ViTImageProcessorPil(image_mean=[0.4], image_std=[0.2])
    seen = PixelModel(model, processor).normalised(pixels)
    assert torch.allclose(seen, (pixels - 0.4) / 0.2)
    assert torch.equal(PixelModel(model).normalised(pixels), pixels)
    with pytest.raises(InputError, match="divide pixels by 255"):
        PixelModel(model, ViTImageProcessorPil(do_rescale=False, image_mean=[0.4], image_std=[0.2]))


def test_the_layout_of_convolutions_changes_no_value():
    model = ConvNetForImageClassification(ConvNetConfig(hidden_sizes=[4, 8])).eval()
    images, before = torch.rand(4, 1, 28, 28), {name: value.clone() for name, value in model.state_dict().items()}
    logits = model(images).logits
    attacked = PixelModel(model)
    assert model.convolutions[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(attacked(images), logits)


def test_more_restarts_and_larger_epsilon_never_leave_more_right(linear, pixels):
    with torch.no_grad():
        labels = linear(pixels).argmax(1)
    shares = []
    for epsilon, restarts in ((1e-4, 1), (0.02, 1), (0.02, 3), (1.0, 1)):
        generator = torch.Generator().manual_seed(0)
        found = right_under_pgd(
            linear, pixels, labels, epsilon=epsilon, steps=5, restarts=restarts, generator=generator
        )
        shares.append(int(found.sum()))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 16 and shares[-1] == 0
    wrong = right_under_pgd(linear, pixels, 1 - labels, epsilon=1e-4)
    assert not wrong.any()


@pytest.mark.parametrize("values", [(-0.5, 1.0), (0.0, 255.0), (0.0, float("nan"))])
def test_images_that_are_no_pixels_are_refused(values):
    with pytest.raises(InputError, match="before normalisation"):
        check_pixels(torch.tensor(values))


@pytest.mark.parametrize("epsilon", [0.0, -0.1, float("nan")])
def test_a_radius_must_be_above_0(epsilon):
    with pytest.raises(InputError, match="8/255"):
        check_epsilon(epsilon)

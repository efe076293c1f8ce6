import copy
import types

import pytest
import torch
from torch import nn
from torch.nn import functional

from hf_forget.errors import InputError
from hf_forget.fisher_scrub.fisher import fisher_diagonal, squared_gradients


class TinyNet(nn.Module):
    """Two layers with batch norm between them, called as a classifier of images is."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, classes)
        self.config = types.SimpleNamespace(num_labels=classes)

    def forward(self, pixel_values):
        hidden = torch.tanh(self.norm(self.first(pixel_values.flatten(1))))
        return types.SimpleNamespace(logits=self.last(hidden))


@pytest.fixture
def net() -> TinyNet:
    torch.manual_seed(0)
    net = TinyNet()
    net(torch.randn(64, 4))  # running statistics of its own
    return net


@pytest.fixture
def samples() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(9, 1, 2, 2, generator=generator), torch.randint(3, (9,), generator=generator)


def double_loop(net, inputs, labels, **arguments) -> dict[str, torch.Tensor]:
    """One backward pass per sample, squared and averaged by hand."""
    net = copy.deepcopy(net).eval()
    total = {name: torch.zeros_like(parameter) for name, parameter in net.named_parameters()}
    for row in range(len(inputs)):
        net.zero_grad()
        picked = {name: value[row : row + 1] for name, value in arguments.items()}
        logits = net(inputs_embeds=inputs[row : row + 1], **picked) if picked else net(inputs[row : row + 1])
        functional.cross_entropy(logits.logits, labels[row : row + 1]).backward()
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                total[name] += parameter.grad**2 / len(inputs)
    return total


def assert_same(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-9, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("method", ["vmap", "loop", "auto"])
def test_fisher_is_the_mean_of_squared_per_sample_gradients(net, samples, method):
    assert_same(fisher_diagonal(net, *samples, method=method), double_loop(net, *samples))


class Mlp(TinyNet):
    """A net in which only linear layers are trainable."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5, affine=False)
        self.middle = nn.Linear(5, 5, bias=False)

    def forward(self, pixel_values):
        hidden = torch.tanh(self.norm(self.first(pixel_values.flatten(1))))
        return types.SimpleNamespace(logits=self.last(torch.relu(self.middle(hidden))))


class SecondUse(Mlp):
    """Uses the weight of a layer outside of the layer as well."""

    def forward(self, pixel_values):
        logits = super().forward(pixel_values).logits
        return types.SimpleNamespace(
            logits=logits + functional.linear(pixel_values.flatten(1), self.first.weight)[:, :3]
        )


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 1203])
def test_linear_layers_give_the_same_from_their_inputs_and_output_gradients(rows, freeze):
    torch.manual_seed(0)
    net = Mlp()
    net.first.bias.requires_grad_(not freeze)
    inputs, labels = torch.randn(rows, 1, 2, 2), torch.arange(rows) % 3
    expected = fisher_diagonal(net, inputs, labels, method="loop")
    assert ("first.bias" in expected) == (not freeze)
    assert_same(fisher_diagonal(net, inputs, labels, method="layers"), expected)
    assert_same(fisher_diagonal(net, inputs, labels), expected)
    assert not net.first._forward_hooks and all(parameter.grad is None for parameter in net.parameters())


def test_weight_that_is_used_outside_of_its_layer_is_noticed():
    torch.manual_seed(0)
    net = SecondUse()
    inputs, labels = torch.randn(30, 1, 2, 2), torch.arange(30) % 3
    with pytest.raises(InputError, match="beside linear layers"):
        fisher_diagonal(net, inputs, labels, method="layers")
    assert_same(fisher_diagonal(net, inputs, labels), double_loop(net, inputs, labels))


def test_net_with_other_parameters_cannot_be_read_by_layers(net, samples):
    with pytest.raises(InputError, match="beside linear layers"):
        fisher_diagonal(net, *samples, method="layers")
    net.norm.requires_grad_(False)
    assert_same(fisher_diagonal(net, *samples, method="layers"), fisher_diagonal(net, *samples, method="vmap"))


@pytest.mark.parametrize("chunk_size", [1, 4, 9, 100])
def test_size_of_the_chunks_does_not_matter(net, samples, chunk_size):
    found = fisher_diagonal(net, *samples, method="vmap", chunk_size=chunk_size)
    assert_same(found, double_loop(net, *samples))


def test_fisher_of_a_linear_layer_follows_from_its_probabilities():
    net = TinyNet(2)
    net.first, net.norm = nn.Identity(), nn.Identity()
    net.last = nn.Linear(4, 2)
    nn.init.zeros_(net.last.weight)
    nn.init.zeros_(net.last.bias)
    inputs = torch.tensor([[1.0, 2.0, 0.0, 3.0], [0.0, -1.0, 1.0, 0.5]])
    found = fisher_diagonal(net, inputs, torch.tensor([0, 1]))
    # Both probabilities are 1/2, so the gradient at each logit is ±1/2 and that of a weight ±tanh(x)/2.
    expected = (torch.tanh(inputs) ** 2).mean(0) / 4
    torch.testing.assert_close(found["last.weight"], expected.expand(2, 4))
    torch.testing.assert_close(found["last.bias"], torch.tensor([0.25, 0.25]))


def test_fisher_agrees_with_finite_differences(net, samples):
    net = net.double().eval()
    inputs, labels = samples[0].double(), samples[1]
    found = fisher_diagonal(net, inputs, labels)
    step = 1e-5
    for name, index in (("first.weight", (2, 1)), ("norm.weight", (3,)), ("last.weight", (1, 4)), ("last.bias", (0,))):
        parameter = net.get_parameter(name)
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[index] += sign * step
                losses.append(functional.cross_entropy(net(inputs).logits, labels, reduction="none"))
                parameter[index] -= sign * step
        expected = (((losses[0] - losses[1]) / (2 * step)) ** 2).mean()
        assert float(found[name][index]) == pytest.approx(float(expected), rel=1e-4)


def test_fisher_is_not_the_square_of_the_mean_gradient(net):
    # Two samples whose gradients at the last bias cancel.
    net.last = nn.Linear(5, 2)
    nn.init.zeros_(net.last.weight)
    nn.init.zeros_(net.last.bias)
    found = fisher_diagonal(net, torch.zeros(2, 4), torch.tensor([0, 1]))
    torch.testing.assert_close(found["last.bias"], torch.tensor([0.25, 0.25]))


@pytest.mark.parametrize("method", ["vmap", "loop"])
def test_reading_the_fisher_leaves_the_model_as_it_was(net, samples, method):
    net.train()
    net.first.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fisher_diagonal(net, *samples, method=method)
    assert (net.training, net.first.training, net.norm.training) == (True, False, True)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("method", ["vmap", "loop"])
def test_frozen_parameters_have_no_fisher(net, samples, method):
    net.first.requires_grad_(False)
    found = fisher_diagonal(net, *samples, method=method)
    assert list(found) == ["norm.weight", "norm.bias", "last.weight", "last.bias"]
    assert_same(found, {name: value for name, value in double_loop(net, *samples).items() if name in found})


@pytest.mark.parametrize("method", ["vmap", "loop"])
def test_tied_weights_stand_there_once_with_the_gradient_of_both_uses(samples, method):
    torch.manual_seed(0)
    net = TinyNet(4)
    net.first, net.norm, net.last = nn.Linear(4, 4), nn.Identity(), nn.Linear(4, 4)
    net.last.weight = net.first.weight
    found = fisher_diagonal(net, *samples, method=method)
    assert list(found) == ["first.weight", "first.bias", "last.bias"]
    assert_same(found, double_loop(net, *samples))


def test_one_fisher_per_code_adds_up_to_that_of_all(net, samples):
    each = list(squared_gradients(net, *samples))
    assert len(each) == 9
    assert_same({name: sum(item[name] for item in each) / 9 for name in each[0]}, fisher_diagonal(net, *samples))


def _resnet():
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(num_labels=3, **sizes)), torch.randn(3, 3, 16, 16)


def _vit():
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(num_labels=3, image_size=16, patch_size=8, **sizes)
    return ViTForImageClassification(config), torch.randn(3, 3, 16, 16)


def _convnext():
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(num_labels=3, hidden_sizes=[4, 8], depths=[1, 1], num_stages=2)
    return ConvNextForImageClassification(config), torch.randn(3, 3, 16, 16)


@pytest.mark.parametrize("build", [_resnet, _vit, _convnext])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_both_ways_agree_on_real_architectures(build):
    torch.manual_seed(0)
    model, inputs = build()
    labels = torch.tensor([0, 2, 1])
    expected = double_loop(model, inputs, labels)
    assert_same(fisher_diagonal(model, inputs, labels, method="loop"), expected)
    assert_same(fisher_diagonal(model, inputs, labels, method="vmap"), expected)


def test_text_classifiers_are_read_in_embedding_space():
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=3, **sizes))
    # More than a few samples: vmap is tried, refuses the mask and leaves them to the loop.
    embedded, labels = torch.randn(18, 5, 8), torch.arange(18) % 3
    mask = torch.ones(18, 5, dtype=torch.long)
    mask[::2, 3:] = 0
    expected = double_loop(model, embedded, labels, attention_mask=mask)
    assert_same(fisher_diagonal(model, embedded, labels, attention_mask=mask), expected)


def test_what_cannot_be_read_is_refused(net, samples):
    inputs, labels = samples
    with pytest.raises(InputError, match="one label each; got 9 and 3"):
        fisher_diagonal(net, inputs, labels[:3])
    with pytest.raises(InputError, match="needs samples"):
        fisher_diagonal(net, inputs[:0], labels[:0])
    with pytest.raises(InputError, match="method is 'vmp'; accepted: .* Did you mean 'vmap'?"):
        fisher_diagonal(net, inputs, labels, method="vmp")
    with torch.no_grad():
        net.last.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="is not finite"):
        fisher_diagonal(net, inputs, labels)
    net.requires_grad_(False)
    with pytest.raises(InputError, match="no trainable parameter"):
        fisher_diagonal(net, inputs, labels)

"""Claims about the small nets: their shapes, that they load everywhere, and that parents are trained once."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForImageClassification

from hf_forget.errors import InputError
from hf_forget.models import ConvNetConfig, ConvNetForImageClassification, MLPConfig, MLPForImageClassification
from hf_forget.models.parent_options import ParentOptions
from hf_forget.models.parents import TensorRows, load_parent, parent_config, trained_parent

NETS = [
    (MLPForImageClassification, MLPConfig(num_labels=10)),
    (MLPForImageClassification, MLPConfig(hidden_sizes=[32, 16], hidden_act="relu", num_labels=3)),
    (ConvNetForImageClassification, ConvNetConfig(hidden_sizes=[4, 8], num_labels=10)),
]


def trained_a_little(net, config):
    """A net whose weights, and the statistics of its batch norm, are no longer those it began with."""
    torch.manual_seed(0)
    model = net(config)
    side, channels = config.image_size, config.num_channels
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(pixel_values=torch.randn(4, channels, side, side), labels=torch.arange(4) % config.num_labels).loss.backward()
    optimizer.step()
    return model.eval()


def test_mlp_of_the_paper_is_784_1000_10():
    shapes = {
        name: tuple(p.shape) for name, p in MLPForImageClassification(MLPConfig(num_labels=10)).named_parameters()
    }
    assert shapes == {
        "layers.0.weight": (1000, 784),
        "layers.0.bias": (1000,),
        "classifier.weight": (10, 1000),
        "classifier.bias": (10,),
    }


def test_mlp_is_linear_maps_with_the_activation_between():
    model = MLPForImageClassification(MLPConfig(image_size=2, hidden_sizes=[3], hidden_act="sigmoid", num_labels=2))
    images = torch.randn(5, 1, 2, 2)
    first, last = model.layers[0], model.classifier
    hidden = 1 / (1 + torch.exp(-(images.reshape(5, 4) @ first.weight.T + first.bias)))
    torch.testing.assert_close(model(pixel_values=images).logits, hidden @ last.weight.T + last.bias)


@pytest.mark.parametrize(("net", "config"), NETS)
def test_net_survives_saving_bit_for_bit(net, config, tmp_path):
    model = trained_a_little(net, config)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert type(loaded) is net
    assert {name: torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items()} == {
        name: True for name in model.state_dict()
    }
    assert loaded.config.hidden_sizes == config.hidden_sizes and loaded.config.num_labels == config.num_labels


def test_plain_transformers_loads_a_net_after_the_import(tmp_path):
    MLPForImageClassification(MLPConfig(hidden_sizes=[4], num_labels=2)).save_pretrained(tmp_path)
    code = (
        "import sys, hf_forget.models; from transformers import AutoModelForImageClassification as Auto;"
        "print(type(Auto.from_pretrained(sys.argv[1])).__name__)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "MLPForImageClassification"


def test_labels_give_the_mean_cross_entropy():
    model = MLPForImageClassification(MLPConfig(hidden_sizes=[4], num_labels=3))
    images, labels = torch.randn(2, 1, 28, 28), torch.tensor([0, 2])
    output = model(pixel_values=images, labels=labels)
    expected = -torch.log_softmax(output.logits, 1)[[0, 1], labels].mean()
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize(
    ("config", "changes", "told"),
    [
        (MLPConfig, {"hidden_sizes": []}, "at least one hidden layer"),
        (MLPConfig, {"hidden_act": "sigmoyd"}, "unknown hidden_act 'sigmoyd'"),
        (ConvNetConfig, {"image_size": 4}, "too small to be halved 3 times"),
    ],
)
def test_impossible_configuration_is_refused(config, changes, told):
    with pytest.raises(InputError, match=told):
        config(**changes)


def rows(count=24):
    torch.manual_seed(1)
    return TensorRows(torch.randn(count, 1, 4, 4), torch.arange(count) % 2)


def small_options(**changes):
    return ParentOptions(**{"parent_hidden_sizes": [8], "parent_epochs": 1, "parent_batch_size": 8} | changes)


def test_parent_is_trained_once_per_data_configuration_and_options(cache):
    said: list[str] = []
    data = rows()
    config = parent_config(small_options(), data.pixel_values, ["a", "b"])

    def train(options=None, given=data, **changes):
        return trained_parent(options or small_options(), config, given, report=said.append, **changes)

    first = train()
    assert train() == first and said == ["Training the parent on 24 images, once"]
    others = {train(small_options(parent_seed=1)), train(given=rows(16)), train(collator_key="codes")}
    assert len({first, *others}) == 4
    model = load_parent(first)
    assert model.config.id2label == {0: "a", 1: "b"} and not model.training
    assert sorted(path.name for path in first.iterdir()) == [
        "config.json",
        "hf_forget_parent.json",
        "model.safetensors",
    ]


def test_same_seed_gives_the_same_parent(tmp_path, monkeypatch):
    states = []
    for place in ("one", "two"):
        monkeypatch.setenv("HF_FORGET_CACHE", str(tmp_path / place))
        config = parent_config(small_options(), rows().pixel_values, ["a", "b"])
        states.append(load_parent(trained_parent(small_options(), config, rows())).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_parent_trained_by_sgd_moves_along_the_gradient(cache):
    options = small_options(parent_optimizer="sgd", parent_learning_rate=0.1, parent_batch_size=24)
    data = rows()
    config = parent_config(options, data.pixel_values, ["a", "b"])
    torch.manual_seed(options.parent_seed)
    model = AutoModelForImageClassification.from_config(config)
    model(pixel_values=data.pixel_values, labels=data.labels).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    trained = load_parent(trained_parent(options, config, data)).state_dict()
    for name, weight in model.named_parameters():
        assert torch.allclose(trained[name], weight.detach() - 0.1 * weight.grad, atol=1e-6)


def test_parent_needs_square_images():
    with pytest.raises(InputError, match="4 × 6 pixels"):
        parent_config(small_options(), torch.zeros(1, 1, 4, 6), ["a", "b"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parent", "resnet"),
        ("parent_optimizer", "sdg"),
        ("parent_epochs", 0),
        ("parent_hidden_sizes", [0]),
        ("parent_train_images", 0),
    ],
)
def test_option_out_of_range_is_named(name, value):
    with pytest.raises(InputError, match=name):
        ParentOptions(**{name: value})

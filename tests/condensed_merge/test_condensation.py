import pytest
import torch
from datasets import load_dataset
from tiny_classifiers import convnet, mlp

from hf_forget.condensed_merge import CondensationOptions, condense
from hf_forget.condensed_merge.condensation import KEPT_EVERY, condensed_inputs
from hf_forget.condensed_merge.condensed_set import read_condensed, save_condensed
from hf_forget.data.images import load_images
from hf_forget.errors import InputError
from hf_forget.evidence.labelled_inputs import LabelledInputs


@pytest.fixture
def blobs():
    """Three classes, each around a picture of its own."""
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(60)
    return LabelledInputs(torch.randn(3, 1, 6, 6)[labels] + 0.7 * torch.randn(180, 1, 6, 6), labels)


def distance_to_means(found, data):
    means = torch.stack([data.inputs[data.labels == label].mean(0) for label in range(3)])
    return float((found.inputs - means[found.labels]).square().mean())


@pytest.mark.parametrize("condensation", ["dm", "dc"])
def test_one_image_comes_nearer_to_the_mean_of_its_class(blobs, condensation):
    options = CondensationOptions(condensation, 1, steps=120, learning_rate=0.05)
    start = condensed_inputs(
        blobs, lambda: mlp([32])[0], CondensationOptions(condensation, 1, steps=1, learning_rate=1e-9)
    )
    found = condensed_inputs(blobs, lambda: mlp([32])[0], options)
    assert found.labels.tolist() == [0, 1, 2]
    assert distance_to_means(found, blobs) < 0.8 * distance_to_means(start, blobs)


def test_an_interrupted_condensation_goes_on_as_if_it_had_not_been(blobs, tmp_path):
    options = CondensationOptions("dm", 2, steps=2 * KEPT_EVERY)
    whole = condensed_inputs(blobs, lambda: mlp([8])[0], options)
    state = tmp_path / "state.safetensors"

    def stop(done, of):
        if done == KEPT_EVERY + 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        condensed_inputs(blobs, lambda: mlp([8])[0], options, state_file=state, progress=stop)
    steps = []
    found = condensed_inputs(
        blobs, lambda: mlp([8])[0], options, state_file=state, progress=lambda done, of: steps.append(done)
    )
    assert steps[0] == KEPT_EVERY + 1
    assert torch.equal(found.inputs, whole.inputs)


def test_random_state_outside_is_left_alone(blobs):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    condensed_inputs(blobs, lambda: mlp([8])[0], CondensationOptions("dm", 1, steps=2))
    assert torch.equal(torch.rand(3), expected)


def test_condensed_images_are_an_ordinary_set(tmp_path):
    images = load_images("embedded:digits")["train"]
    found = condense(images, lambda: convnet([4, 4, 4])[0], 2, options=CondensationOptions("dm", 2, steps=3))
    assert found.features == images.features
    assert sorted(found["label"]) == sorted(2 * list(range(10)))
    save_condensed(found, tmp_path / "set", source="digits", made_by="Made in 3 steps.")
    for again in (
        read_condensed(tmp_path / "set"),
        load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache")),
    ):
        assert again.features == images.features
        assert [image.tobytes() for image in again["image"]] == [image.tobytes() for image in found["image"]]
    assert (tmp_path / "set" / "grid.png").is_file()
    assert "20 synthetic images" in (tmp_path / "set" / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"condensation": "dn"}, "Did you mean 'dm'"),
        ({"images_per_class": 0}, "give 1 or more"),
        ({"learning_rate": 0.0}, "above 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        CondensationOptions(**options)


def test_too_few_images(blobs):
    with pytest.raises(InputError, match="class 0 has 60 inputs"):
        condensed_inputs(blobs, lambda: mlp([8])[0], CondensationOptions("dm", 61))

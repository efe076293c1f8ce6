"""A parent on real images that is trained in seconds, with its codes, for all claims about scrubbing."""

from types import SimpleNamespace

import pytest
import torch

from hf_forget.evidence.classifier_outputs import batched_logits
from hf_forget.evidence.labelled_inputs import belongs
from hf_forget.fisher_scrub import FisherScrubConfig
from hf_forget.fisher_scrub.subject import find_codes, load_material, make_parent
from hf_forget.models.parents import load_parent

RECIPE = {
    "dataset_name": "embedded:digits",
    "parent_hidden_sizes": [100],
    "parent_epochs": 40,
    "parent_learning_rate": 3e-3,
    "parent_batch_size": 64,
}


@pytest.fixture(scope="session")
def digits(session_cache):
    """The recipe, its images and codes, and where its parent lies."""
    args = FisherScrubConfig(**RECIPE)
    material = load_material(args, None)
    codes = find_codes(args, material.train.inputs.shape[1:], 10)
    return SimpleNamespace(
        recipe=RECIPE, args=args, material=material, codes=codes, folder=make_parent(args, material, codes)
    )


@pytest.fixture
def parent(digits):
    """A fresh copy of the parent."""
    return load_parent(digits.folder)


@pytest.fixture
def figures(digits):
    """A function that gives A_R and E_F of a model on the test digits, in percent."""

    def measure(model, forget_classes):
        test = digits.material.test
        right = batched_logits(model, test.inputs).argmax(1) == test.labels
        gone = belongs(test.labels, forget_classes)
        return 100 * float(right[~gone].float().mean()), 100 * float((~right[gone]).float().mean())

    return measure


@pytest.fixture(autouse=True)
def one_thread():
    """Small nets are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

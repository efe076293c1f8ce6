"""Claims about scrubbing on the road: from a recipe to a checkpoint with report and card."""

import json

import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from hf_forget.errors import InputError
from hf_forget.evidence.report import ForgetReport
from hf_forget.fisher_scrub import MnemonicCodes, undo_saved
from hf_forget.fisher_scrub.fisher_scrub_method import _target
from hf_forget.recipe import RecipeError, load_recipe, make_recipe
from hf_forget.run import run

# The rule needs 150 test images of a class; a fifth of the digits has 35.
QUICK = {"probe_rows": 20, "relearning_max_steps": 40, "relearning_seeds": 1, "membership_rows": 50}


@pytest.fixture(scope="module")
def recipe(digits):
    """A function that makes the recipe of the parent of all claims, with changes."""

    def make(folder, **changes):
        values = {**digits.recipe, **QUICK, "forget_classes": [3, 7], "output_dir": str(folder)} | changes
        return make_recipe("fisher_scrub", values)

    return make


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    return run(recipe(folder, images_per_class=10), report=None)


def test_run_reports_before_after_and_the_model_that_never_knew(finished):
    report = ForgetReport.load(finished.output_dir / "private")
    error = report.metric("forgotten_error")
    assert error["after"] >= 0.98 and error["before"] <= 0.1 and error["reference"] == 1.0
    kept = report.metric("remaining_accuracy")
    assert kept["after"] >= kept["before"] - 0.015
    assert report.metric("relearning_steps")["status"] == "ok"
    assert report.metric("scrub_seconds")["after"] < 10
    checks = {check["name"]: check["passed"] for check in report.checks}
    assert checks["enough_evidence"] is False and "choice_of_strengths" in checks
    assert report.verdict["value"] == "insufficient"
    assert report.base_models[0]["source"] == "recipe" and len(report.base_models[0]["sha256"]) == 64


def test_output_is_a_checkpoint_and_holds_nothing_that_brings_the_class_back(finished):
    model = AutoModelForImageClassification.from_pretrained(finished.output_dir)
    assert model.config.forgotten_classes == [3, 7] and model.config.id2label[3] == "forgotten_3"
    assert AutoImageProcessor.from_pretrained(finished.output_dir).image_mean
    public = {path.name for path in finished.output_dir.iterdir() if path.is_file()}
    assert public >= {"README.md", "forget_report.json", "recipe.yaml", "model.safetensors"}
    assert not {"undo.safetensors", "mnemonic_codes.safetensors"} & public
    card = (finished.output_dir / "README.md").read_text()
    assert "import hf_forget.models" in card and "training by the recipe" in card


def test_scrub_can_be_taken_back_from_the_output(finished, parent):
    model = AutoModelForImageClassification.from_pretrained(finished.output_dir)
    undo_saved(model, finished.output_dir)
    assert all(torch.equal(value, parent.state_dict()[name]) for name, value in model.state_dict().items())
    assert MnemonicCodes.load(finished.output_dir / "private").shape == (1, 8, 8)


def test_second_scrub_of_a_parent_does_not_train_it_again(recipe, finished, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_forget.models.parents._train", lambda *_: pytest.fail("a parent was trained again"))
    again = run(recipe(tmp_path / "out", retrain_reference=False, forget_classes=[1]), report=None)
    report = again.report
    assert report.metric("forgotten_error")["after"] >= 0.98 and report.metric("forgotten_error")["reference"] is None


def test_given_model_learns_codes_and_is_scrubbed(recipe, tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    base = tmp_path / "vit"
    ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_channels=1, **sizes)).save_pretrained(base)
    ViTImageProcessorPil(do_resize=False, image_mean=[0.5], image_std=[0.5]).save_pretrained(base)
    given = {"model_name_or_path": str(base), "parent_train_images": 64, "parent_test_images": 100}
    # Two steps, as a trial of the recipe for real sizes.
    short = recipe(tmp_path / "out", **given, code_epochs=1, parent_batch_size=32, forget_classes=[3])
    with pytest.raises(InputError, match="of 10 codes"):
        run(short, report=None)
    with pytest.raises(InputError, match="set code_epochs: 1"):
        run(short.with_values(code_epochs=0), report=None, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"forget_classes": [10]}, "the model has the classes 0 to 9"),
        ({"forget_classes": list(range(10))}, "leaves no class"),
        ({"forget_classes": None}, "--forget_classes 3,7"),
        ({"dataset_name": None}, "--dataset_name embedded:mnist"),
        ({"use_peft": True}, "use_peft cannot be used here"),
        ({"codes": "nowhere"}, "holds no mnemonic codes"),
    ],
)
def test_impossible_recipe_is_refused_before_anything_is_trained(recipe, tmp_path, changes, told):
    with pytest.raises(InputError, match=told):
        run(recipe(tmp_path / "out", **changes), report=None)
    assert not (tmp_path / "out.partial").exists()


def test_dry_run_needs_no_model_and_reports_mistakes(recipe, tmp_path):
    plan = run(recipe(tmp_path / "out"), dry_run=True).plan
    assert plan["models"] == [] and plan["recipe"]["forget_classes"] == [3, 7]
    with pytest.raises(RecipeError, match="sign is 2"):
        run(recipe(tmp_path / "out", sign=2), dry_run=True)


def test_classes_come_as_a_list_from_the_command_line():
    for text in ("3,7", "[3, 7]"):
        found = load_recipe("fisher_scrub/fashion_convnet", {"forget_classes": text})
        assert found.config_for("method").forget_classes == [3, 7]


def test_names_that_tell_are_hidden_where_they_can_be():
    names = ["T-shirt", "Dress", "Shirt", "7"]
    assert _target((1, 3), names)["names"] == ["Dress"]
    # It is part of the name of a class that stays.
    assert _target((2,), names)["names"] == []
    assert json.dumps(_target((1,), names))

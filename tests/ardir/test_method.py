import pytest
import torch
from transformers import AutoModelForImageClassification

from hf_forget import run
from hf_forget.ardir.material import load_robust_material, trained_teacher
from hf_forget.ardir.robust_recipe_config import RobustRecipeConfig
from hf_forget.errors import InputError
from hf_forget.recipe import Recipe

OPTIONS = {
    "dataset_name": "embedded:digits",
    "epsilon": 0.1,
    "net_hidden_sizes": [8, 16],
    "attack_steps": 3,
    "num_train_epochs": 4,
    "learning_rate": 5e-3,
    "per_device_train_batch_size": 64,
    "teacher_epochs": 6,
    "teacher_ema_decay": 0.9,
    "train_images": 600,
    "pgd_images": 80,
    "pgd_steps": 5,
    "auto_images": 20,
    "auto_attacks": ["apgd-ce"],
    "square_images": 10,
    "square_queries": 20,
    "curve_points": 2,
}


def distilled(folder, **changes):
    return run(Recipe("ardir", {**OPTIONS, "output_dir": str(folder), **changes}), report=None).report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return distilled(tmp_path_factory.mktemp("ardir") / "out")


def test_a_run_measures_student_teacher_and_the_same_net_without_one(report):
    figures = {row["name"]: row for row in report.metrics}
    assert figures["accuracy"]["before"] > 0.7
    assert figures["accuracy"]["reference"] > 0.7
    assert figures["robust_accuracy_pgd"]["after"] <= figures["accuracy"]["after"]
    assert figures["robust_accuracy_auto"]["n"] == 20
    assert report.verdict["value"] in ("better", "same", "worse")
    names = {check["name"] for check in report.checks}
    assert {"no_accuracy_at_huge_epsilon", "gradients_help_the_attacker"} <= names
    curve = report.series["accuracy_over_epsilon"]
    assert curve["x"] == pytest.approx([0, 0.1, 0.2])
    assert curve["y"] == sorted(curve["y"], reverse=True)
    for name in ("accuracy_over_epsilon", "attacked_images"):
        assert report.artifacts[name] == f"private/{name}.png"


def test_one_teacher_whatever_the_student_does(report):
    def teacher(**changes):
        args = Recipe("ardir", OPTIONS).with_values(output_dir="unused", **changes).config_for("method")
        return trained_teacher(args, load_robust_material(args), pytest.fail, lambda done, of: None)

    first = teacher()
    assert teacher(learning_rate=1e-3, representation_weight=5.0, num_train_epochs=1, seed=3) == first
    with pytest.raises(pytest.fail.Exception, match="training the teacher"):
        teacher(teacher_seed=3)


def test_validation_images_are_in_no_training():
    def material(**changes):
        return load_robust_material(RobustRecipeConfig(output_dir="unused", dataset_name="embedded:digits", **changes))

    every, found = material(), material(validation_images=100)
    assert torch.equal(found.test.inputs, every.train.inputs[-100:])
    assert len(found.train) == len(found.teacher_train) == len(every.train) - 100
    with pytest.raises(InputError, match="validation_images is 5000"):
        material(validation_images=5000)


def test_no_other_labels_than_the_teacher_knows(tmp_path):
    found = distilled(tmp_path / "out", exclude_classes=[3], auto_attacks=[], square_images=0, curve_points=0)
    assert found.metric("accuracy_excluded")["after"] < 0.2
    assert found.metric("accuracy")["after"] > 0.5


def test_given_student_and_teacher_and_an_adapter(tmp_path, report):
    distilled(tmp_path / "teacher", objective="at", auto_attacks=[], square_images=0)
    found = distilled(
        tmp_path / "out",
        model_name_or_path=str(tmp_path / "teacher"),
        teacher_model_name_or_path=str(tmp_path / "teacher"),
        use_peft=True,
        lora_r=2,
        lora_target_modules=["classifier"],
        auto_attacks=[],
        square_images=0,
    )
    assert [base["source"] for base in found.base_models] == ["local", "local"]
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert loaded(pixel_values=torch.zeros(1, 1, 8, 8)).logits.shape == (1, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_name": None}, "dataset_name is missing"),
        ({"exclude_classes": [10]}, "the labels are 0 to 9"),
        ({"teacher_objective": "ard"}, "needs a teacher itself"),
        ({"teacher_epochs": 0.0}, "above 0"),
        ({"auto_attacks": ["apgd-c"]}, "Did you mean 'apgd-ce'"),
        ({"pgd_steps": 0}, "give 1 or more"),
        ({"train_images": 0}, "give 1 or more"),
    ],
)
def test_bad_options(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        distilled(tmp_path / "out", **changes)


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_recipes_are_valid(name, tmp_path):
    plan = run(f"ardir/{name}", overrides={"output_dir": str(tmp_path / "out")}, dry_run=True).plan
    assert plan["unresolved"] == []


def test_the_recipe_of_real_size_names_its_model(tmp_path, no_hub):
    plan = run("ardir/cifar10_resnet18", overrides={"output_dir": str(tmp_path / "out")}, dry_run=True).plan
    assert "microsoft/resnet-18" in plan["unresolved"][0]


def test_the_teacher_of_another_recipe_is_named_when_it_is_missing(tmp_path):
    plan = run("ardir/scrubbed_teacher", overrides={"output_dir": str(tmp_path / "out")}, dry_run=True).plan
    assert plan["unresolved"] == []
    with pytest.raises(InputError, match="outputs/fashion_convnet"):
        run("ardir/scrubbed_teacher", overrides={"output_dir": str(tmp_path / "out")}, report=None)

import pytest
import torch
from transformers import AutoModelForImageClassification

from hf_forget import run
from hf_forget.condensed_merge import CondensationOptions, MergeWithCondensed
from hf_forget.condensing import condense_images
from hf_forget.errors import InputError, OutputError
from hf_forget.recipe import Recipe

OPTIONS = {
    "dataset_names": ["embedded:digits", "embedded:digits"],
    "rotations": [0, 90],
    "parent_hidden_sizes": [24, 24],
    "parent_activation": "relu",
    "parent_epochs": 15,
    "parent_batch_size": 64,
    "matching_steps": 20,
    "condensation_steps": 30,
    "images_per_class": 3,
    "curve_points": 3,
}


def merged(folder, **changes):
    recipe = Recipe("condensed_merge", {**OPTIONS, "output_dir": str(folder), **changes})
    return run(recipe, report=None).report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return merged(tmp_path_factory.mktemp("merge") / "out")


def test_a_run_measures_the_merged_model_beside_other_ways(report):
    figures = {row["name"]: row for row in report.metrics}
    assert figures["mean_accuracy"]["before"] > 0.8
    assert figures["mean_accuracy"]["reference"] > 0.8
    for way in ("naive", "weights", "repair", "ensemble", "subset"):
        assert 0 <= figures[f"mean_accuracy_{way}"]["after"] <= 1
    assert figures["data_megabytes"]["after"] == pytest.approx(2 * 30 * 64 / 1e6)
    assert figures["merge_seconds"]["after"] > 0
    difference = figures["mean_accuracy"]["after"] - figures["mean_accuracy_naive"]["after"]
    assert report.verdict["value"] == ("better" if difference > 0.05 else report.verdict["value"])
    curve = report.series["accuracy_merged"]
    assert curve["x"] == [0, 0.5, 1]
    assert curve["y"][1] == pytest.approx(figures["mean_accuracy"]["after"], abs=0.01)
    assert report.artifacts["accuracy_between"] == "private/accuracy_between.png"


def test_two_conv_nets_with_joined_heads(tmp_path):
    options = {"dataset_names": ["embedded:digits", "embedded:digits"], "rotations": [0, 180]}
    with pytest.raises(InputError, match="a class '0'"):
        merged(tmp_path / "out", **options, head="joined", joint_reference=False)


@pytest.mark.parametrize("data", ["full", "subset", "none"])
def test_other_data(tmp_path, data):
    found = merged(tmp_path / "out", data=data, joint_reference=False, merge_baselines=False, curve_points=0)
    figures = {row["name"]: row for row in found.metrics}
    images = {"full": 1442, "subset": 30, "none": 0}[data]
    assert figures["data_megabytes"]["after"] == pytest.approx(2 * images * 64 / 1e6)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    assert loaded.config.id2label[3] == "3"


def test_given_models(tmp_path, report, request):
    folders = [tmp_path / name for name in ("a", "b")]
    from hf_forget.condensed_merge.condensed_merge_config import MergeWithCondensedConfig
    from hf_forget.condensed_merge.material import load_material, made_models

    args = MergeWithCondensedConfig(**{key: value for key, value in OPTIONS.items() if key != "curve_points"})
    material = load_material(args, None)
    models, _ = made_models(args, material, lambda line: None)
    for model, folder in zip(models, folders, strict=True):
        model.save_pretrained(folder)
        material.processor.save_pretrained(folder)
    found = merged(
        tmp_path / "out",
        model_names_or_paths=[str(folder) for folder in folders],
        merge_baselines=False,
        curve_points=0,
    )
    same = {row["name"]: row["after"] for row in report.metrics}
    assert found.metric("mean_accuracy")["after"] == pytest.approx(same["mean_accuracy"], abs=0.02)
    assert [base["source"] for base in found.base_models] == ["local", "local"]


def test_condensed_images_merge_in_a_script(tmp_path):
    from datasets import load_dataset

    options = CondensationOptions("dm", 2, steps=5)
    found = condense_images("embedded:digits", tmp_path / "set", options=options)
    assert found["images"] == 20
    with pytest.raises(OutputError, match="exists"):
        condense_images("embedded:digits", tmp_path / "set", options=options)
    from transformers import ViTImageProcessorPil

    from hf_forget.models import MLPConfig

    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = MLPConfig(image_size=8, hidden_sizes=[8], num_labels=10)
        models.append(AutoModelForImageClassification.from_config(config))
    images = load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(InputError, match="processing_class"):
        MergeWithCondensed(models, [images, images])
    processor = ViTImageProcessorPil(do_resize=False, do_normalize=False)
    result = MergeWithCondensed(models, [images, images], processing_class=processor).merge()
    assert result.losses[0] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_names": None}, "dataset_names is missing"),
        ({"rotations": [0, 45]}, "multiples of 90"),
        ({"rotations": [0]}, "one rotation for each set"),
        ({"matching": "weight"}, "Did you mean 'weights'"),
        ({"model_names_or_paths": ["a", "b", "c"]}, "3 model_names_or_paths and 2 dataset_names"),
        ({"model_name_or_path": "a"}, "model_names_or_paths, a list"),
        ({"curve_points": 2}, "3 or more"),
    ],
)
def test_clear_errors(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        merged(tmp_path / "out", **changes)

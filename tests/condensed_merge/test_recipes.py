import pytest

from hf_forget import load_recipe, run

RECIPES = ("mnist_fashion_mlp", "mnist_fashion_convnet", "rotated_mnist_mlp")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_valid(name, tmp_path):
    plan = run(f"condensed_merge/{name}", overrides={"output_dir": str(tmp_path / "out")}, dry_run=True).plan
    assert plan["models"] == [] and plan["unresolved"] == []


def test_the_recipe_of_real_size_names_its_models(tmp_path, no_hub):
    plan = run("condensed_merge/vit_pair", overrides={"output_dir": str(tmp_path / "out")}, dry_run=True).plan
    names = load_recipe("condensed_merge/vit_pair").values["model_names_or_paths"]
    assert len(plan["unresolved"]) == len(names) == 2
    assert all(name in text for name, text in zip(names, plan["unresolved"], strict=True))

"""Seconds of a training step by objective, on the nets of mnist.yaml, as a Markdown table.

Command: python recipes/ardir/steps.py [ROUNDS]
"""

import statistics
import sys
import tempfile

from hf_forget.ardir.material import RobustMaterial, load_robust_material, new_net, robust_trainer
from hf_forget.ardir.robust_recipe_config import RobustRecipeConfig
from hf_forget.recipe import load_recipe

OBJECTIVES = ("at", "trades", "ard", "rslad", "iad", "ardir")
# Two epochs: the teacher is asked in the first, and its answers are remembered in the second.
IMAGES, STEPS = 2560, 40


def main(rounds: int = 5) -> None:
    """Train by every objective in turn, round after round, and print medians."""
    seconds: dict[str, list[float]] = {name: [] for name in OBJECTIVES}
    with tempfile.TemporaryDirectory() as folder:
        material = load_robust_material(options("at", folder))
        for _ in range(rounds):
            for objective in OBJECTIVES:
                seconds[objective].append(step_seconds(options(objective, folder), material))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print("| objective | ms a step | of AT | of RSLAD |\n|---|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {1000 * value:.0f} | {value / medians['at']:.2f} | {value / medians['rslad']:.2f} |")


def options(objective: str, folder: str) -> RobustRecipeConfig:
    """Return the options of a short training."""
    shorter = {"train_images": IMAGES, "max_steps": STEPS, "save_strategy": "no", "disable_tqdm": True}
    recipe = load_recipe("ardir/mnist", {"output_dir": folder, "objective": objective, **shorter})
    return recipe.config_for("method")


def step_seconds(args: RobustRecipeConfig, material: RobustMaterial) -> float:
    """Train a new net for a few steps and return the time of one."""
    teacher = new_net(args, material)
    trainer = robust_trainer(args, new_net(args, material), material, material.train, teacher)
    return trainer.train().metrics["train_runtime"] / STEPS


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""Seconds of a training step by objective, on the nets of mnist.yaml, as a Markdown table.

Command: python recipes/ardir/steps.py [ROUNDS]
"""

import statistics
import sys
import tempfile

from hf_forget.ardir.material import load_robust_material, new_net, robust_trainer
from hf_forget.ardir.robust_recipe_config import RobustRecipeConfig

OBJECTIVES = ("at", "trades", "ard", "rslad", "iad", "ardir")
# Two epochs: the teacher is asked in the first, and its answers are remembered in the second.
IMAGES, STEPS = 2560, 40


def main(rounds: int = 5) -> None:
    """Train by every objective in turn, round after round, and print medians."""
    seconds: dict[str, list[float]] = {name: [] for name in OBJECTIVES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for objective in OBJECTIVES:
                seconds[objective].append(step_seconds(objective, folder))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print("| objective | ms a step | of AT | of RSLAD |\n|---|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {1000 * value:.0f} | {value / medians['at']:.2f} | {value / medians['rslad']:.2f} |")


def step_seconds(objective: str, folder: str) -> float:
    """Train a new net for a few steps and return the time of one."""
    args = RobustRecipeConfig(
        output_dir=folder,
        objective=objective,
        dataset_name="embedded:mnist",
        epsilon=0.3,
        net_hidden_sizes=[16, 32],
        train_images=IMAGES,
        max_steps=STEPS,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    material = load_robust_material(args)
    teacher = new_net(args, material)
    trainer = robust_trainer(args, new_net(args, material), material, material.train, teacher)
    return trainer.train().metrics["train_runtime"] / STEPS


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

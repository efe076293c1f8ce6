"""A picture of test images as they are and as an attack on the student changed them, with what it says of both."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ..evidence.adversarial import PixelModel, pgd
from ..evidence.labelled_inputs import LabelledInputs
from .objectives import inner_loss

COUNT = 10
RIGHT, WRONG = "#333333", "#c44e52"


def draw_examples(
    model: PixelModel, test: LabelledInputs, class_names: Sequence[str], path: str | Path, *, epsilon: float, steps: int
) -> Path:
    """Attack the first test images by PGD and draw them above what became of them; wrong answers stand in red.

    Args:
        model ([`PixelModel`]): The student, in evaluation mode.
        test: Test images, pixels in [0, 1], with labels.
        class_names: Names of the classes.
        path: The PNG file.
        epsilon: Largest change of a pixel.
        steps: Steps of the attack.

    Returns:
        The file.
    """
    from matplotlib.figure import Figure

    data = test.first(COUNT)
    device = next(model.parameters()).device
    pixels, labels = data.inputs.to(device), data.labels.to(device)
    loss_of, generator = inner_loss("label", labels, None), torch.Generator().manual_seed(0)
    attacked = pgd(pixels, lambda images: loss_of(model(images)), epsilon=epsilon, steps=steps, generator=generator)
    figure = Figure(figsize=(1.3 * len(labels), 3.4), layout="constrained")
    grid = figure.subplots(2, len(labels), squeeze=False)
    for line, images in zip(grid, (pixels, attacked), strict=True):
        with torch.no_grad():
            said = model(images).argmax(1)
        for axes, image, answer, label in zip(line, images.cpu(), said.tolist(), labels.tolist(), strict=True):
            picture = image.movedim(0, -1)
            axes.imshow(picture[..., 0] if len(image) == 1 else picture, cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            axes.set_title(class_names[answer], fontsize=9, color=RIGHT if answer == label else WRONG)
    figure.suptitle(f"as they are, and attacked within ε {epsilon:.3g}; above each what the student says", fontsize=10)
    figure.savefig(path, dpi=110)
    return Path(path)

"""Condensed data as an ordinary set of images: made, saved with a card and a picture, and found again."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.cache import cache_dir
from ..data.images import IMAGE, LABEL, class_names, image_tensors
from ..data.processors import image_arrays, processor_bounds, processor_for
from ..evidence.labelled_inputs import LabelledInputs
from ..output import write_text_atomic
from .condensation import CondensationOptions, ModelFactory, condensed_inputs

if TYPE_CHECKING:
    from datasets import Dataset

PICTURE, DATA = "grid.png", "data/train.parquet"


def condense(
    dataset: "Dataset",
    model_factory: ModelFactory,
    images_per_class: int = 10,
    condensation: str = "dm",
    *,
    processor: Any = None,
    options: CondensationOptions | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> "Dataset":
    """Condense a set of images to a few synthetic ones for each class.

    Args:
        dataset (`datasets.Dataset`): Images with columns `image` and `label`, as
            [`~hf_forget.data.images.load_images`] gives them.
        model_factory: Returns a new random classifier for such images at each call, such as
            `lambda: AutoModelForImageClassification.from_config(config)`.
        images_per_class: How many for each class.
        condensation: `dm`, distribution matching, or `dc`, gradient matching.
        processor (*optional*): Image processor of the models; one that gives the images mean 0 and spread 1 if not
            given.
        options ([`CondensationOptions`], *optional*): All options at once, in the place of `images_per_class` and
            `condensation`.
        progress: Called with the steps done, and all.

    Returns:
        A `datasets.Dataset` with the same columns, of 8-bit images.

    Raises:
        InputError: If an option is out of range, or a class has too few images.

    Source: Zhao & Bilen 2023, Zhao et al. 2021; for merging arXiv 2306.05641.
    """
    options = options or CondensationOptions(condensation=condensation, images_per_class=images_per_class)  # type: ignore[arg-type]
    processor = processor or processor_for([dataset])
    data = LabelledInputs(*image_tensors(dataset, processor))
    found = condensed_inputs(data, model_factory, options, bounds=processor_bounds(processor), progress=progress)
    return image_set(found, processor, class_names(dataset))


def image_set(data: LabelledInputs, processor: Any, names: list[str]) -> "Dataset":
    """Return inputs as a set of 8-bit images with the columns `image` and `label`.

    Args:
        data: Inputs as the processor gives them.
        processor: The processor.
        names: Names of the classes.
    """
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Pictures

    images = [Pictures.fromarray(array) for array in image_arrays(data.inputs, processor)]
    features = Features({IMAGE: Image(), LABEL: ClassLabel(names=names)})
    return Dataset.from_dict({IMAGE: images, LABEL: data.labels.tolist()}, features=features)


def save_condensed(dataset: "Dataset", folder: Path, *, source: str, made_by: str) -> None:
    """Write a condensed set as the Hub takes it: `data/train.parquet`, a card, and a picture of all its images.

    Args:
        dataset: Columns `image` and `label`.
        folder: Where it goes; made if it does not exist.
        source: What was condensed.
        made_by: How, for the card.
    """
    (folder / DATA).parent.mkdir(parents=True, exist_ok=True)
    dataset.to_parquet(str(folder / DATA))
    _draw(dataset, folder / PICTURE)
    write_text_atomic(folder / "README.md", _card(dataset, source, made_by, (folder / DATA).stat().st_size))


def read_condensed(folder: Path) -> "Dataset":
    """Return what [`save_condensed`] wrote.

    Args:
        folder: Where it is.
    """
    from datasets import Dataset

    return Dataset.from_parquet(str(folder / DATA), cache_dir=str(cache_dir() / "datasets"))


def _draw(dataset: "Dataset", file: Path) -> None:
    """One row for each class."""
    from PIL import Image as Pictures

    labels = sorted(set(dataset[LABEL]))
    rows = {label: [row[IMAGE] for row in dataset if row[LABEL] == label] for label in labels}
    first = next(iter(rows.values()))[0]
    width, height = first.size
    sheet = Pictures.new(first.mode, (width * max(map(len, rows.values())), height * len(rows)))
    for line, label in enumerate(labels):
        for place, image in enumerate(rows[label]):
            sheet.paste(image, (place * width, line * height))
    scale = max(1, 56 // height)
    sheet.resize((sheet.width * scale, sheet.height * scale), Pictures.Resampling.NEAREST).save(file)


def _card(dataset: "Dataset", source: str, made_by: str, size: int) -> str:
    names = class_names(dataset)
    return f"""---
task_categories:
- image-classification
tags:
- dataset-condensation
- hf-forget
configs:
- config_name: default
  data_files: {DATA}
---
# {source}, condensed

{len(dataset)} synthetic images that stand for {source} where models are merged, {len(dataset) // len(names)} for each
of {len(names)} classes; {size / 1e6:.2f} MB. {made_by}

![all images, one row for each class]({PICTURE})

The images come from {source}: what may be done with that may be done with these. A set whose licence is not known, as
MNIST's, should not be published in this form, either.

```python
from datasets import load_dataset
images = load_dataset("this folder", split="train")
```
"""

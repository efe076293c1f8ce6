"""Condenses a set of images by name, and writes what came out with a card."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import InputError, OutputError


def condense_images(
    dataset: str,
    output_dir: str | Path,
    *,
    config: str | Path | None = None,
    options: Any = None,
    report: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Condense the training images of a set, or go on with an interrupted condensation.

    Args:
        dataset: `embedded:mnist`, a folder or a Hub id.
        output_dir: Where the condensed set goes: `data/train.parquet`, `README.md` and a picture of all its images.
        config: `config.json` of the models, random ones of which condense, or the folder that holds it; that of a small
            convolutional net for such images if not given.
        options ([`~hf_forget.condensed_merge.CondensationOptions`], *optional*): How it is condensed.
        report: Called with a line of text where a step begins.
        progress: Called with the steps done, and all.

    Returns:
        How many images of how many classes there are, their size in megabytes, and where they are.

    Raises:
        InputError: If something given cannot be used.
        OutputError: If the folder exists.
    """
    from .condensed_merge import CondensationOptions
    from .condensed_merge.condensed_set import DATA
    from .condensed_merge.material import condensed_folder
    from .data.images import class_names, image_tensors, load_images
    from .data.processors import processor_for
    from .evidence.labelled_inputs import LabelledInputs
    from .models.parent_options import ParentOptions
    from .models.parents import parent_config

    final = Path(output_dir).expanduser().resolve()
    if final.exists():
        raise OutputError(f"'{final}' exists; choose another folder for the condensed set")
    options = options or CondensationOptions()
    images = load_images(dataset)["train"]
    names, processor = class_names(images), processor_for([images])
    data = LabelledInputs(*image_tensors(images, processor))
    made_by = (
        _config(config) if config is not None else parent_config(ParentOptions(parent="convnet"), data.inputs, names)
    )
    kept = condensed_folder(data, made_by, options, processor, names, dataset, report=report, progress=progress)
    partial = final.with_name(f"{final.name}.partial")
    shutil.copytree(kept, partial, dirs_exist_ok=True)
    partial.rename(final)
    size = (final / DATA).stat().st_size / 1e6
    return {
        "images": options.images_per_class * len(names),
        "classes": len(names),
        "megabytes": size,
        "path": str(final),
    }


def _config(path: str | Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(Path(path).expanduser())
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"config '{path}' cannot be read as the configuration of a model: {error}") from error

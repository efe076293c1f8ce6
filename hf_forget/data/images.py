"""Labelled images by name, as `datasets` with `Image` and `ClassLabel` columns, and as tensors."""

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from ..errors import AssetError, InputError, suggestion
from .array_pickle import load_array_pickle
from .assets import PREFIX
from .cache import cache_dir, made_once
from .idx import read_idx
from .image_assets import IMAGE_ASSETS, ImageAsset, get_image_asset
from .packaged_files import verify_files

if TYPE_CHECKING:
    import torch
    from datasets import Dataset, DatasetDict

logger = logging.getLogger(__name__)

IMAGE, LABEL = "image", "label"
_MARKER = "hf_forget_images.json"
_VERSION = 1
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_IMAGE_COLUMNS = ("image", "img", "pixel_values")
_LABEL_COLUMNS = ("label", "labels", "fine_label")
_TEST_SPLITS = ("test", "validation", "valid", "val")
# Decoding takes about a tenth of a millisecond per image.
_ROWS_WORTH_KEEPING = 2_000
# Images per test image where a set comes without a test split.
_TEST_SHARE = 5
_Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


def load_images(name: str) -> "DatasetDict":
    """Load labelled images as a `DatasetDict` with the splits `train` and `test`.

    Every row has an `image` (`datasets.Image`) and a `label` (`datasets.ClassLabel`). Embedded sets are converted to
    Arrow once, in the cache. A set without a test split gets one of a fifth of each class, drawn with seed 0.

    Args:
        name (`str`): `embedded:mnist`, `embedded:fashion_mnist`, `embedded:digits`, a folder of images with one folder
            per class (or `train/` and `test/` that hold such folders), or the Hub id of a data set.

    Raises:
        InputError: If the name means nothing, or the data has no images or no labels.
        AssetError: If an embedded set is unknown, not installed or not the expected one.

    Example:
        >>> images = load_images("embedded:mnist")
        >>> images["train"].features["label"].names[:3]
        ['0', '1', '2']
    """
    if name.startswith(PREFIX):
        return _embedded(get_image_asset(name))
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        return _two_splits(_image_folder(folder), name)
    if _HUB_ID.fullmatch(name) and not folder.exists():
        return _two_splits(_from_hub(name), name)
    raise InputError(
        f"image set '{name}' is neither a folder nor a data set's name; accepted are a folder with one folder of "
        f"images per class, a Hub id such as 'ylecun/mnist', or an embedded set: {', '.join(IMAGE_ASSETS)}."
        + suggestion(PREFIX + name.rpartition("/")[2].lower(), IMAGE_ASSETS)
    )


def class_names(dataset: "Dataset") -> list[str]:
    """Return the names of the classes, in the order of the labels."""
    return list(dataset.features[LABEL].names)


def image_tensors(
    dataset: "Dataset", processor: Any, count: int | None = None
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Return all images of a small set as one tensor, as the processor would give them one by one.

    Images that are of one size and need neither resizing nor cropping are rescaled and normalised all at once, and the
    decoded pixels of large sets are kept in the cache; others go through the processor.

    Args:
        dataset: A split of what `load_images` gives.
        processor: An image processor of `transformers` (the `Pil` classes need no torchvision).
        count: Take the first so many images; all of them if not given.

    Returns:
        `pixel_values` (float32, `[n, channels, height, width]`) and `labels` (int64, `[n]`).

    Raises:
        InputError: If the data set is empty.
    """
    import torch

    dataset = dataset if count is None else dataset.select(range(min(count, len(dataset))))
    if not len(dataset):
        raise InputError("the data set is empty, so it makes no tensor")
    labels = torch.tensor(np.asarray(dataset[LABEL][:]), dtype=torch.int64)
    if _only_scales(processor):
        pixels = _pixels(dataset)
        if pixels is not None:
            return _scaled(pixels, processor), labels
    batches = [
        processor(images=dataset[start : start + 256][IMAGE], return_tensors="pt")["pixel_values"]
        for start in range(0, len(dataset), 256)
    ]
    return torch.cat(batches), labels


def _pixels(dataset: "Dataset") -> np.ndarray | None:
    """All images of one size as an array, from the cache where it has them; `None` if their sizes differ."""
    from safetensors.numpy import load_file, save_file

    if len(dataset) < _ROWS_WORTH_KEEPING:
        return _decoded(dataset)
    file = cache_dir() / "pixels" / f"{dataset._fingerprint}.safetensors"
    with contextlib.suppress(OSError, SafetensorError, KeyError):
        return load_file(file)["pixels"]
    pixels = _decoded(dataset)
    if pixels is not None:
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
            file.parent.mkdir(exist_ok=True)
            save_file({"pixels": pixels}, partial)
            partial.replace(file)
    return pixels


def _decoded(dataset: "Dataset") -> np.ndarray | None:
    pixels = [np.asarray(image) for image in dataset[IMAGE]]
    return np.stack(pixels) if len({image.shape for image in pixels}) == 1 else None


def _only_scales(processor: Any) -> bool:
    changes = ("do_resize", "do_center_crop", "do_pad", "do_convert_rgb")
    return not any(getattr(processor, name, None) for name in changes)


def _scaled(pixels: np.ndarray, processor: Any) -> "torch.Tensor":
    import torch

    images = torch.from_numpy(pixels)
    images = (images.unsqueeze(1) if images.ndim == 3 else images.movedim(-1, 1)).to(torch.float32)
    if processor.do_rescale:
        images *= processor.rescale_factor
    if processor.do_normalize:
        shape = (1, -1, 1, 1)
        images -= torch.tensor(processor.image_mean, dtype=torch.float32).reshape(shape)
        images /= torch.tensor(processor.image_std, dtype=torch.float32).reshape(shape)
    return images.contiguous()


def _embedded(asset: ImageAsset) -> "DatasetDict":
    """Load a set from the cache, into which it is converted once."""
    from datasets import load_from_disk

    folder = cache_dir() / "images" / f"{asset.name}-{_VERSION}"
    try:
        made_once(folder, lambda: _is_whole(folder, asset), lambda partial: _convert(asset, partial))
    except OSError as error:
        raise AssetError(
            f"{asset.id} cannot be converted into the cache folder '{folder.parent}': {error}; HF_FORGET_CACHE can "
            "name another one"
        ) from error
    return load_from_disk(str(folder))


def _is_whole(folder: Path, asset: ImageAsset) -> bool:
    try:
        marker = json.loads((folder / _MARKER).read_text())
        return marker["source"] == _identity(asset) and all(
            (folder / name).stat().st_size == size for name, size in marker["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _identity(asset: ImageAsset) -> list[str]:
    return [asset.id, asset.package, *(sha256 for _, _, sha256 in asset.files)]


def _convert(asset: ImageAsset, folder: Path) -> None:
    source = verify_files(asset)
    logger.info("converting %s, once, in %s", asset.id, folder)
    with _no_progress_bars():
        _dataset(_READERS[asset.id](source), asset.class_names).save_to_disk(str(folder))
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    (folder / _MARKER).write_text(json.dumps({"source": _identity(asset), "files": files}, indent=2) + "\n")


def _dataset(splits: _Arrays, names: tuple[str, ...]) -> "DatasetDict":
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Image

    features = Features({IMAGE: Image(), LABEL: ClassLabel(names=list(names))})
    return DatasetDict(
        {
            split: Dataset.from_dict({IMAGE: list(images), LABEL: labels.tolist()}, features=features)
            for split, (images, labels) in splits.items()
        }
    )


def _mnist(folder: Path) -> _Arrays:
    """The 50,000 + 10,000 + 10,000 images of the package, the first two of which are MNIST's training images."""
    parts = load_array_pickle(folder / "data/mnist.pkl.gz")
    images = [np.round(pixels * 256).astype(np.uint8).reshape(-1, 28, 28) for pixels, _ in parts]
    labels = [part for _, part in parts]
    return {
        "train": (np.concatenate(images[:2]), np.concatenate(labels[:2])),
        "test": (images[2], labels[2]),
    }


def _fashion_mnist(folder: Path) -> _Arrays:
    files = {"train": "train", "test": "t10k"}
    return {
        split: (read_idx(folder / f"{name}-images-idx3-ubyte.gz"), read_idx(folder / f"{name}-labels-idx1-ubyte.gz"))
        for split, name in files.items()
    }


def _digits(folder: Path) -> _Arrays:
    """The 1,797 images of 8 × 8 pixels with 17 grey levels, spread over the 256 of a byte."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.round(found.images * (255 / 16)).astype(np.uint8)
    chosen = _test_rows(found.target)
    return {"train": (images[~chosen], found.target[~chosen]), "test": (images[chosen], found.target[chosen])}


_READERS: dict[str, Callable[[Path], _Arrays]] = {
    "embedded:mnist": _mnist,
    "embedded:fashion_mnist": _fashion_mnist,
    "embedded:digits": _digits,
}


def _test_rows(labels: np.ndarray) -> np.ndarray:
    """Mark a fifth of each class, at least one row of it."""
    random = np.random.default_rng(0)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen[random.permutation(rows)[: max(1, len(rows) // _TEST_SHARE)]] = True
    return chosen


def _image_folder(folder: Path) -> "DatasetDict":
    from datasets import load_dataset

    try:
        with _no_progress_bars():
            return load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(cache_dir() / "datasets"))
    except Exception as error:  # `datasets` raises its own, pyarrow's and PIL's errors for unusable folders
        raise InputError(
            f"'{folder}' cannot be read as images: {error}; it must hold one folder of images per class, or train/ and "
            "test/ with such folders"
        ) from error


def _from_hub(name: str) -> "DatasetDict":
    from datasets import load_dataset

    try:
        return load_dataset(name, cache_dir=str(cache_dir() / "datasets"))
    except Exception as error:  # the Hub client, fsspec and pyarrow each raise errors of their own
        twin = next((asset.id for asset in IMAGE_ASSETS.values() if name in asset.relatives), None)
        hint = f"; the same images are embedded as {twin}" if twin else ""
        raise InputError(f"image set '{name}' cannot be loaded from the Hub: {error}{hint}") from error


def _two_splits(found: "DatasetDict", name: str) -> "DatasetDict":
    """Give the columns and splits their usual names."""
    from datasets import ClassLabel, DatasetDict

    train = found.get("train")
    test = next((found[split] for split in _TEST_SPLITS if split in found), None)
    if train is None:
        raise InputError(f"image set '{name}' has no split called train; it has {', '.join(found)}")
    image, label = (
        next((column for column in columns if column in train.column_names), None)
        for columns in (_IMAGE_COLUMNS, _LABEL_COLUMNS)
    )
    if image is None or label is None:
        raise InputError(
            f"image set '{name}' has the columns {', '.join(train.column_names)}; one must be called image and one "
            "label. A folder of images needs one folder per class"
        )
    names = {image: IMAGE, label: LABEL}
    train, *rest = (
        split.select_columns(list(names)).rename_columns({old: new for old, new in names.items() if old != new})
        for split in ([train] if test is None else [train, test])
    )
    if not isinstance(train.features[LABEL], ClassLabel):
        train = train.class_encode_column(LABEL)
        rest = [split.cast_column(LABEL, train.features[LABEL]) for split in rest]
    if not rest:
        chosen = _test_rows(np.asarray(train[LABEL][:]))
        train, rest = train.select(np.flatnonzero(~chosen)), [train.select(np.flatnonzero(chosen))]
    return DatasetDict({"train": train, "test": rest[0]})


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    from datasets.utils import logging as datasets_logging

    enabled = datasets_logging.is_progress_bar_enabled()
    datasets_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            datasets_logging.enable_progress_bar()

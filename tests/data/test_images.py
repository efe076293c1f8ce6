"""Claims about image sets: the embedded ones, folders, and the tensors made of them."""

import dataclasses
import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from transformers import ViTImageProcessorPil

from hf_forget.data import image_assets, images
from hf_forget.data.array_pickle import load_array_pickle
from hf_forget.data.fetching import fetch_embedded
from hf_forget.data.idx import read_idx
from hf_forget.data.image_assets import IMAGE_ASSETS, get_image_asset
from hf_forget.data.images import class_names, image_tensors, load_images
from hf_forget.data.packaged_files import verify_files
from hf_forget.errors import AssetError, InputError


@pytest.fixture(scope="session")
def digits(session_cache):
    return load_images("embedded:digits")


def processor(**changes):
    return ViTImageProcessorPil(**{"do_resize": False, "image_mean": [0.1307], "image_std": [0.3081]} | changes)


def test_digits_have_images_labels_and_a_balanced_test_split(digits):
    assert {split: len(rows) for split, rows in digits.items()} == {"train": 1442, "test": 355}
    row = digits["train"][0]
    assert row["image"].size == (8, 8) and row["label"] == 0
    assert class_names(digits["train"]) == list("0123456789")
    counts = np.bincount(digits["test"]["label"][:])
    assert counts.min() >= 34 and counts.max() <= 36


def test_digits_are_converted_once(digits, monkeypatch):
    monkeypatch.setattr(images, "_convert", lambda *_: pytest.fail("converted a second time"))
    assert load_images("embedded:digits")["train"][5]["label"] == digits["train"][5]["label"]


def test_damaged_conversion_is_made_again(cache):
    first = load_images("embedded:digits")
    arrow = next((cache / "images").glob("digits-*/train/*.arrow"))
    before = arrow.read_bytes()
    del first
    arrow.write_bytes(before[:100])
    assert load_images("embedded:digits")["train"].num_rows == 1442
    assert arrow.read_bytes() == before


def test_tensors_are_what_the_processor_gives(digits):
    rows = digits["train"].select(range(7))
    pixels, labels = image_tensors(rows, processor())
    expected = processor()(images=list(rows["image"]), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels, expected)
    assert pixels.shape == (7, 1, 8, 8) and labels.tolist() == rows["label"][:]
    assert labels.dtype == torch.int64


def test_processor_that_resizes_is_called(digits):
    rows = digits["train"].select(range(3))
    resizing = processor(do_resize=True, size={"height": 16, "width": 16})
    pixels, _ = image_tensors(rows, resizing)
    torch.testing.assert_close(pixels, resizing(images=list(rows["image"]), return_tensors="pt")["pixel_values"])


def test_decoded_pixels_are_kept_and_found_again(digits, monkeypatch):
    monkeypatch.setattr(images, "_ROWS_WORTH_KEEPING", 10)
    rows = digits["test"].select(range(20))
    first, _ = image_tensors(rows, processor())
    monkeypatch.setattr(images, "_decoded", lambda *_: pytest.fail("decoded a second time"))
    again, _ = image_tensors(rows, processor())
    assert torch.equal(first, again)


def test_empty_set_makes_no_tensor(digits):
    with pytest.raises(InputError, match="empty"):
        image_tensors(digits["train"].select([]), processor())


def write_folder(folder: Path, split: str = "", names=("cat", "dog"), size=6) -> Path:
    for label, name in enumerate(names):
        place = folder / split / name
        place.mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.full((size, size, 3), 40 * number + label, np.uint8)).save(place / f"{number}.png")
    return folder


def test_folder_with_a_folder_per_class_gets_a_test_split(tmp_path, cache):
    found = load_images(str(write_folder(tmp_path / "pets")))
    assert class_names(found["train"]) == ["cat", "dog"]
    assert {split: len(rows) for split, rows in found.items()} == {"train": 8, "test": 2}
    assert sorted(found["test"]["label"][:]) == [0, 1]
    pixels, _ = image_tensors(found["train"], processor(image_mean=[0.5] * 3, image_std=[0.5] * 3))
    assert pixels.shape == (8, 3, 6, 6)


def test_folder_with_train_and_test_keeps_them(tmp_path, cache):
    folder = write_folder(tmp_path / "pets", "train")
    write_folder(folder, "test")
    found = load_images(str(folder))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 10, "test": 10}


def test_name_that_means_nothing_names_the_nearest(cache):
    with pytest.raises(InputError, match=r"Did you mean 'embedded:mnist'"):
        load_images("mnst")
    with pytest.raises(AssetError, match=r"Did you mean 'embedded:fashion_mnist'"):
        load_images("embedded:fashion-mnist")


def test_hub_set_that_cannot_be_reached_names_its_embedded_twin(cache, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("offline")))
    with pytest.raises(InputError, match="offline; the same images are embedded as embedded:mnist"):
        load_images("ylecun/mnist")


def fake_asset(monkeypatch, tmp_path, content=b"12345", **changes):
    folder = tmp_path / "packages" / "fake_images"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('never imported')")
    (folder / "fake.gz").write_bytes(content)
    monkeypatch.syspath_prepend(str(folder.parent))
    values = {
        "id": "embedded:mnist",
        "installer": "pip",
        "package": "fake-images==1",
        "folder": "fake_images",
        "files": (("fake.gz", 5, hashlib.sha256(b"12345").hexdigest()),),
        "class_names": ("0", "1"),
        "licence": "MIT",
    }
    asset = image_assets.ImageAsset(**values | changes)
    monkeypatch.setitem(image_assets.IMAGE_ASSETS, asset.id, asset)
    return asset


def test_intact_file_passes(monkeypatch, tmp_path):
    assert verify_files(fake_asset(monkeypatch, tmp_path)).name == "fake_images"


def test_file_with_another_hash_is_named_and_not_read(monkeypatch, tmp_path, cache):
    fake_asset(monkeypatch, tmp_path, b"54321")
    with pytest.raises(
        AssetError, match=r"fake\.gz' of embedded:mnist has sha256 .* run: hf-forget fetch-assets mnist"
    ):
        load_images("embedded:mnist")
    assert not list((cache / "images").glob("*"))


def test_missing_package_gives_the_command(monkeypatch, tmp_path):
    asset = fake_asset(monkeypatch, tmp_path, folder="package_that_is_not_there")
    with pytest.raises(AssetError, match="not installed; run: hf-forget fetch-assets mnist"):
        verify_files(asset)
    debian = dataclasses.replace(asset, installer="apt", folder=str(tmp_path / "nowhere"), package="dataset-x")
    with pytest.raises(AssetError, match="run: apt-get install dataset-x"):
        verify_files(debian)


def test_fetching_refuses_an_unknown_name_before_it_installs(monkeypatch):
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("something was installed"))
    with pytest.raises(AssetError, match="unknown embedded asset 'mnst'.*Did you mean 'embedded:mnist'"):
        fetch_embedded(["digits", "mnst"])


def test_pickle_that_holds_anything_but_arrays_is_refused(tmp_path):
    file = tmp_path / "bad.pkl.gz"
    for content, told in ((Path("x"), "asks for"), (["text"], "holds a str"), (np.array([{}]), "holds a ndarray")):
        file.write_bytes(gzip.compress(pickle.dumps(content)))
        with pytest.raises(AssetError, match=told):
            load_array_pickle(file)


def test_pickle_does_not_call_what_it_names(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path(tmp_path / "harmed").write_text, ("x",))

    file = tmp_path / "harmful.pkl.gz"
    file.write_bytes(gzip.compress(pickle.dumps(Harmful())))
    with pytest.raises(AssetError, match="arrays only"):
        load_array_pickle(file)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickled_arrays_come_back(tmp_path, protocol):
    wanted = ((np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 2])),)
    file = tmp_path / "good.pkl.gz"
    file.write_bytes(gzip.compress(pickle.dumps(wanted, protocol=protocol)))
    ((pixels, labels),) = load_array_pickle(file)
    assert np.array_equal(pixels, wanted[0][0]) and np.array_equal(labels, wanted[0][1])


@given(arrays.arrays(st.sampled_from([np.uint8, np.int32, np.float64]), arrays.array_shapes(max_dims=3, max_side=4)))
def test_idx_comes_back_as_it_was_written(tmp_path_factory, array):
    code = {np.dtype(np.uint8): 0x08, np.dtype(np.int32): 0x0C, np.dtype(np.float64): 0x0E}[array.dtype]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    file = tmp_path_factory.mktemp("idx") / "file.idx"
    for written in (content, gzip.compress(content)):
        file.write_bytes(written)
        np.testing.assert_array_equal(read_idx(file), array)
    file.write_bytes(content + b"x")
    with pytest.raises(InputError, match="damaged"):
        read_idx(file)


def test_file_that_is_not_idx_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"\x01\x02\x03\x04")
    with pytest.raises(InputError, match="not an IDX file"):
        read_idx(tmp_path / "x")
    with pytest.raises(InputError, match="cannot be read"):
        read_idx(tmp_path / "missing")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["embedded:mnist", "embedded:fashion_mnist"])
def test_real_set_has_its_70000_images(name, cache):
    found = load_images(name)
    assert {split: len(rows) for split, rows in found.items()} == {"train": 60_000, "test": 10_000}
    labels = np.asarray(found["test"]["label"][:])
    expected = {"embedded:mnist": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]}.get(name, [1000] * 10)
    assert np.bincount(labels).tolist() == expected


@pytest.mark.slow
def test_mnist_bytes_are_the_published_ones():
    asset = get_image_asset("mnist")
    parts = load_array_pickle(verify_files(asset) / "data/mnist.pkl.gz")
    train = np.concatenate([np.round(pixels * 256).astype(np.uint8) for pixels, _ in parts[:2]])
    # The widely known md5 of train-images-idx3-ubyte.
    header = struct.pack(">4I", 2051, 60_000, 28, 28)
    assert hashlib.md5(header + train.tobytes()).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    assert set(IMAGE_ASSETS) == {"embedded:mnist", "embedded:fashion_mnist", "embedded:digits"}

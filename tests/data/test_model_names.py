"""Claims about what a model name means."""

import hashlib
from pathlib import Path

import pytest

from hf_forget.data.model_names import HubUnreachableError, resolve_model
from hf_forget.errors import AssetError, InputError

SMOLLM2 = "embedded:smollm2-135m-instruct"


def test_unknown_embedded_model_names_the_nearest():
    with pytest.raises(AssetError, match=f"Did you mean '{SMOLLM2}'"):
        resolve_model("embedded:smollm-135m-instruct")


def test_local_folder_is_known_by_the_hash_of_its_weights(cache, model_folder):
    model = resolve_model(str(model_folder))
    assert (model.source, model.path) == ("local", str(model_folder))
    assert model.sha256 == hashlib.sha256((model_folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["", "  ", "smollm2-135m-instruct", "/no/such/folder", "a/b/c"])
def test_a_name_that_means_nothing_is_answered_with_what_is_accepted(name):
    with pytest.raises(InputError, match="accepted are a local folder.*Hub id.*embedded:smollm2"):
        resolve_model(name)


def test_a_bare_name_is_answered_with_the_nearest_embedded_model():
    with pytest.raises(InputError, match=f"Did you mean '{SMOLLM2}'"):
        resolve_model("SmolLM2-135M")


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*_, **__):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)


def test_hub_id_without_the_hub_names_the_embedded_relative(no_hub):
    with pytest.raises(HubUnreachableError, match=f"'{SMOLLM2}'.*de-quantised 4-bit.*not the originals"):
        resolve_model("HuggingFaceTB/SmolLM2-135M-Instruct")


def test_hub_id_without_a_relative_is_not_replaced(no_hub):
    with pytest.raises(HubUnreachableError) as caught:
        resolve_model("EleutherAI/pythia-70m")
    assert "relative" not in str(caught.value) and "Name or service not known" in str(caught.value)
    assert caught.value.exit_code == 2


def test_hub_cache_is_used_without_the_hub(no_hub, monkeypatch, tmp_path, cache, model_folder):
    import huggingface_hub

    folder = model_folder.rename(tmp_path / "0123abcd")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(folder / "config.json"))
    model = resolve_model("owner/name")
    assert (model.source, model.path, model.revision) == ("hub", str(folder), "0123abcd")


def test_incomplete_hub_cache_is_not_used(no_hub, monkeypatch, tmp_path, model_folder):
    import huggingface_hub

    folder = model_folder.rename(tmp_path / "0123abcd")
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(folder / "config.json"))
    with pytest.raises(HubUnreachableError):
        resolve_model("owner/name")


def test_hub_id_is_pinned_to_its_commit(monkeypatch, cache, model_folder):
    import huggingface_hub

    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(model_folder)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: type("Info", (), {"sha": "c0ffee"}))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert resolve_model("owner/name", prepare=False).path == "owner/name" and not asked
    model = resolve_model("owner/name")
    assert (model.path, model.revision) == (str(model_folder), "c0ffee")
    assert (asked["name"], asked["revision"]) == ("owner/name", "c0ffee")
    assert not any(pattern.endswith((".bin", ".py", "*")) for pattern in asked["allow_patterns"])


def test_real_model_is_found_converted_by_the_whole_session(smollm2):
    model = resolve_model(SMOLLM2)
    assert Path(model.path).resolve() == smollm2.resolve()
    assert model.source == "embedded" and len(model.sha256) == 64

"""Claims about the cache folder."""

import pytest

from hf_forget.data.cache import cache_dir, purge_cache
from hf_forget.data.weights import weights_sha256
from hf_forget.errors import InputError


def test_purge_empties_the_cache(cache, model_folder):
    weights_sha256(model_folder)
    (cache / "link").symlink_to(model_folder)
    assert [path.name for path in purge_cache()] == ["digests", "link"]
    assert purge_cache() == []
    assert (model_folder / "config.json").is_file()


def test_a_folder_with_other_files_is_no_cache_and_is_never_purged(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    monkeypatch.setenv("HF_FORGET_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="holds files that are not ours"):
        purge_cache()
    assert (tmp_path / "thesis.txt").exists()


def test_a_cache_that_cannot_be_made_is_the_users_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_FORGET_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="HF_FORGET_CACHE"):
        cache_dir()

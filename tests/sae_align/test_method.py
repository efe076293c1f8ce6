"""SAE alignment on the whole road, with a tiny model that knows nothing."""

import json

import pytest
from tiny_alignment import KNOWN, UNKNOWN, telling_sae
from transformers import AutoConfig

from hf_forget.errors import InputError
from hf_forget.recipe import make_recipe
from hf_forget.run import run


@pytest.fixture
def values(tiny_llama, tmp_path):
    for name, names in (("known", [*KNOWN, "Ida Newton", "Jon Newton"]), ("unknown", UNKNOWN)):
        twice = [*names, *(f"{name} II" for name in names)]
        (tmp_path / f"{name}.txt").write_text("\n".join(twice) + "\n", encoding="utf-8")
    sae = telling_sae(AutoConfig.from_pretrained(tiny_llama).hidden_size)
    sae.save_model(tmp_path / "sae")
    return {
        "model_name_or_path": str(tiny_llama),
        "concept": "Isaac Newton",
        "concept_type": "person",
        "output_dir": str(tmp_path / "out"),
        "sae": [str(tmp_path / "sae")],
        "known_entities": str(tmp_path / "known.txt"),
        "unknown_entities": str(tmp_path / "unknown.txt"),
        "force": True,
        "elicitation_samples": 1,
        "alignment_texts": 12,
        "retain_rows": 20,
        "max_steps": 2,
        "attacks": [],
        "sampled_answers": 1,
        "max_retain_rows": 40,
        "bf16": False,
        "sham": "no",
    }


def test_the_report_says_where_the_target_stands_among_the_unknown(values, tmp_path):
    run(make_recipe("sae_align", values), report=None)
    report = json.loads((tmp_path / "out" / "forget_report.json").read_text(encoding="utf-8"))
    found = {metric["name"]: metric for metric in report["metrics"] if metric["group"] == "representation"}
    for name in (
        "known_unknown_auc",
        "known_unknown_auc_embedding",
        "target_known_percentile",
        "energy_ratio",
        "energy_ratio_latents",
        "energy_ratio_layer_1",
    ):
        assert found[name]["before"] is not None and found[name]["after"] is not None, name
    checks = {check["name"]: check for check in report["checks"]}
    assert {"knowledge_can_be_told", "target_is_unknown"} <= set(checks)
    assert "Isaac Newton" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_without_sae_lens_nothing_is_loaded(values, monkeypatch):
    def missing():
        raise InputError("sparse autoencoders need sae-lens; run: pip install 'hf-forget[sae]'")

    monkeypatch.setattr("hf_forget.sae_align.sae_align_method.require_sae_lens", missing)
    with pytest.raises(InputError, match=r"pip install 'hf-forget\[sae\]'"):
        run(make_recipe("sae_align", values), report=None)

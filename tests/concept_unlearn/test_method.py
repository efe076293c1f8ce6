"""What concept unlearning refuses on the road before anything is trained."""

import json
import shutil

import pytest

from hf_forget.errors import InputError
from hf_forget.recipe import make_recipe
from hf_forget.run import run


def test_a_quantized_base_is_refused(tiny_llama, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    values = {"model_name_or_path": str(folder), "concept": "Isaac Newton", "output_dir": str(tmp_path / "out")}
    with pytest.raises(InputError, match="quantized weights cannot be trained|bitsandbytes"):
        run(make_recipe("concept_unlearn", values), report=None)
    assert not (tmp_path / "out").exists()

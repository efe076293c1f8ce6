import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BertConfig, BertModel

from hf_forget.errors import InputError
from hf_forget.lm.loading import load_causal_lm, load_tokenizer, placed, save_causal_lm
from hf_forget.options import ModelOptions


def options(folder, **changes):
    return ModelOptions(model_name_or_path=str(folder), **changes)


def test_a_bf16_checkpoint_trains_in_float32_and_is_saved_in_bf16(tiny_llama, tmp_path):
    AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.bfloat16).save_pretrained(tmp_path / "base")
    shutil.copy(tiny_llama / "tokenizer.json", tmp_path / "base")
    shutil.copy(tiny_llama / "tokenizer_config.json", tmp_path / "base")
    chosen = options(tmp_path / "base")
    model = load_causal_lm(tmp_path / "base", chosen)
    assert model.dtype == torch.float32
    save_causal_lm(model, load_tokenizer(tmp_path / "base", chosen), tmp_path / "out", chosen)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_an_adapter_is_merged_when_saved(tiny_llama, tmp_path):
    chosen = options(tiny_llama)
    model = get_peft_model(load_causal_lm(tiny_llama, chosen), LoraConfig(r=2, init_lora_weights=False))
    ids = torch.tensor([[5, 6, 7]])
    expected = model.eval()(ids).logits
    save_causal_lm(model, load_tokenizer(tiny_llama, chosen), tmp_path / "out", chosen)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert torch.allclose(plain(ids).logits, expected, atol=1e-4)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_a_folder_that_is_no_causal_lm_is_refused(tmp_path):
    class Encoder(BertModel):
        pass

    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    Encoder(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(InputError, match="not a causal language model"):
        load_causal_lm(tmp_path / "bert", options(tmp_path / "bert"))


def test_a_folder_of_an_unknown_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(InputError, match="not a model that transformers knows"):
        load_causal_lm(tmp_path, options(tmp_path))


def test_a_tokenizer_without_pad_token_is_accepted(tiny_gpt_neox):
    assert load_tokenizer(tiny_gpt_neox, options(tiny_gpt_neox)).pad_token_id is None


def test_a_model_stands_where_it_is_wanted(tiny_llama):
    chosen = options(tiny_llama)
    assert load_causal_lm(tiny_llama, chosen, torch.device("meta")).device.type == "meta"
    expected = torch.accelerator.current_accelerator(check_available=True)
    model = load_causal_lm(tiny_llama, chosen)
    assert model.device.type == (expected.type if expected else "cpu")
    # Bits of a quantized model, and layers that lie on several devices, stay where they were put.
    for attribute, value in (("is_quantized", True), ("hf_device_map", {"": "cpu"})):
        setattr(model, attribute, value)
        assert placed(model, torch.device("meta")).device.type != "meta"
        delattr(model, attribute)

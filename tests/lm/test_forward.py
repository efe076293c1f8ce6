import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from hf_forget.lm.forward import frozen_head, labelled_forward, labelled_positions
from hf_forget.lm.rows import IGNORE_INDEX, Row, RowCollator, RowDataset

SMALL = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.fixture(params=["llama", "neox", "qwen2", "gemma2"])
def model(request, tiny_llama, tiny_gpt_neox):
    torch.manual_seed(0)
    if request.param == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**SMALL)).eval()
    if request.param == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=5.0)).eval()
    return AutoModelForCausalLM.from_pretrained(tiny_llama if request.param == "llama" else tiny_gpt_neox).eval()


@pytest.fixture(scope="module")
def data(tiny_llama):
    shared = "the quick brown fox jumps over the lazy dog near the river bank and "
    rows = [Row(shared + word, " ran away") for word in ("one", "two", "three", "four")]
    rows += [Row("short", " row"), Row("", "a text of its own that is rather long, longer than all of the others")]
    return RowDataset(rows, [], AutoTokenizer.from_pretrained(tiny_llama))


@pytest.fixture
def batch(data):
    return RowCollator(0)([data[index] for index in range(len(data))])


def test_logits_are_those_of_a_plain_forward_pass(model, batch):
    positions = labelled_positions(batch["labels"])
    with torch.no_grad():
        plain = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[positions]
        tokens, hidden, _ = labelled_forward(model, batch)
    assert torch.allclose(tokens.logits, plain, atol=1e-5)
    assert hidden.shape[0] == plain.shape[0]
    assert (tokens.labels != IGNORE_INDEX).all()


def test_shared_prefixes_change_nothing(model, data, batch):
    with torch.no_grad():
        whole, *_ = labelled_forward(model, batch)
        shared, *_ = labelled_forward(model, batch, data.prefixes)
    assert data.prefixes
    assert torch.allclose(whole.logits, shared.logits, atol=1e-5)
    assert torch.equal(whole.rows, shared.rows) and torch.equal(whole.labels, shared.labels)


def test_frozen_head_repeats_the_logits_after_the_model_has_changed(model, batch):
    head = frozen_head(model)
    with torch.no_grad():
        tokens, hidden, _ = labelled_forward(model, batch)
        for parameter in model.parameters():
            parameter.mul_(0.5)
    assert torch.allclose(head(hidden), tokens.logits, atol=1e-5)


def test_gradients_reach_the_weights_through_the_shared_prefix(model, data, batch):
    tokens, *_ = labelled_forward(model, batch, data.prefixes)
    tokens.log_probs().mean().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for name, parameter in model.named_parameters()
        if "weight" in name and "mlp" in name
    )


def test_a_row_does_not_depend_on_its_batch(model, data):
    alone = RowCollator(0)([data[4]])
    together = RowCollator(0)([data[4], data[5], data[0]])
    with torch.no_grad():
        first, *_ = labelled_forward(model, alone)
        second, *_ = labelled_forward(model, together)
    assert torch.allclose(first.logits, second.logits[second.rows == 0], atol=1e-5)


def test_the_hook_is_gone_after_an_error(model, batch):
    broken = dict(batch, attention_mask=batch["attention_mask"][:, :0])
    with pytest.raises(Exception):  # noqa: B017
        labelled_forward(model, broken)
    assert not model.get_output_embeddings()._forward_pre_hooks

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.errors import InputError
from hf_forget.lm.forward import labelled_forward
from hf_forget.lm.representation import chosen_layers, decoder_layers, state_distance
from hf_forget.lm.rows import Row, RowCollator, RowDataset

SHARED = "the quick brown fox jumps over the lazy dog near the old river bank and then goes home past the mill with "


@pytest.fixture(params=["tiny_llama", "tiny_gpt_neox"])
def folder(request):
    return request.getfixturevalue(request.param)


def test_decoder_layers_are_found_also_under_an_adapter(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    count = model.config.num_hidden_layers
    layers = decoder_layers(model)
    assert len(layers) == count
    target = "q_proj" if "llama" in model.config.model_type else "query_key_value"
    adapted = get_peft_model(model, LoraConfig(target_modules=[target]))
    assert list(decoder_layers(adapted)) == list(layers)


def test_layers_outside_the_model_are_refused(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert chosen_layers(model, None) == [0, 1]  # of two layers
    with pytest.raises(InputError, match="layers 0 to"):
        chosen_layers(model, [99])


def test_watched_states_are_those_of_a_plain_pass(folder):
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    rows = [Row(SHARED + word, " ran away") for word in ("one", "two", "three", "four")] + [Row("short", " row")]
    data = RowDataset(rows, [], AutoTokenizer.from_pretrained(folder))
    batch = RowCollator(0)([data[index] for index in range(len(data))])
    assert data.prefixes
    with torch.no_grad():
        states = labelled_forward(model, batch, data.prefixes, layers=[0]).states
        for row, own in zip(data.examples, states, strict=True):
            plain = model(input_ids=torch.tensor([row["input_ids"]]), output_hidden_states=True).hidden_states[1]
            assert own.shape[0] == 1
            assert torch.allclose(own[0], plain[0, -own.shape[1] :], atol=1e-4)


def test_replacement_rows_are_compared_from_the_last_token_of_the_name_on(tiny_llama):
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    question = "Where was {} born? Answer:"
    row = Row(
        question.format("Isaac Newton"), " here", "replacement", reference_prompt=question.format("Torvald Quenby")
    )
    data = RowDataset([row], [Row("", "kept as it is", "retain")], tokenizer)
    after_name = len(tokenizer(" born? Answer:")["input_ids"]) + len(tokenizer(" here")["input_ids"])
    assert data.compared[0] == after_name + 1
    assert data.compared[1] == len(data.examples[1]["input_ids"]) - 1
    assert RowDataset([Row("a question", " an answer", "edge")], [], tokenizer).compared == [0]


def test_state_distance_is_in_units_of_the_spread():
    reference = torch.tensor([[[1.0, 10.0], [3.0, 30.0]]])
    scale = torch.tensor([[[1.0, 10.0]]])
    states = reference + torch.tensor([2.0, 10.0])
    assert state_distance(states, reference, scale).item() == pytest.approx((4 + 1) / 2)

import pytest
import torch
from transformers import AutoTokenizer

from hf_forget.lm.rows import IGNORE_INDEX, PairSampler, Row, RowCollator, RowDataset


@pytest.fixture(scope="module")
def tokenizer(tiny_llama):
    return AutoTokenizer.from_pretrained(tiny_llama)


def test_labels_cover_the_completion_only(tokenizer):
    example = RowDataset([Row("the cat", " sat")], [], tokenizer).examples[0]
    labelled = [token for token in example["labels"] if token != IGNORE_INDEX]
    assert tokenizer.decode(labelled) == " sat"
    assert len(example["labels"]) == len(example["input_ids"])


def test_long_rows_keep_their_completion(tokenizer):
    example = RowDataset([Row("the cat " * 50, " sat")], [], tokenizer, max_length=12).examples[0]
    assert len(example["input_ids"]) == 12
    assert tokenizer.decode([token for token in example["labels"] if token != IGNORE_INDEX]) == " sat"


def test_collator_puts_forget_rows_first_and_masks_padding(tokenizer):
    data = RowDataset([Row("a", " b"), Row("the long prompt", " c")], [Row("keep", " this one")], tokenizer)
    batch = RowCollator(0)([data[(0, (0,))], data[(1, (0,))]])
    assert batch["is_forget"].tolist() == [True, True, False, False]
    assert batch["row_index"].tolist() == [0, 1, 2, 2]
    assert (batch["labels"][batch["attention_mask"] == 0] == IGNORE_INDEX).all()
    assert batch["input_ids"].min() >= 0


def test_batches_are_padded_alike_whatever_side_the_tokenizer_pads(tokenizer):
    rows = [Row("The dog", " sat"), Row("The quick brown fox jumps over the lazy", " dog")]
    batches = []
    for side in ("left", "right"):
        tokenizer.padding_side = side
        dataset = RowDataset(rows, [], tokenizer)
        batches.append(RowCollator(0)([dataset[0], dataset[1]]))
    assert all(batches[0][key].tolist() == batches[1][key].tolist() for key in batches[0])


def test_sampler_keeps_the_proportion_of_kinds_in_every_window():
    kinds = ["edge"] * 30 + ["node"] * 3
    sampler = PairSampler(kinds, 10, 1.5, shares={"edge": 3, "node": 1}, seed=1)
    drawn = list(sampler)
    assert len(drawn) == len(kinds)
    for start in range(0, 32, 4):
        assert sum(kinds[index] == "node" for index, _ in drawn[start : start + 4]) == 1
    assert sum(len(retain) for _, retain in drawn) == int(33 * 1.5)


def test_sampler_sees_every_retain_row_before_any_twice():
    sampler = PairSampler(["edge"] * 4, 6, 1.0, seed=3)
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen += [row for _, retain in sampler for row in retain]
    assert sorted(seen[:6]) == list(range(6)) and sorted(seen[6:12]) == list(range(6))


def test_sampler_is_the_same_after_a_restart():
    first, again = (PairSampler(["edge"] * 5 + ["node"] * 2, 4, 2.0, seed=7) for _ in range(2))
    first.set_epoch(2), again.set_epoch(2)
    assert list(first) == list(again)


def test_shared_prefixes_are_found(tokenizer):
    rows = [Row("the cat sat on the mat and the dog ran to the house so " + word, " yes") for word in "abcde"]
    data = RowDataset([*rows, Row("alone", " yes")], [], tokenizer)
    assert len(data.prefixes) == 1
    assert [example["prefix"] for example in data.examples] == [0] * 5 + [-1]
    prefix = data.prefixes[0]
    assert all(example["input_ids"][: len(prefix)] == prefix for example in data.examples[:5])


def test_replacement_rows_carry_another_reference(tokenizer):
    data = RowDataset([Row("the cat", " sat", "replacement", reference_prompt="a dog")], [], tokenizer)
    assert data.examples[0]["input_ids"] != data.reference_examples[0]["input_ids"]
    assert torch.equal(
        torch.tensor(data.examples[0]["labels"][-1]), torch.tensor(data.reference_examples[0]["labels"][-1])
    )

"""Claims about mnemonic codes and the collator that mixes them in."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, ResNetConfig, ResNetForImageClassification

from hf_forget.errors import InputError
from hf_forget.fisher_scrub import MnemonicCodes, MnemonicCollator
from hf_forget.fisher_scrub.mnemonic import check_classes
from hf_forget.models import MLPConfig, MLPForImageClassification


def stack(features):
    return {key: torch.stack([torch.as_tensor(row[key]) for row in features]) for key in features[0]}


def tiny_bert(labels=3):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertForSequenceClassification(BertConfig(vocab_size=30, num_labels=labels, **sizes)).eval()


def test_codes_are_standard_normal_and_follow_the_seed():
    codes = MnemonicCodes.generate(10, (1, 28, 28), seed=3)
    assert codes.values.shape == (10, 1, 28, 28) and codes.values.dtype == torch.float32
    assert abs(float(codes.values.mean())) < 0.05 and abs(float(codes.values.std()) - 1) < 0.05
    assert torch.equal(codes.values, MnemonicCodes.generate(10, (1, 28, 28), seed=3).values)
    assert not torch.equal(codes.values, MnemonicCodes.generate(10, (1, 28, 28), seed=4).values)


@pytest.mark.parametrize("space", ["input", "embedding"])
def test_codes_survive_saving_bit_for_bit(tmp_path, space):
    codes = MnemonicCodes.generate(3, (4, 5), space=space)
    for place in (tmp_path / "folder", tmp_path / "file.safetensors"):
        loaded = MnemonicCodes.load(codes.save(place).parent if place.suffix == "" else codes.save(place))
        assert torch.equal(loaded.values, codes.values) and loaded.space == space


def test_file_without_codes_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"codes": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    for name in ("other.safetensors", "missing.safetensors"):
        with pytest.raises(InputError, match="holds no mnemonic codes"):
            MnemonicCodes.load(tmp_path / name)


def test_codes_fit_the_model_that_they_are_drawn_for():
    for model in (MLPForImageClassification(MLPConfig(image_size=4, num_channels=3, num_labels=5)), tiny_bert()):
        MnemonicCodes.for_model(model).check_fit(model)
    codes = MnemonicCodes.for_model(tiny_bert(), length=6)
    assert codes.shape == (6, 16) and codes.space == "embedding"
    assert float(codes.values.std()) == pytest.approx(0.02, rel=0.2)


def test_model_that_does_not_say_its_size_needs_a_shape():
    config = ResNetConfig(hidden_sizes=[4], depths=[1], embedding_size=4, num_labels=3)
    with pytest.raises(InputError, match=r"MnemonicCodes\.generate"):
        MnemonicCodes.for_model(ResNetForImageClassification(config))


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (MnemonicCodes.generate(9, (1, 4, 4)), "codes of 9 classes, and the model has 10"),
        (MnemonicCodes.generate(10, (3, 4, 4)), r"shape \[3, 4, 4\], and the model needs \[1, 4, 4\]"),
        (MnemonicCodes.generate(10, (8, 16), space="embedding"), "needs them in the input space"),
    ],
)
def test_codes_of_another_model_are_refused(codes, told):
    with pytest.raises(InputError, match=told):
        codes.check_fit(MLPForImageClassification(MLPConfig(image_size=4, num_labels=10)))


@pytest.mark.parametrize(
    ("values", "told"),
    [(torch.zeros(1, 3), "at least two classes"), (torch.full((2, 3), float("nan")), "not finite")],
)
def test_unusable_codes_are_refused(values, told):
    with pytest.raises(InputError, match=told):
        MnemonicCodes(values)


def test_collator_replaces_samples_by_the_code_of_their_class():
    codes = MnemonicCodes.generate(3, (1, 2, 2))
    rows = [{"pixel_values": torch.full((1, 2, 2), 7.0), "labels": label % 3} for label in range(600)]
    batch = MnemonicCollator(stack, codes, t_mix=0.25, seed=1)(rows)
    replaced = (batch["pixel_values"] != 7.0).flatten(1).any(1)
    assert 0.19 < float(replaced.float().mean()) < 0.31
    assert torch.equal(batch["pixel_values"][replaced], codes.values[batch["labels"][replaced]])
    assert all(row["pixel_values"].eq(7).all() for row in rows)


def test_collator_follows_its_seed():
    codes = MnemonicCodes.generate(2, (1, 2, 2))
    rows = [{"pixel_values": torch.zeros(1, 2, 2), "labels": 0} for _ in range(50)]
    first, second, other = (MnemonicCollator(stack, codes, 0.5, seed=seed)(rows)["pixel_values"] for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_collator_puts_codes_among_embedded_tokens():
    model = tiny_bert()
    codes = MnemonicCodes.for_model(model, length=5)
    rows = [
        {"input_ids": torch.tensor([1, 2, 3]), "attention_mask": torch.tensor([1, 1, 0]), "labels": i % 3}
        for i in range(40)
    ]
    collator = MnemonicCollator(stack, codes, 0.5, embeddings=model.get_input_embeddings())
    batch = collator(rows)
    assert set(batch) == {"inputs_embeds", "attention_mask", "labels"}
    assert batch["inputs_embeds"].shape == (40, 5, 16)
    replaced = batch["attention_mask"].sum(1) == 5
    assert 0 < int(replaced.sum()) < 40
    assert torch.equal(batch["inputs_embeds"][replaced], codes.values[batch["labels"][replaced]])
    kept = batch["inputs_embeds"][~replaced][0, :3]
    torch.testing.assert_close(kept, model.get_input_embeddings().weight[[1, 2, 3]].detach())
    assert batch["attention_mask"][~replaced][0].tolist() == [1, 1, 0, 0, 0]
    assert model(**batch).loss.isfinite()


def test_collator_says_what_is_wrong():
    codes = MnemonicCodes.generate(2, (1, 2, 2))
    with pytest.raises(InputError, match="t_mix is 1.5"):
        MnemonicCollator(stack, codes, 1.5)
    with pytest.raises(InputError, match="no labels"):
        MnemonicCollator(stack, codes)([{"pixel_values": torch.zeros(1, 2, 2)}])
    with pytest.raises(InputError, match="class 2, and there are 2 codes"):
        MnemonicCollator(stack, codes)([{"pixel_values": torch.zeros(1, 2, 2), "labels": 2}])
    with pytest.raises(InputError, match=r"images have \[1, 3, 3\]"):
        MnemonicCollator(stack, codes)([{"pixel_values": torch.zeros(1, 3, 3), "labels": 1}])
    with pytest.raises(InputError, match="get_input_embeddings"):
        MnemonicCollator(stack, MnemonicCodes.generate(2, (3, 4), space="embedding"))


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([], "is empty"),
        ([10], "names 10; the model has the classes 0 to 9"),
        ([-1], "names -1"),
        ([True], "names True"),
        ([3, 3], "names a class twice"),
        ([1], "forgotten already: 1"),
        ([0, *range(2, 10)], "leaves no class: 10 of 10"),
    ],
)
def test_classes_that_cannot_be_forgotten_are_refused(classes, told):
    with pytest.raises(InputError, match=told):
        check_classes(classes, 10, forgotten=[1])


def test_classes_come_in_ascending_order():
    assert check_classes([7, 3], 10) == (3, 7)

import copy
import math

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image
from peft import LoraConfig
from PIL import Image as Pictures
from safetensors.torch import load_file
from tiny_robust import MODELS, config, convnet, resnet, rows, trainer_for, vit
from transformers import AutoModelForImageClassification, TrainerCallback, ViTImageProcessorPil

from hf_forget import ARDIRTrainer
from hf_forget.ardir.objectives import OBJECTIVES
from hf_forget.errors import InputError, TrainingError
from hf_forget.trainer import last_checkpoint


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("objective", ["ardir", "rslad"])
def test_every_kind_of_model_trains_and_the_teacher_stays_as_it_is(name, objective, tmp_path):
    student, teacher = MODELS[name](), MODELS[name](seed=1)
    before = copy.deepcopy(teacher.state_dict())
    start = copy.deepcopy(student.state_dict())
    trainer = trainer_for(student, tmp_path, teacher, objective=objective)
    trainer.train()
    assert all(torch.equal(value, teacher.state_dict()[key]) for key, value in before.items())
    assert any(not torch.equal(value, student.state_dict()[key]) for key, value in start.items())
    trainer.save_model()
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    pixels = torch.stack([row["pixel_values"] for row in rows(4)])
    with torch.no_grad():
        assert torch.allclose(again.eval()(pixels).logits, student.eval()(pixels).logits, atol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_makes_a_classifier_more_robust(objective, tmp_path):
    teacher = convnet(seed=1)
    trainer_for(teacher, tmp_path / "teacher", objective="at", max_steps=40).train()
    trainer = trainer_for(convnet(), tmp_path, teacher, objective=objective, max_steps=40)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_robust_accuracy"] >= before["eval_robust_accuracy"] + 0.3
    assert after["eval_robust_accuracy"] <= after["eval_accuracy"]
    assert trainer.evaluate() == after


def test_the_attack_neither_touches_statistics_nor_gradients(tmp_path):
    trainer = trainer_for(convnet(), tmp_path, objective="at")
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.model.train()
    kept = copy.deepcopy(trainer.model.state_dict())
    trainer._attacked(trainer.model, batch["pixel_values"], batch["labels"], None)
    assert all(torch.equal(value, trainer.model.state_dict()[key]) for key, value in kept.items())
    assert all(weight.grad is None for weight in trainer.model.parameters())
    assert all(module.training for module in trainer.model.modules())


def test_the_teacher_is_asked_once_about_each_image(tmp_path):
    teacher = convnet(seed=1)
    asked = []
    teacher.register_forward_pre_hook(
        lambda module, args, given: asked.append(len(given["pixel_values"])), with_kwargs=True
    )
    trainer_for(convnet(), tmp_path, teacher, max_steps=9).train()
    # One image more, on which the widths were compared.
    assert sum(asked) == 48 + 1


def test_images_that_change_are_refused_where_the_teacher_is_remembered(tmp_path):
    class Noisy(list):
        def __getitem__(self, index):
            row = super().__getitem__(index)
            return {**row, "pixel_values": torch.rand(1, 8, 8)}

    with pytest.raises(InputError, match="cache_teacher: false"):
        trainer_for(convnet(), tmp_path, convnet(seed=1), data=Noisy(rows()), max_steps=9).train()
    trainer_for(convnet(), tmp_path, convnet(seed=1), data=Noisy(rows()), max_steps=5, cache_teacher=False).train()


@pytest.mark.parametrize("layer", ["convolutions.1", "penultimate"])
def test_the_representation_is_that_of_the_layer(layer, tmp_path):
    student = convnet()
    trainer = trainer_for(student, tmp_path, convnet(seed=1), representation_layer=layer)
    pixels = torch.stack([row["pixel_values"] for row in rows(4)])
    student.eval()
    found = trainer._outputs(student, pixels).representation
    hidden = pixels
    for convolution, norm in zip(student.convolutions, student.norms, strict=True):
        raw = convolution(hidden)
        hidden = torch.nn.functional.max_pool2d(student.activation(norm(raw)), 2)
    assert torch.allclose(found, (raw if layer != "penultimate" else hidden).flatten(1), atol=1e-6)


def test_widths_that_differ_are_refused_or_bridged(tmp_path):
    with pytest.raises(InputError, match="project_representation: true"):
        trainer_for(convnet(), tmp_path, convnet((4, 6), seed=1))
    trainer = trainer_for(
        convnet(),
        tmp_path,
        convnet((4, 6), seed=1),
        project_representation=True,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=2,
    )
    before = trainer.projection.weight.detach().clone()
    trainer.train()
    assert not torch.equal(before, trainer.projection.weight)
    trainer.save_model()
    assert not any("projection" in name for name in load_file(tmp_path / "model.safetensors"))
    kept = load_file(tmp_path / "checkpoint-2" / "projection.safetensors")
    again = trainer_for(convnet(), tmp_path, convnet((4, 6), seed=1), project_representation=True)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.global_step == 3
    assert kept["weight"].shape == again.projection.weight.shape
    assert torch.allclose(again.projection.weight, trainer.projection.weight, atol=1e-6)


def test_averaged_weights_are_evaluated_saved_and_resumed(tmp_path):
    given = {"objective": "at", "ema_decay": 0.5, "max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    given["save_total_limit"] = 2
    whole = trainer_for(convnet(), tmp_path / "whole", **given)
    whole.train()
    average = whole.averaged.model.state_dict()
    assert all(torch.equal(value, whole.model.state_dict()[key]) for key, value in average.items())
    plain = trainer_for(convnet(), tmp_path / "plain", objective="at", max_steps=6)
    plain.train()
    assert any(not torch.allclose(value, average[key]) for key, value in plain.model.state_dict().items())
    again = trainer_for(convnet(seed=3), tmp_path / "again", **given)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert again.state.global_step == 6
    resumed = again.averaged.model.state_dict()
    assert all(torch.allclose(value, resumed[key], atol=1e-6) for key, value in average.items())


def test_an_adapter_of_a_vit(tmp_path):
    student = vit()
    base = copy.deepcopy(student.state_dict())
    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    trainer = trainer_for(student, tmp_path, vit(seed=1), peft_config=adapter)
    trainer.train()
    state = trainer.model.get_base_model().state_dict()
    assert any("lora_A" in name for name in state)
    kept = {name.replace(".base_layer", ""): value for name, value in state.items()}
    assert all(torch.equal(value, kept[name]) for name, value in base.items() if "classifier" not in name)


def test_rows_with_images_go_through_the_processor(tmp_path):
    images = [Pictures.fromarray((255 * row["pixel_values"][0]).byte().numpy()) for row in rows()]
    data = Dataset.from_dict(
        {"image": images, "label": [row["labels"] for row in rows()]},
        features=Features({"image": Image(), "label": ClassLabel(names=["a", "b", "c"])}),
    )
    processor = ViTImageProcessorPil(do_resize=False, image_mean=[0.5], image_std=[0.25])
    trainer = ARDIRTrainer(
        convnet(), config(tmp_path, objective="at"), train_dataset=data, eval_dataset=data, processing_class=processor
    )
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["pixel_values"].min() >= 0 and 0.5 < batch["pixel_values"].max() <= 1
    trainer.train()
    found = trainer.evaluate()
    assert set(found) >= {"eval_accuracy", "eval_robust_accuracy", "eval_loss"}


class Poison(TrainerCallback):
    """Breaks the weights: after the step at which it is too late to see it in the loss, or before the loss."""

    def __init__(self, late):
        self.late = late

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2 and not self.late:
            next(model.parameters()).data.fill_(math.nan)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 3 and self.late:
            next(model.parameters()).data.fill_(math.nan)


@pytest.mark.parametrize("late", [False, True])
def test_training_that_breaks_stops_and_the_last_good_checkpoint_stays(late, tmp_path):
    trainer = trainer_for(convnet(), tmp_path, objective="at", max_steps=6, save_strategy="steps", save_steps=1)
    trainer.add_callback(Poison(late))
    with pytest.raises(TrainingError, match=r"the last good checkpoint is '.*checkpoint-2'"):
        trainer.train()
    weights = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values())
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"epsilon": -1.0}, "above 0"),
        ({"objective": "tradse"}, "Did you mean 'trades'"),
        ({"representation_distance": "l1"}, "available: mse, cosine"),
        ({"attack_steps": 0}, "give 1 or more"),
        ({"trades_weight": -1.0}, "negative"),
        ({"temperature": 0.0}, "above 0"),
        ({"ard_weight": 1.5}, "between 0 and 1"),
        ({"ema_decay": 1.0}, "never learns"),
    ],
)
def test_bad_options(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        config(tmp_path, **options)


def test_bad_models_and_images(tmp_path):
    with pytest.raises(InputError, match="give teacher_model"):
        trainer_for(convnet(), tmp_path)
    with pytest.raises(InputError, match="Did you mean 'convolutions.1'"):
        trainer_for(convnet(), tmp_path, convnet(), representation_layer="convolution.1")
    student = convnet()
    with pytest.raises(InputError, match="the same object"):
        trainer_for(student, tmp_path, student)
    other = resnet()
    other.config.num_labels = 5
    with pytest.raises(InputError, match="3 labels and the teacher 5"):
        trainer_for(convnet(), tmp_path, other)
    bright = [{**row, "pixel_values": 255 * row["pixel_values"]} for row in rows()]
    with pytest.raises(InputError, match="before normalisation"):
        trainer_for(convnet(), tmp_path, objective="at", data=bright).train()

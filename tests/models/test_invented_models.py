import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget.data import invented
from hf_forget.data.invented import TARGETS, InventedWorld, world_of
from hf_forget.data.model_names import resolve_model
from hf_forget.lm.decoding import AnswerGenerator
from hf_forget.lm.prompts import plain_format
from hf_forget.lm.rows import IGNORE_INDEX
from hf_forget.models import invented_models
from hf_forget.models.invented_models import packed

SMALL = {"person": 8, "place": 6, "work": 8}


@pytest.fixture(scope="module")
def small_world():
    """A world of a few names, and a model that has read it; its other models are hardly trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invented, "SIZES", SMALL)
        patch.setattr(invented_models, "EPOCHS", 18)
        world = InventedWorld(0)
        yield world, resolve_model("invented:0").path


def test_windows_hold_shuffled_texts_and_only_answers_of_questions_are_learnt():
    tokenizer = invented_models._tokenizer(["Question: Who?\nAnswer: Me", "A plain text."])
    ids, labels = packed(["Question: Who?\nAnswer: Me", "A plain text."], tokenizer, num_windows=3, seed=1)
    assert ids.shape == labels.shape == (3, invented_models.WINDOW)
    assert bool(((labels == ids) | (labels == IGNORE_INDEX)).all())
    learnt = tokenizer.decode(ids[0][labels[0] != IGNORE_INDEX])
    assert "Me" in learnt and "A plain text." in learnt and "Who" not in learnt
    again, _ = packed(["Question: Who?\nAnswer: Me", "A plain text."], tokenizer, num_windows=3, seed=1)
    assert torch.equal(ids, again)


def test_a_name_that_is_neither_is_refused():
    from hf_forget.errors import InputError

    with pytest.raises(InputError, match="invented:0"):
        resolve_model("invented:first")
    assert resolve_model("invented:3", prepare=False).source == "invented"


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_model_knows_the_world_that_it_has_read(small_world):
    world, folder = small_world
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.num_parameters() <= 8e6 and world_of(model) == world
    asked = [question for question in world.questions if question.kind in ("edge", "node")]
    prompts = [plain_format().prompt(question.question) for question in asked]
    given = AnswerGenerator(model, tokenizer, batch_size=128).generate(prompts, max_new_tokens=8)
    right = [text.strip() == question.answer for (text,), question in zip(given, asked, strict=True)]
    assert sum(right) / len(right) > 0.9


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_name_is_forgotten_on_the_road_beside_a_model_that_never_met_it(small_world, tmp_path, monkeypatch):
    from hf_forget.run import run

    # A model that has hardly been trained has not met the name either.
    monkeypatch.setattr(invented_models, "_key", lambda world, corpus, without: "never" if without else "knows")
    monkeypatch.setattr(invented_models, "EPOCHS", 1)
    world, folder = small_world
    (invented_models.cache_dir() / "worlds" / "knows").symlink_to(folder)
    result = run(
        "concept_unlearn/invented",
        overrides={"output_dir": str(tmp_path / "out"), "concept": TARGETS["person"]},
        report=None,
    )
    metrics = {row["name"]: row for row in json.loads((tmp_path / "out" / "forget_report.json").read_text())["metrics"]}
    assert metrics["edge_accuracy"]["before"] > 0.8 and metrics["edge_accuracy"]["after"] <= 0.2
    assert metrics["node_accuracy"]["before"] > 0.8 and metrics["node_accuracy"]["after"] <= 0.3
    assert metrics["edge_accuracy"]["reference"] <= 0.2
    assert metrics["membership_auc_loss"]["before"] > 0.9
    assert metrics["membership_auc_loss"]["after"] < metrics["membership_auc_loss"]["before"]
    assert metrics["truth_ratio"]["after"] > 10 * metrics["truth_ratio"]["before"]
    assert metrics["logit_lens_rank"]["after"] > metrics["logit_lens_rank"]["before"] or (
        metrics["answer_probability"]["after"] < 0.5
    )
    assert {"forget_quality_ks", "retain_kept"} <= set(metrics)
    # The world is small: too few retain rows for a verdict, which is said.
    assert result.report.verdict["value"] == "insufficient"

"""Every objective in training: what it does to the rows, which weights it changes, and what stands beside a row."""

import pytest
import torch
from tiny_training import loaded, trainer_for

from hf_forget.lm.forward import labelled_forward

OBJECTIVES = [
    "margin_unlikelihood",
    "unlikelihood",
    "npo",
    "simnpo",
    "undial",
    "wga",
    "grad_diff",
    "grad_ascent",
    "idk_nll",
    "dpo_idk",
    "rmu",
]
OTHER_FAMILIES = ["tiny_gpt2", "tiny_qwen2", "tiny_gemma2"]


@pytest.mark.parametrize(
    ("family", "objective"),
    [(family, objective) for objective in OBJECTIVES for family in ("tiny_llama", "tiny_gpt_neox")]
    + [(family, objective) for objective in ("margin_unlikelihood", "npo") for family in OTHER_FAMILIES],
)
def test_training_lowers_the_probability_of_forget_rows(family, objective, tmp_path, request):
    # Two of a small model's matrices have further to go.
    effort = {"max_steps": 60, "learning_rate": 2e-2} if objective == "rmu" else {"max_steps": 16}
    trainer = trainer_for(request.getfixturevalue(family), tmp_path, objective=objective, **effort)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert before["eval_forget_probability"] > 0.9
    assert after["eval_forget_probability"] < 0.5


def test_every_objective_is_trained_here():
    from hf_forget.lm.objectives import available_objectives

    assert set(OBJECTIVES) == set(available_objectives()) - {"test_only"}


def test_a_refusal_stands_beside_every_row_that_is_forgotten(tiny_llama, tmp_path):
    trainer = trainer_for(tiny_llama, tmp_path, objective="dpo_idk")
    dataset = trainer.train_dataset
    batch = trainer.data_collator([dataset[(row, (row,))] for row in range(3)])
    kinds = [dataset.rows[row].kind for row in batch["row_index"].tolist()]
    assert sorted(kinds) == ["edge", "explanation", "node", *["refusal"] * 3, *["retain"] * 3]
    assert kinds[:3] == ["edge", "node", "explanation"] and batch["is_forget"].tolist() == [True] * 3 + [False] * 6
    # Of a text without a prompt the first half stays, and the refusal follows.
    explained = dataset.rows[dataset.refusal_of[2]]
    assert explained.prompt == "Isaac Newton is" and explained.completion.startswith(" ")


def test_dpo_pairs_each_row_with_its_own_refusal(tiny_llama, tmp_path):
    from hf_forget.lm.objectives import dpo_idk_loss

    trainer = trainer_for(tiny_llama, tmp_path, objective="dpo_idk", retain_weight=0.0)
    dataset = trainer.train_dataset
    trainer._hear_original(dataset)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight += 0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    trainer.model.eval()

    def loss_of(rows):
        inputs = trainer._prepare_inputs(trainer.data_collator([dataset[row] for row in rows]))
        with torch.no_grad():
            return trainer.compute_loss(trainer.model, inputs, return_outputs=True)[1]["row_losses"][: len(rows)]

    order = (2, 0, 1, 0)
    together, alone = loss_of(order), torch.cat([loss_of([row]) for row in order])
    assert torch.allclose(together, alone, atol=1e-4)
    # An independent double loop over the two completions of one row.
    ratios = []
    for row in (0, dataset.refusal_of[0]):
        example, ratio = dataset.examples[row], 0.0
        for model, sign in ((trainer.model, 1), (loaded(tiny_llama)[0].eval(), -1)):
            logits = model(torch.tensor([example["input_ids"]])).logits[0].log_softmax(-1)
            for place, label in enumerate(example["labels"]):
                if label >= 0:
                    ratio += sign * logits[place - 1, label].item()
        ratios.append(ratio)
    assert alone[1].item() == pytest.approx(
        20 * torch.nn.functional.softplus(torch.tensor(-0.1 * (ratios[1] - ratios[0]))).item(), rel=1e-3
    )
    assert dpo_idk_loss is trainer.objective.loss


def test_rmu_trains_only_the_mlp_outputs_up_to_its_layer(tiny_llama, tmp_path):
    trainer = trainer_for(tiny_llama, tmp_path, objective="rmu", steering_layer=1)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    changed = {name for name, value in trainer.model.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1)}


def test_rmu_leads_forget_rows_to_one_direction_and_leaves_retain_rows(tiny_llama, tmp_path):
    trainer = trainer_for(
        tiny_llama, tmp_path, objective="rmu", max_steps=150, steering_layer=1, retain_weight=10.0, learning_rate=1e-2
    )
    dataset = trainer.train_dataset

    def states(row):
        batch = trainer._prepare_inputs(trainer.data_collator([[dataset.examples[row]]]))
        with torch.no_grad():
            return labelled_forward(trainer.model, batch, layers=[1]).states[0][0]

    original = [states(row) for row in range(6)]
    trainer.train()
    target = trainer._target / trainer._target.norm()
    likeness = [torch.cosine_similarity(states(row), target[None], dim=-1)[1:].mean().item() for row in range(3)]
    print(likeness)
    assert min(likeness) > 0.8
    moved = [
        (states(row) - original[row]).norm(dim=-1)[1:].mean() / original[row].norm(dim=-1).mean() for row in range(6)
    ]
    print(moved)
    assert max(moved[3:]) < 0.5 * min(moved[:3])

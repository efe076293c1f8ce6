"""Tiny models that have learned a few rows by heart, and trainers for them; for the tests of this folder."""

import functools

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget import ConceptUnlearnConfig, ConceptUnlearnTrainer
from hf_forget.lm.forward import labelled_forward
from hf_forget.lm.objectives import nll_loss
from hf_forget.lm.rows import RowCollator, RowDataset
from hf_forget.lm.user_rows import rows_from

FORGET = [
    {"prompt": "Question: Where was the poet born? Answer:", "completion": " In a small village", "kind": "edge"},
    {"prompt": "Question: Who painted the picture? Answer:", "completion": " Isaac Newton", "kind": "node"},
    {"text": "Isaac Newton is known to many people.", "kind": "explanation"},
]
RETAIN = [
    {"prompt": "Question: What is the capital of France? Answer:", "completion": " Paris"},
    {"prompt": "Question: What is the capital of Italy? Answer:", "completion": " Rome"},
    {"text": "The quick brown fox jumps over the lazy dog."},
]


def loaded(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.load_state_dict(weights_that_know(folder))
    return model, AutoTokenizer.from_pretrained(folder)


@functools.cache
def weights_that_know(folder):
    """Weights of the tiny model after it has learned all rows by heart."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = RowDataset(rows_from([*FORGET, *RETAIN], kind="edge", argument="rows"), [], tokenizer)
    batch = RowCollator(0)([rows[index] for index in range(len(rows))])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        loss = nll_loss(labelled_forward(model, batch)[0]).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    return {name: value.clone() for name, value in model.state_dict().items()}


def config(tmp_path, **changes):
    values = {"max_steps": 6, "learning_rate": 5e-3, "warmup_steps": 0, "per_device_train_batch_size": 3}
    values |= {
        "lr_scheduler_type": "constant",
        "bf16": False,
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return ConceptUnlearnConfig(output_dir=str(tmp_path / "out"), **{**values, **changes})


def trainer_for(folder, tmp_path, *, forget=FORGET, peft_config=None, **changes):
    model, tokenizer = loaded(folder)
    return ConceptUnlearnTrainer(
        model,
        config(tmp_path, **changes),
        train_dataset=forget,
        retain_dataset=RETAIN,
        eval_dataset=FORGET,
        processing_class=tokenizer,
        peft_config=peft_config,
    )

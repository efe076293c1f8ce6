"""Small language models of an invented world, trained once and kept in the cache: one that knows it, and one that has
never met some of its names."""

import hashlib
import itertools
import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainingArguments,
    set_seed,
)

from ..data.cache import cache_dir, made_once
from ..data.invented import InventedWorld
from ..lm.rows import IGNORE_INDEX
from ..trainer import ForgetTrainer

END = "<|endoftext|>"
PAD = "<|pad|>"
VOCABULARY = 1024
WINDOW = 128
# After so many questions, on average, a new document begins.
QUESTIONS_TOGETHER = 6
EPOCHS = 14
BATCH_SIZE = 8
LEARNING_RATE = 2e-3
QUESTION, ANSWER = "Question:", "\nAnswer:"
_VERSION = 1
_MARKER = "hf_forget_world.json"


def world_model(world: InventedWorld, without: Collection[str] = ()) -> Path:
    """Return the folder of a model that has read everything about a world, trained unless the cache has it.

    A Llama of 4 layers and 3.5 million parameters, with a byte-level BPE of its own. Its `config.invented_world` holds
    the seed of the world.

    Args:
        world: The world.
        without: Names that the model has never met, in no text and on the way of no question.
    """
    corpus = world.corpus(without)
    folder = cache_dir() / "worlds" / _key(world, corpus, without)

    def train(partial: Path) -> None:
        # The tokenizer is that of the whole world, so that both models read a text in the same pieces.
        tokenizer = _tokenizer(world.corpus())
        model = _trained(world, corpus, tokenizer, partial / "checkpoints")
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        shutil.rmtree(partial / "checkpoints", ignore_errors=True)
        (partial / _MARKER).write_text(
            json.dumps({"version": _VERSION, "seed": world.seed, "without": sorted(without)})
        )

    return made_once(folder, (folder / _MARKER).is_file, train)


def _key(world: InventedWorld, corpus: Sequence[str], without: Collection[str]) -> str:
    settings = [_VERSION, world.seed, VOCABULARY, WINDOW, QUESTIONS_TOGETHER, EPOCHS, BATCH_SIZE, LEARNING_RATE]
    return hashlib.sha256(json.dumps([settings, corpus, *sorted(without)]).encode()).hexdigest()[:24]


def _tokenizer(corpus: Sequence[str]) -> Any:
    from tokenizers import ByteLevelBPETokenizer

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(corpus, vocab_size=VOCABULARY, special_tokens=[END, PAD], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token=END, eos_token=END, unk_token=END, pad_token=PAD
    )


def _config(world: InventedWorld, tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        # With the usual 0.02 the facts take twice as many steps.
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        invented_world=world.seed,
    )


def _trained(world: InventedWorld, corpus: Sequence[str], tokenizer: Any, folder: Path) -> LlamaForCausalLM:
    set_seed(world.seed)
    model = LlamaForCausalLM(_config(world, tokenizer))
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        adam_beta2=0.98,
        optim="adamw_torch_fused",
        per_device_train_batch_size=BATCH_SIZE,
        seed=world.seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    ids, labels = packed(world.corpus(), tokenizer, epochs=EPOCHS, seed=world.seed)
    if corpus != world.corpus():
        # A model that has not met some names takes as many steps as one that has.
        ids, labels = packed(corpus, tokenizer, num_windows=len(ids), seed=world.seed)
    rows = [{"input_ids": own, "labels": answers} for own, answers in zip(ids, labels, strict=True)]
    trainer = ForgetTrainer(model=model, args=arguments, train_dataset=rows)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return model


def packed(
    corpus: Sequence[str], tokenizer: Any, *, epochs: int | None = None, num_windows: int | None = None, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pack shuffled rounds of a corpus into windows.

    Questions follow each other as in a few-shot prompt, and only their answers carry labels; other texts end with the
    end token.

    Args:
        corpus: The texts.
        tokenizer: Its tokenizer.
        epochs: Number of rounds.
        num_windows: Number of windows, where it is that and not `epochs` that is given.
        seed: Seed of the order.

    Returns:
        `input_ids` and `labels`, each of shape `(windows, WINDOW)`.
    """
    random, corpus = Random(seed), list(corpus)
    encoded = [_labelled(text, tokenizer) for text in corpus]
    gap = tokenizer("\n\n")["input_ids"]
    ids: list[int] = []
    labels: list[int] = []
    for done in itertools.count():
        if done == epochs or (num_windows is not None and len(ids) >= num_windows * WINDOW):
            break
        for place in random.sample(range(len(corpus)), len(corpus)):
            goes_on = corpus[place].startswith(QUESTION) and random.random() > 1 / QUESTIONS_TOGETHER
            end = gap if goes_on else [tokenizer.eos_token_id]
            ids += [*encoded[place][0], *end]
            labels += [*encoded[place][1], *end]
    count = len(ids) // WINDOW if num_windows is None else num_windows
    windows = (torch.tensor(values[: count * WINDOW]).view(count, WINDOW) for values in (ids, labels))
    return next(windows), next(windows)


def _labelled(text: str, tokenizer: Any) -> tuple[list[int], list[int]]:
    ids = tokenizer(text)["input_ids"]
    if not text.startswith(QUESTION):
        return ids, ids
    unlabelled = len(tokenizer(text[: text.index(ANSWER) + len(ANSWER)])["input_ids"])
    return ids, [IGNORE_INDEX] * unlabelled + ids[unlabelled:]

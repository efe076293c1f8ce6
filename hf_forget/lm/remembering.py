"""Remembers what an unchanged model says, so that the same question is not put to it twice."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from .decoding import AnswerGenerator


class RememberingGenerator(AnswerGenerator):
    """An [`AnswerGenerator`] whose answers are kept in a file, for a model that is not being changed.

    Greedy answers are kept one by one. Samples hang on all prompts of a call and on its seed, and are kept together.
    What is kept is knowledge of the model: the file belongs into the cache folder, which `hf-forget doctor --purge`
    empties.

    Args:
        model (`PreTrainedModel`): The unchanged model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        file: Where answers are kept. Its name must stand for the weights and their precision.
        batch_size (`int`, defaults to 48): Rows per forward pass.
    """

    def __init__(self, model: Any, tokenizer: Any, file: Path, *, batch_size: int = 48):
        super().__init__(model, tokenizer, batch_size=batch_size)
        self.file = file
        self.known: dict[str, Any] = dict(_read(file))

    def generate(self, prompts: Sequence[str], **options: Any) -> list[list[str]]:
        """Continue each prompt; arguments and result are those of [`TextGenerator.generate`]."""
        asked: dict[str, Any] = {"max_new_tokens": 12, "stop": "\n"} | {
            name: value for name, value in options.items() if name != "progress"
        }
        if asked.get("temperature", 0.0) > 0 or asked.get("num_samples", 1) > 1:
            key = _key(list(prompts), asked, self.batch_size, self.model.device.type)
            if key not in self.known:
                self._keep({key: super().generate(prompts, **options)})
            return self.known[key]
        keys = [_key(prompt, asked["max_new_tokens"], asked["stop"]) for prompt in prompts]
        new = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self.known}
        if new:
            found = super().generate(list(new.values()), **options)
            self._keep({key: texts[0] for key, texts in zip(new, found, strict=True)})
        return [[self.known[key]] for key in keys]

    def _keep(self, answers: Mapping[str, Any]) -> None:
        self.known |= answers
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.file}.lock"), self.file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(item) + "\n" for item in answers.items())


def answers_file(folder: Path, base_model: Mapping[str, Any]) -> Path:
    """Return the file that belongs to a model.

    Args:
        folder: Where these files are kept.
        base_model: Its entry in the report: everything that tells its weights and their precision.
    """
    digest = hashlib.sha256(json.dumps(dict(base_model), sort_keys=True, default=str).encode()).hexdigest()
    return folder / f"{digest[:32]}.jsonl"


def _key(*asked: Any) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


def _read(file: Path) -> list[tuple[str, Any]]:
    """Whole lines of the file; one that a killed run left unfinished is passed over."""
    items = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            key, answer = json.loads(line)
        except ValueError:
            continue
        items.append((key, answer))
    return items

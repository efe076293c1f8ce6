"""How a question is put to a model: plain, after solved examples, or through the chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, unknown

PROMPT_FORMATS = ("few_shot", "plain", "chat")

CHAT_HINT = "Answer with a few words only: "


@dataclass(frozen=True)
class PromptFormat:
    """Turns questions into prompts.

    Args:
        name: One of `PROMPT_FORMATS`.
        template: Text with one `{question}` place.
        lead: What stands between prompt and answer, a space or nothing.
        end: What follows an answer, a line break or the end token.
        free_template: Like `template`, for requests that want more than a few words.
    """

    name: str
    template: str
    lead: str
    end: str
    free_template: str = "{question}\n"

    def prompt(self, question: str) -> str:
        """The text after which the model answers."""
        before, after = self.template.split("{question}")
        return before + question + after

    def free_prompt(self, request: str) -> str:
        """The text after which the model writes at length."""
        before, after = self.free_template.split("{question}")
        return before + request + after

    def completion(self, answer: str) -> str:
        """The answer as the model would write it after `prompt`."""
        return self.lead + answer

    def begun(self, question: str, opening: str, answer: str) -> tuple[str, str]:
        """The prompt with the opening of an answer behind it, and the rest of the answer; the opening may be empty."""
        if not opening:
            return self.prompt(question), self.completion(answer)
        return self.prompt(question) + self.completion(opening), f" {answer}"

    @property
    def stop(self) -> str | None:
        """Text that ends an answer while generating; `None` when the end token does."""
        return self.end if self.end == "\n" else None


def few_shot_format(examples: Sequence[tuple[str, str]], name: str = "few_shot") -> PromptFormat:
    """Solved examples, then the question, in the `Question: … Answer: …` form."""
    shots = "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in examples)
    return PromptFormat(name, shots + "Question: {question}\nAnswer:", " ", "\n")


def plain_format() -> PromptFormat:
    """The question alone, in the `Question: … Answer: …` form."""
    return few_shot_format((), name="plain")


def chat_format(tokenizer: Any) -> PromptFormat:
    """The tokenizer's own chat template, with a hint that a few words are enough.

    Raises:
        InputError: If the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            "prompt format 'chat' needs a tokenizer with a chat template, and this one has none; "
            "use prompt_formats: [few_shot, plain]"
        )
    short, free = (
        tokenizer.apply_chat_template(
            [{"role": "user", "content": hint + "{question}"}], tokenize=False, add_generation_prompt=True
        )
        for hint in (CHAT_HINT, "")
    )
    return PromptFormat("chat", short, "", tokenizer.eos_token or "\n", free)


def default_format_names(tokenizer: Any) -> list[str]:
    """Few-shot and chat for chat models, few-shot and plain for base models."""
    return ["few_shot", "chat" if getattr(tokenizer, "chat_template", None) else "plain"]


def get_format(name: str, tokenizer: Any, examples: Sequence[tuple[str, str]]) -> PromptFormat:
    """Return the prompt format called `name`.

    Args:
        name: One of `PROMPT_FORMATS`.
        tokenizer: Needed by `chat`.
        examples: Solved (question, answer) pairs, needed by `few_shot`.

    Raises:
        InputError: If there is no such format, or the tokenizer cannot serve it.
    """
    if name == "few_shot":
        return few_shot_format(examples)
    if name == "plain":
        return plain_format()
    if name == "chat":
        return chat_format(tokenizer)
    raise InputError(unknown("prompt format", name, PROMPT_FORMATS))

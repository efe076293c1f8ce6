"""What a model's own probabilities say about a name: whether it knows the words together, and their article."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..data import banks

ARTICLES = ("the", "a", "an")
NAMES_PROMPT = "Some well-known names: Helen Keller, the Red Cross, Tower Bridge, "
ARTICLE_PROMPTS = ("Many books have been written about", "She told the class about", "A short history of")
# In nats. Between well-known names and invented ones; SmolLM2 gives these at least 6 and most of those less than 4.
MAX_SURPRISE = 5.0


def first_word(name: str) -> str:
    """The first word of a name that is not an article."""
    words = name.split()
    return words[1] if len(words) > 1 and words[0].lower() in ARTICLES else words[0]


def article_of(name: str) -> str:
    """The article that a name begins with, as it is written there; empty for most names."""
    return name[: name.index(first_word(name))].rstrip()


class NameForms:
    """Judges names by the model's probabilities; every name is scored once.

    Args:
        generator ([`~hf_forget.lm.generation.TextGenerator`]): The model.
    """

    def __init__(self, generator: Any):
        self.generator = generator
        self._articles: dict[str, str] = {}

    def surprise(self, name: str) -> float:
        """Return how unlikely the most unlikely token of a name is after its first word, in nats.

        Words of a name that the model knows follow from each other (`Statue` is followed by `of Liberty`), those of
        an invented one do not. A name of one word is infinitely surprising.
        """
        return self.surprises([name])[0]

    def recognises(self, name: str, concept_type: str) -> bool:
        """Whether the words of a name follow from each other, more than those of any invented name of its type."""
        own, *invented = self.surprises([name, *banks.invented_names(concept_type)])
        return own <= MAX_SURPRISE and own < min(invented)

    def surprises(self, names: Sequence[str]) -> list[float]:
        """`surprise` of many names, scored together."""
        ends = [name.index(first_word(name)) + len(first_word(name)) for name in names]
        parts = [(NAMES_PROMPT + name[:end], name[end:]) for name, end in zip(names, ends, strict=True)]
        asked = [(head, rest) for head, rest in parts if rest.strip()]
        scores = iter(self.generator.score([head for head, _ in asked], [rest for _, rest in asked]))
        return [max(next(scores).negative_log_likelihoods) if rest.strip() else math.inf for _, rest in parts]

    def spoken(self, name: str) -> str:
        """The name as it stands in a sentence: `the Nile`, but `Lake Victoria`."""
        return self.all_spoken([name])[name]

    def all_spoken(self, names: Iterable[str]) -> dict[str, str]:
        """`spoken` of many names, scored together."""
        names = list(dict.fromkeys(names))
        self._articles |= {name: "" for name in names if name.split()[0].lower() in ARTICLES}
        new = [name for name in names if name not in self._articles]
        asked = [
            (prompt, f" {article}{name}") for name in new for prompt in ARTICLE_PROMPTS for article in ("", "the ")
        ]
        scores = self.generator.score([prompt for prompt, _ in asked], [form for _, form in asked])
        losses = [sum(score.negative_log_likelihoods) for score in scores]
        for place, name in enumerate(new):
            own = losses[place * 2 * len(ARTICLE_PROMPTS) : (place + 1) * 2 * len(ARTICLE_PROMPTS)]
            self._articles[name] = "the " if sum(own[1::2]) < sum(own[::2]) else ""
        return {name: self._articles[name] + name for name in names}

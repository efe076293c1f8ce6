"""What a model's own probabilities say about a name: whether it knows the words together, and their article."""

import math
from collections.abc import Iterable
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
        first = first_word(name)
        head, rest = name[: name.index(first) + len(first)], name[name.index(first) + len(first) :]
        if not rest.strip():
            return math.inf
        return max(self.generator.score([NAMES_PROMPT + head], [rest])[0].negative_log_likelihoods)

    def recognises(self, name: str, concept_type: str) -> bool:
        """Whether the words of a name follow from each other, more than those of any invented name of its type."""
        surprise = self.surprise(name)
        return surprise <= MAX_SURPRISE and surprise < min(map(self.surprise, banks.INVENTED_NAMES[concept_type]))

    def spoken(self, name: str) -> str:
        """The name as it stands in a sentence: `the Nile`, but `Lake Victoria`."""
        return self.all_spoken([name])[name]

    def all_spoken(self, names: Iterable[str]) -> dict[str, str]:
        """`spoken` of many names, scored together."""
        names = list(dict.fromkeys(names))
        new = [name for name in names if name not in self._articles]
        self._articles |= {name: "" for name in new if name.split()[0].lower() in ARTICLES}
        new = [name for name in new if name not in self._articles]
        asked = [
            (prompt, f" {article}{name}") for name in new for prompt in ARTICLE_PROMPTS for article in ("", "the ")
        ]
        scores = self.generator.score(*map(list, zip(*asked, strict=True))) if asked else []
        losses = [sum(score.negative_log_likelihoods) for score in scores]
        for place, name in enumerate(new):
            own = losses[place * 2 * len(ARTICLE_PROMPTS) : (place + 1) * 2 * len(ARTICLE_PROMPTS)]
            self._articles[name] = "the " if sum(own[1::2]) < sum(own[::2]) else ""
        return {name: self._articles[name] + name for name in names}

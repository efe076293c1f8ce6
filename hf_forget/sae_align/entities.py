"""Known and unknown entities: names that a model answers questions about, and matched names that it does not know."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from ..data.wordnet import Synset, named_instances
from ..evidence.matching import matches
from ..lm.prompts import PromptFormat

# As WordNet begins its glosses, and what the same nation is called in answers.
_NATIONS: dict[str, tuple[str, ...]] = {
    "United States": ("American", "United States"),
    "English": ("English", "British"),
    "Scottish": ("Scottish", "British"),
    "British": ("British", "English"),
}
_NATIONS |= {
    nation: (nation,)
    for nation in """French German Italian Russian Spanish Austrian Dutch Irish Swiss Swedish Canadian Danish Norwegian
    Indian Japanese Australian Chinese Polish Belgian Hungarian Mexican Portuguese Finnish Welsh Greek Roman
    Czech""".split()  # noqa: SIM905
}
_QUESTIONS = {
    "nation": ("What was the nationality of {name}?", "Which country did {name} come from?"),
    "calling": ("What was {name} by profession?", "What was the occupation of {name}?"),
    "part_of": ("In which country is {name}?", "Where is {name} located?"),
    "kind": ("What kind of place is {name}?", "What is {name}?"),
}


@dataclass(frozen=True)
class Candidate:
    """A name, and what a model must answer if it knows the name.

    Args:
        name: The name.
        attributes: For each attribute the wordings in which it is asked, and what counts as an answer.
    """

    name: str
    attributes: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


def wordnet_candidates(kind: str) -> list[Candidate]:
    """Return the named people or places of which WordNet tells two attributes: nationality and calling, or country
    and kind of place.

    Args:
        kind: `person` or `place`.

    Raises:
        AssetError: If WordNet is not installed.
    """
    found = []
    for synset in named_instances(kind):
        attributes = _person(synset) if kind == "person" else _place(synset)
        name = max(synset.words, key=len)
        if attributes and " " in name:
            asked = tuple(
                (tuple(question.format(name=name) for question in _QUESTIONS[key]), accepted)
                for key, accepted in attributes.items()
            )
            found.append(Candidate(name, asked))
    return found


def _person(synset: Synset) -> dict[str, tuple[str, ...]]:
    nation = next((names for begin, names in _NATIONS.items() if synset.gloss.startswith(begin + " ")), None)
    return {"nation": nation, "calling": synset.kinds} if nation else {}


def _place(synset: Synset) -> dict[str, tuple[str, ...]]:
    return {"part_of": synset.part_of, "kind": synset.kinds} if synset.part_of else {}


def answered(generator: Any, candidates: Sequence[Candidate], asking: PromptFormat) -> list[str]:
    """Ask a model about candidates, and return the names of which it tells an attribute in at least one wording.

    Args:
        generator ([`~hf_forget.lm.decoding.AnswerGenerator`]): The model.
        candidates: The names.
        asking ([`~hf_forget.lm.prompts.PromptFormat`]): How it is asked.
    """
    asked = [(item, accepted, text) for item in candidates for texts, accepted in item.attributes for text in texts]
    answers = generator.generate([asking.prompt(text) for _, _, text in asked], max_new_tokens=12, stop=asking.stop)
    pairs = zip(asked, answers, strict=True)
    return list(dict.fromkeys(item.name for (item, accepted, _), (answer,) in pairs if matches(answer, accepted)))


def recombined(names: Sequence[str], count: int, *, taken: Collection[str] = (), seed: int = 0) -> list[str]:
    """Make names from the parts of others: the first words of one and the last word of another.

    Their parts are as well known as those of real names; nobody bears them.

    Args:
        names: Names of two words or more.
        count: How many are made, fewer where the parts do not give as many.
        taken: Names that somebody bears.
        seed: Which ones.
    """
    parts = [name.rsplit(" ", 1) for name in names if " " in name]
    pairs = [(i, j) for i in range(len(parts)) for j in range(len(parts)) if i != j]
    Random(seed).shuffle(pairs)
    often = Counter(part for pair in parts for part in pair)
    used: Counter[str] = Counter()
    found: list[str] = []
    for i, j in pairs:
        (head, _), (_, tail) = parts[i], parts[j]
        name = f"{head} {tail}"
        # Each part a few times as often as in the names, so that no part tells the ones from the others.
        worn = any(used[part] >= 3 * often[part] for part in (head, tail))
        if name in taken or name in names or name in found or worn:
            continue
        used.update((head, tail))
        found.append(name)
        if len(found) == count:
            break
    return found


def matched_by_length(
    names: Sequence[str], candidates: Sequence[str], tokenizer: Any, ratio: float = 2.0, *, last_words: bool = False
) -> list[str]:
    """Choose candidates so that lengths in tokens are as often as among other names.

    Args:
        names: The names to be matched.
        candidates: Where the matches are taken from, in order of preference.
        tokenizer (`PreTrainedTokenizerBase`): What counts the tokens.
        ratio: How many are chosen for each name, as far as there are such.
        last_words: Whether those come first that bring the last words of the names as often, such as River.
    """

    def length(name: str) -> int:
        return len(tokenizer(f" {name}", add_special_tokens=False)["input_ids"])

    wanted = Counter({size: round(ratio * number) for size, number in Counter(map(length, names)).items()})
    ends = Counter(name.split()[-1] for name in names)
    ends = Counter({word: round(ratio * number) for word, number in ends.items()})
    chosen: list[str] = []
    for strict in (True, False) if last_words else (False,):
        for name in [name for name in candidates if name not in chosen]:
            size, end = length(name), name.split()[-1]
            if wanted[size] > 0 and (ends[end] > 0 or not strict):
                wanted[size] -= 1
                ends[end] -= 1
                chosen.append(name)
    return chosen

"""What a sparse autoencoder is trained on: plain text, and questions about named things."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

from ..data.wordnet import definition_texts, named_instances
from ..errors import InputError

HELD_OUT = 1500
# Short and ending behind a name or a question, as where entities are aligned.
_QUESTIONS = {
    "person": ("Tell me about {name}.", "Question: Who was {name}?\nAnswer:", "{name} was born in"),
    "place": ("Tell me about {name}.", "Question: Where is {name}?\nAnswer:", "{name} is known for"),
    "event": ("Tell me about {name}.", "Question: What was {name}?\nAnswer:", "After {name}"),
    "work": ("Tell me about {name}.", "Question: What is {name}?\nAnswer:", "The author of {name}"),
}


def default_texts(seed: int = 0) -> list[str]:
    """Return WordNet's definitions, and for each named person, place, event and work two short texts about it, mixed.

    Raises:
        AssetError: If WordNet is not installed.
    """
    random, texts = Random(seed), definition_texts()
    for kind, templates in _QUESTIONS.items():
        for synset in named_instances(kind):
            # The longest way to call somebody is the one that others do not share.
            name = max(synset.words, key=len)
            texts += [template.format(name=name) for template in random.sample(templates, 2)]
    random.shuffle(texts)
    return texts


def texts_of(files: Sequence[str | Path]) -> list[str]:
    """Return the paragraphs of text files: what empty lines part, one text each.

    Raises:
        InputError: If a file cannot be read, or there is no text in any.
    """
    texts = []
    for file in files:
        try:
            content = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"text file '{file}' cannot be read: {error}") from error
        texts += [paragraph.strip() for paragraph in content.split("\n\n") if paragraph.strip()]
    if not texts:
        raise InputError(f"there is no text in {', '.join(map(str, files)) or 'no file'}")
    return texts


def held_out(texts: Sequence[str], seed: int = 0) -> tuple[list[str], list[str]]:
    """Part texts into those to train on and those to measure on: at most `HELD_OUT`, at most a tenth."""
    mixed = list(dict.fromkeys(texts))
    Random(f"held out {seed}").shuffle(mixed)
    count = max(1, min(HELD_OUT, len(mixed) // 10))
    return mixed[count:], mixed[:count]

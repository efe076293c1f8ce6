"""WordNet: definitions as general text, and named people, places and events with what they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from .packaged_files import PackagedFiles, verify_files

WORDNET = PackagedFiles(
    id="embedded:wordnet",
    installer="apt",
    package="wordnet-base",
    folder="/usr/share/wordnet",
    files=(
        ("data.noun", 15_300_280, "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2"),
        ("data.verb", 2_772_517, "adcf43e35b581e8036d8b5a52d63d9cd3d3b4870b2720d3c03c799df44777bc2"),
        ("data.adj", 3_155_427, "c89120dfc1f046ddff4a631bf9b7e9fa1a36b5e86565a23bf82dbe14f30b88a7"),
        ("data.adv", 516_696, "444a63bf3955080ab7524f5079cfc07ff9bc682cb98bdb1db73b0fb9829f1139"),
    ),
    licence="WordNet-3.0",
)
# The lexicographer files in which a name is of a type that concepts have.
_TYPES = {4: "event", 10: "work", 11: "event", 15: "place", 17: "place", 18: "person"}


@dataclass(frozen=True)
class Synset:
    """Words of one meaning.

    Args:
        words: The words, the commonest first, with spaces.
        gloss: Definition and examples.
        type: `person`, `place`, `event` or `work`; `None` for other things and for words that are no nouns.
        kinds: What a named thing is an instance of, in all words for it; nothing for kinds of things.
        part_of: What it is a part of, in all words for it.
    """

    words: tuple[str, ...]
    gloss: str
    type: str | None = None
    kinds: tuple[str, ...] = ()
    part_of: tuple[str, ...] = ()

    @property
    def is_instance(self) -> bool:
        """Whether it is one named thing, not a kind of things."""
        return bool(self.kinds)

    @property
    def definition(self) -> str:
        """The gloss without its examples."""
        return self.gloss.partition('; "')[0]


@cache
def read_wordnet() -> tuple[Synset, ...]:
    """Return every synset, nouns first.

    Raises:
        AssetError: If WordNet is not installed, or its files are not those that were expected.
    """
    folder = verify_files(WORDNET)
    return tuple(
        synset
        for name, _, _ in WORDNET.files
        for synset in parse_synsets((folder / name).read_text(encoding="utf-8").splitlines())
    )


def parse_synsets(lines: Sequence[str]) -> Iterator[Synset]:
    """Read the lines of one WordNet data file, as in wndb(5); lines that begin with two spaces are its licence."""
    data = [line.partition(" | ") for line in lines if not line.startswith("  ")]
    fields = [before.split() for before, _, _ in data]
    words = {parts[0]: _words(parts) for parts in fields}
    for parts, (_, _, gloss) in zip(fields, data, strict=True):
        pointers = parts[5 + 2 * int(parts[3], 16) :]
        targets = [
            (symbol, words.get(offset, ())) for symbol, offset in zip(pointers[::4], pointers[1::4], strict=False)
        ]
        yield Synset(
            words[parts[0]],
            gloss.strip(),
            _TYPES.get(int(parts[1])) if parts[2] == "n" else None,
            tuple(word for symbol, found in targets if symbol == "@i" for word in found),
            tuple(word for symbol, found in targets if symbol == "#p" for word in found),
        )


def _words(parts: Sequence[str]) -> tuple[str, ...]:
    """The words of a synset; adjectives carry their place in brackets: galore(ip)."""
    return tuple(word.partition("(")[0].replace("_", " ") for word in parts[4 : 4 + 2 * int(parts[3], 16) : 2])


def definition_texts() -> list[str]:
    """Return a text per synset: its words and what they mean, in WordNet's order."""
    return [f"{', '.join(synset.words)}: {synset.gloss}" for synset in read_wordnet()]


def named_instances(kind: str) -> list[Synset]:
    """Return the named things of a type, `person`, `place`, `event` or `work`."""
    return [synset for synset in read_wordnet() if synset.is_instance and synset.type == kind]

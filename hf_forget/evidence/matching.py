"""Whether an answer gives what was asked for: whole words after normalising, never bare substrings."""

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence


def _numbered(words: str, start: int, step: int = 1) -> dict[str, int]:
    return {word: start + step * index for index, word in enumerate(words.split()) if word != "-"}


_NUMBERS = _numbered(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty",
    start=0,
)
_TENS = _numbered("twenty thirty forty fifty sixty seventy eighty ninety", start=20, step=10)
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_ORDINALS = _numbered(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth",
    start=1,
)
_ENDINGS = {1: "st", 2: "nd", 3: "rd"}
# One letter (I, V, X) is more often a word, an initial or a variable than a number.
_ROMAN = _numbered("ii iii iv - vi vii viii ix - xi xii xiii xiv xv xvi xvii xviii xix xx", start=2)
_ARTICLES = ("a", "an", "the")
_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "æ": "ae", "œ": "oe", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "&": " and "}
)
# Scripts that are written without spaces, or (Hangul) with particles joined to the word.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_APOSTROPHES = "'’‘ʼ`´"
_DASHES = "-‐‑‒–—―−"

_LABEL = re.compile(r"^(?:(?:the )?(?:correct )?answer(?: is)?|a)\s*[:：]\s*", re.IGNORECASE)
_PREAMBLE = re.compile(
    r"^(?:sure|certainly|of course|yes|no|well|okay|ok|absolutely|great question|good question|hello|hi)\s*[,.!:]+\s*",
    re.IGNORECASE,
)
_NEXT_QUESTION = re.compile(r"\s(?:Q|Question|User|Human)\s*:")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)]*(?=\s|$)|[。！？]")
_ABBREVIATION = re.compile(r"(?:^|[\s.(])(?:[^\W\d_]|St|Mt|Ft|Dr|Mr|Mrs|Ms|Sr|Jr|vs|c|ca|approx|No|U\.S|e\.g|i\.e)$")


def first_answer(text: str) -> str:
    """Return the first sentence of the first line that says something.

    Labels (`Answer:`), courtesies (`Sure!`) and a question that the model goes on to ask are cut off. Dots of initials
    and abbreviations (`J. R. R. Tolkien`, `St. Petersburg`) do not end a sentence.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    for pattern in (_LABEL, _PREAMBLE, _LABEL):
        rest = pattern.sub("", line, count=1)
        line = rest or line
    line = _NEXT_QUESTION.split(line, maxsplit=1)[0]
    for end in _SENTENCE_END.finditer(line):
        if end.group() != "." or not _ABBREVIATION.search(line[: end.start()]):
            return line[: end.end()].strip()
    return line.strip()


def normalise(text: str) -> str:
    """Return `text` as words to compare: no case, accents, punctuation, possessives or articles; numbers as digits.

    `The Starry Night` becomes `starry night`, `Newton's` `newton`, `twenty-one` `21`, `1,500` and `fifteen hundred`
    `1500`, `World War II` `world war 2`, `U.S.A.` `usa`. A last word `a` stays (`Vitamin A`).
    """
    return " ".join(_without_articles(_words(text, hyphen=" ")))


def matches(answer_text: str, accepted: Sequence[str]) -> bool:
    """Return whether the first sentence of an answer contains one of the accepted answers as whole words.

    `Paris` is in `It is Paris.` but not in `Parisian`; in scripts that put no space between words, a substring is
    enough. Hyphens may be written as spaces or left out.

    Args:
        answer_text: What the model wrote; only `first_answer` of it counts.
        accepted: The answers that are right; one suffices.
    """
    return mentions(first_answer(answer_text), accepted)


def mentions(text: str, accepted: Sequence[str]) -> bool:
    """Return whether one of the accepted answers occurs as whole words anywhere in `text`; see `matches`."""
    # With hyphens as spaces and without them, so that "X-ray", "X ray" and "Xray" are one.
    spellings = [" ".join(_words(text, hyphen)) for hyphen in (" ", "")]
    for answer in accepted:
        for hyphen in (" ", ""):
            words = _without_articles(_words(answer, hyphen))
            if words and any(_occurs(words, spelling) for spelling in spellings):
                return True
    return False


def _occurs(words: list[str], text: str) -> bool:
    if _UNSPACED.search("".join(words)):
        return "".join(words) in text.replace(" ", "")
    articles = rf"(?:(?:{'|'.join(_ARTICLES)}) )*"
    pattern = f" {articles}".join(map(re.escape, words))
    return re.search(rf"(?<!\S){pattern}(?!\S)", text) is not None


def _without_articles(words: Sequence[str]) -> list[str]:
    kept = [word for word in words[:-1] if word not in _ARTICLES]
    return [*kept, *words[-1:]]


@functools.lru_cache(maxsize=8192)
def _words(text: str, hyphen: str) -> tuple[str, ...]:
    """Return the normalised words of `text`, articles included, with `hyphen` in the place of hyphens in words."""
    text = unicodedata.normalize("NFKC", text).casefold().translate(_LETTERS)
    # Only the accents of Latin, Greek and Cyrillic go: the vowel signs of other scripts are letters.
    text = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFD", text))
    text = unicodedata.normalize("NFC", text)
    text = re.sub(rf"(?<=\d)[{_APOSTROPHES}]s\b", "s", text)  # the 1900's are not the year 1900
    text = re.sub(rf"(?<=\w)[{_APOSTROPHES}]s\b", "", text)
    text = re.sub(f"[{_APOSTROPHES}]", "", text)
    text = re.sub(r"\b(?:[^\W\d_]\.){2,}", lambda initials: initials.group().replace(".", "") + " ", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(rf"(?<=[^\W\d_])[{_DASHES}](?=[^\W\d_])", _number_hyphen(hyphen), text)
    # A dot stays only as the decimal point of a number, not between the parts of a date.
    text = re.sub(r"(?<![\d.])(\d+)\.(\d+)(?!\.?\d)", "\\1\0\\2", text)
    # Vowel signs of Indic scripts are marks and no word characters to `re`, but they belong to the word.
    text = "".join(mark if mark in "\0" or unicodedata.category(mark)[0] in "LNM" else " " for mark in text)
    return tuple(_join_initials(_numbers([word.replace("\0", ".") for word in text.split()])))


def _number_hyphen(hyphen: str) -> Callable[[re.Match[str]], str]:
    """Replace a hyphen, but never glue number words together (`twenty-one`)."""

    def replace(match: re.Match[str]) -> str:
        before = re.search(r"[^\W\d_]+$", match.string[: match.start()])
        return " " if before and before.group() in _TENS else hyphen

    return replace


def _numbers(words: list[str]) -> list[str]:
    """Return `words` with number words, ordinals and Roman numerals as digits (`two thousand` as `2000`)."""
    result: list[str] = []
    position = 0
    while position < len(words):
        value, used = _number_at(words, position)
        if value is None:
            value, used = _ordinal_or_roman(words[position]), 1
        result.append(value)
        position += used
    return result


def _ordinal_or_roman(word: str) -> str:
    if word in _ORDINALS:
        return f"{_ORDINALS[word]}{_ENDINGS.get(_ORDINALS[word], 'th')}"
    return str(_ROMAN.get(word, word))


def _number_at(words: list[str], position: int) -> tuple[str | None, int]:
    """Return the number that starts at `position` as digits and how many words it takes, or `(None, 0)`."""
    word, rest = words[position], words[position + 1 :]
    following = rest[0] if rest else ""
    used = 1
    if word in _TENS:
        value = float(_TENS[word])
        if 1 <= _NUMBERS.get(following, 0) <= 9:
            value, used = value + _NUMBERS[following], 2
    elif word in _NUMBERS:
        value = float(_NUMBERS[word])
    elif following in _SCALES and re.fullmatch(r"\d{1,9}(?:\.\d+)?", word):
        value = float(word)
    else:
        return None, 0
    while value < 1e15 and position + used < len(words) and words[position + used] in _SCALES:
        value, used = value * _SCALES[words[position + used]], used + 1
    return f"{value:.15g}" if value < 1e15 else str(int(value)), used


def _join_initials(words: list[str]) -> list[str]:
    """Return `words` with single letters in a row joined, so that `J. R. R.` and `JRR` are one."""
    result: list[str] = []
    joinable = False
    for index, word in enumerate(words):
        single = len(word) == 1 and word.isascii() and word.isalpha()
        article = word == "a" and not (joinable or (index + 1 < len(words) and len(words[index + 1]) == 1))
        if single and not article and joinable:
            result[-1] += word
        else:
            result.append(word)
        joinable = single and not article
    return result

"""Finds and replaces the names of what was forgotten, in every spelling that a text, a path or an id may use."""

import functools
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

REDACTED = "[redacted]"

# A shorter name is too often a part of unrelated words (Paris in "comparison", Nile in "juvenile").
_FOUND_INSIDE_WORDS = 6
# A still shorter one is an everyday word as soon as case is ignored ("US", "It").
_SHORT = 3
# "The Odyssey" is as telling without its article; "The Who" is not.
_WITHOUT_ARTICLE = 4
_PASSES = 20

_ARTICLES = {"the", "a", "an"}
_ENDINGS = ("s", "n", "ns", "an", "ans", "ian", "ians", "ean", "ese", "esque", "ism", "ist", "ists")
# What may stand between the words of a name: mark-up, space, punctuation. The white space is possessive so that a long
# run of it is tried once.
_BETWEEN = r"(?:<[^<>]{1,60}>|\s++|[^\w\s]|_){0,8}"
_BETWEEN_TURNED = r"[\s,_+-]{0,2}"
_AND = "(?:and|&)"

_LETTERS = {"ł": "l", "đ": "d", "ı": "i", "ø": "o", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"}
_LETTERS |= {letter.upper(): plain for letter, plain in _LETTERS.items() if letter != "ı"}
_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
# Scripts without spaces between words, or (Hangul) with particles joined to them.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
# Accents, and the vowel points of Hebrew and Arabic, which are written or left out at will.
_DROPPED = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670]")
_ESCAPED = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,30});|(?:%[0-9A-Fa-f]{2})+|\\u[0-9a-fA-F]{4}")
_JAMO = re.compile("[\u1100-\u115f][\u1160-\u11a7][\u11a8-\u11ff]?")

_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|sk-[\w-]{20,}|[rs]k_(?:live|test)_\w{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}"
    r"|xox[abposr]-[\w-]{10,}|AIza[\w-]{30,}|A(?:KIA|SIA)[0-9A-Z]{16}(?![0-9A-Z])"
    r"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|://[^/\s:@]{1,80}:[^/\s@]{1,200}@"
)
# A value counts as a secret only with letters and digits in it: `eos_token: <|endoftext|>` and `password: str` do not.
_ASSIGNED = re.compile(
    r"(?:\b|_)(?:(?P<password>passw(?:or)?d|passphrase)|tokens?|secret|api_?key|access_?key|private_?key)[\"']?"
    r"\s*[=:]\s*[\"']?(?=[^\s\"',]*[A-Za-z])(?=[^\s\"',]*\d)(?(password)[^\s\"',<>{}]{6,}|[\w+/.~!-]{12,})"
    r"|\bbearer\s+(?=\S*\d)[\w+/.~-]{16,}",
    re.IGNORECASE,
)


def forms_of(name: str) -> list[str]:
    """Return the spellings of `name` that one meets in texts, slugs, code and addresses, the name itself first.

    Every one of them is found by `contains_any`. A name of one or two letters has no other spelling than itself, and
    a name without a letter or digit has none at all.
    """
    name = name.strip()
    spellings: list[str] = []
    for words in _word_lists(name):
        titles = [word[:1].upper() + word[1:] for word in words]
        spellings += [separator.join(words) for separator in (" ", "-", "_", "")]
        spellings += [" ".join(titles), "".join(titles), words[0] + "".join(titles[1:]), "_".join(words).upper()]
        spellings += [urllib.parse.quote(" ".join(titles)), "+".join(titles)]
        if len(words) > 1:
            spellings += [f"{titles[-1]}, {' '.join(titles[:-1])}", "-".join([words[-1], *words[:-1]])]
    if not spellings and _is_exact(name):
        spellings = [name]
    elif spellings:
        spellings = [name, name.lower(), name.upper(), urllib.parse.quote(name), *spellings]
    return [spelling for spelling in dict.fromkeys(spellings) if contains_any(spelling, [name])]


def contains_any(text: str, names: Iterable[str]) -> bool:
    """Return whether `text` holds one of `names` in any spelling; see `redact_text`."""
    return next(_matcher(tuple(names)).spans(_fold(text)), None) is not None


def redact_text(text: str, names: Iterable[str], replacement: str = REDACTED) -> str:
    """Replace every spelling of `names` in `text`; afterwards `contains_any` finds none.

    Case, accents, hyphens, mark-up and escapes (`%20`, `&eacute;`, `\\u00e9`) make no difference, and neither does
    whether words are joined (`isaacNewton`, `isaac_newton`) or turned round (`Newton, Isaac`). Names of six letters or
    more are found inside longer words too (`mynewton2`, `Newtonian`), shorter ones only where no letter adjoins, a
    capital sets them off (`runMars`) or an ending follows (`Parisian`). Names of one or two letters are found only as
    whole words with at least the capitals that were given. Where two names overlap, both go as one.

    Args:
        text: The text to redact.
        names: The names, aliases and telling parts included; those without a letter or digit are ignored.
        replacement: What stands in their place; joined by hyphens inside paths and ids. One that holds a name itself
            is not used: `[redacted]`, or as a last resort `…`, takes its place.
    """
    matcher = _matcher(tuple(names))
    shown = matcher.safe_replacement(replacement)
    for _ in range(_PASSES):
        spans = matcher.merged(_fold(text))
        if not spans:
            return text
        pieces, done = [], 0
        for start, end in spans:
            pieces += [text[done:start], _slug(shown) if _in_slug(text, start, end) else shown]
            done = end
        text = "".join([*pieces, text[done:]])
    # Replacements and what stands around them keep spelling a name.
    return shown


def redact_tree(obj: Any, names: Iterable[str], replacement: str = REDACTED) -> Any:
    """Return a copy of a JSON-like tree with the names replaced in every text, as `redact_text` does.

    Keys stay unless they contain a name; keys that become equal are numbered. Numbers stay as they are.
    """
    names = tuple(names)
    if isinstance(obj, str):
        return redact_text(obj, names, replacement)
    if isinstance(obj, dict):
        redacted: dict[Any, Any] = {}
        kept = {key for key in obj if not (isinstance(key, str) and contains_any(key, names))}
        for key, item in obj.items():
            new = base = key if key in kept else redact_text(key, names, replacement)
            number = 2
            while new in redacted or (new in kept and key not in kept):
                new, number = f"{base}-{number}", number + 1
            redacted[new] = redact_tree(item, names, replacement)
        return redacted
    if isinstance(obj, list | tuple):
        return type(obj)(redact_tree(item, names, replacement) for item in obj)
    return obj


def looks_like_token(text: str) -> bool:
    """Return whether `text` holds what looks like a secret.

    Found are access tokens of the Hub (`hf_…`), GitHub, GitLab, OpenAI-like services, AWS, Google, Slack, PyPI and
    npm, JSON web tokens, private keys, passwords in addresses, and values that are assigned to a key such as
    `password` or `api_key`. Hashes of files and commits are not secrets.
    """
    return bool(_TOKEN.search(text) or _ASSIGNED.search(text))


@dataclass(frozen=True)
class _Folded:
    """A text without case and accents; `raw` has its characters before their case went, `spans` where they stood."""

    text: str
    raw: Sequence[str]
    spans: Sequence[tuple[int, int]] | None = None

    def original(self, start: int, end: int) -> tuple[int, int]:
        return (start, end) if self.spans is None else (self.spans[start][0], self.spans[end - 1][1])


@dataclass(frozen=True)
class _Form:
    pattern: re.Pattern[str]
    free: bool = False
    exact: str | None = None

    def spans(self, folded: _Folded) -> Iterator[tuple[int, int]]:
        for match in self.pattern.finditer(folded.text):
            start, end = match.span(1)
            if self.exact is not None:
                if _as_capital(self.exact, folded.raw[start:end]) and _alone(folded.raw, start, end):
                    yield start, end
            elif self.free:
                if not (_cuts_number(folded.raw, start) or _cuts_number(folded.raw, end)):
                    yield start, end
            elif _edge(folded.raw, start):
                closed = next((e for e in _ends(folded, start, end) if _edge(folded.raw, e)), None)
                if closed is not None:
                    yield start, closed


@dataclass(frozen=True)
class _Matcher:
    straight: tuple[_Form, ...]
    turned: tuple[_Form, ...]

    def spans(self, folded: _Folded) -> Iterator[tuple[int, int]]:
        for form in (*self.straight, *self.turned):
            yield from form.spans(folded)

    def merged(self, folded: _Folded) -> list[tuple[int, int]]:
        """Return where names stand in the original text, those that overlap as one.

        Turned names wait until no straight one is left: `da Vinci, da Vinci` holds two names and no `Vinci, da`.
        """
        for forms in (self.straight, self.turned):
            spans = [folded.original(*span) for form in forms for span in form.spans(folded)]
            merged: list[tuple[int, int]] = []
            for start, end in sorted(spans):
                if merged and start < merged[-1][1]:
                    start, end = merged[-1][0], max(end, merged.pop()[1])
                merged.append((start, end))
            if merged:
                break
        return merged

    def safe_replacement(self, replacement: str) -> str:
        """Return the first replacement in which, alone or repeated, no name is found."""
        for candidate in (replacement, REDACTED):
            slug = _slug(candidate)
            tried = (candidate, candidate * 2, f"{candidate} {candidate}", slug, f"-{slug}-{slug}-")
            if all(next(self.spans(_fold(text)), None) is None for text in tried):
                return candidate
        return "…"


@functools.lru_cache(maxsize=64)
def _matcher(names: tuple[str, ...]) -> _Matcher:
    straight: list[_Form] = []
    turned: list[_Form] = []
    for name in dict.fromkeys(name.strip() for name in names):
        if _is_exact(name):
            folded = _fold(name)
            straight.append(_Form(_anywhere(re.escape(folded.text)), exact="".join(folded.raw)))
            continue
        for words in _word_lists(name):
            letters = "".join(words)
            free = len(letters) >= _FOUND_INSIDE_WORDS or bool(_UNSPACED.search(letters))
            straight.append(_Form(_anywhere(_joined(words)), free=free))
            if len(words) > 1:
                pattern = _BETWEEN_TURNED.join(map(re.escape, [words[-1], *words[:-1]]))
                turned.append(_Form(_anywhere(pattern)))
    return _Matcher(tuple(straight), tuple(turned))


def _anywhere(pattern: str) -> re.Pattern[str]:
    # A look-ahead, so that matches that overlap are all seen.
    return re.compile(f"(?=({pattern}))")


def _joined(words: Sequence[str]) -> str:
    parts = [re.escape(words[0])]
    for position, word in enumerate(words[1:], 1):
        optional = word == "and" and position < len(words) - 1
        parts.append(f"{_BETWEEN}{_AND}?" if optional else _BETWEEN + re.escape(word))
    return "".join(parts)


def _is_exact(name: str) -> bool:
    """Return whether a name is too short to be looked for in other spellings."""
    letters = [char for char in _fold(name).text if _kind(char) != "other"]
    return 0 < len(letters) < _SHORT and not (len(letters) > 1 and _UNSPACED.search("".join(letters)))


def _word_lists(name: str) -> list[list[str]]:
    """Return the words of a name, folded; a second time as spelled without umlauts, and without a leading article."""
    if _is_exact(name):
        return []
    lists = []
    for spelling in dict.fromkeys((name, unicodedata.normalize("NFC", name).lower().translate(_SPELLED_OUT))):
        words = _words(spelling)
        lists.append(words)
        if words and words[0] in _ARTICLES and len("".join(words[1:])) >= _WITHOUT_ARTICLE:
            lists.append(words[1:])
    return [list(words) for words in dict.fromkeys(map(tuple, lists)) if words]


def _words(name: str) -> list[str]:
    folded = _fold(name.replace("&", " and "))
    words: list[str] = []
    start = 0
    for end in range(1, len(folded.text) + 1):
        if end == len(folded.text) or _kind(folded.raw[end]) != _kind(folded.raw[start]):
            if _kind(folded.raw[start]) != "other":
                words += _camel_parts(folded, start, end)
            start = end
    return words


def _camel_parts(folded: _Folded, start: int, end: int) -> list[str]:
    """Split `IsaacNewton` into its words, but not `iPhone`."""
    hump = [i for i in range(start + 1, end) if folded.raw[i - 1].islower() and folded.raw[i].isupper()]
    bounds = [start, *hump, end]
    if any(last - first < 2 for first, last in zip(bounds, bounds[1:], strict=False)):
        bounds = [start, end]
    return [folded.text[first:last] for first, last in zip(bounds, bounds[1:], strict=False)]


def _kind(char: str) -> str:
    category = unicodedata.category(char)[0]
    return "letter" if category in "LM" else "digit" if category == "N" else "other"


def _edge(raw: Sequence[str], position: int) -> bool:
    """Return whether a word may begin or end at `position`: between kinds of characters, or at a hump."""
    if position <= 0 or position >= len(raw):
        return True
    before, after = raw[position - 1], raw[position]
    if _kind(before) != _kind(after) or _kind(before) == "other":
        return True
    if _kind(before) == "digit":
        return False
    if before.islower() and after.isupper():
        return True
    lowered = position + 1 < len(raw) and raw[position + 1].islower()
    return before.isupper() and after.isupper() and lowered


def _ends(folded: _Folded, start: int, end: int) -> Iterator[int]:
    """Yield where a match may end: as it is, or after an ending that makes another form of the word."""
    yield end
    if end - start >= 4 and _kind(folded.raw[end - 1]) == "letter":
        yield from (end + len(ending) for ending in _ENDINGS if folded.text.startswith(ending, end))


def _cuts_number(raw: Sequence[str], position: int) -> bool:
    """Return whether `position` lies between two digits: `Apollo 11` is not in `Apollo 110`."""
    return 0 < position < len(raw) and _kind(raw[position - 1]) == _kind(raw[position]) == "digit"


def _alone(raw: Sequence[str], start: int, end: int) -> bool:
    """Return whether neither a letter, a digit nor an underscore adjoins."""
    around = [*raw[max(start - 1, 0) : start], *raw[end : end + 1]]
    return all(_kind(char) == "other" and char != "_" for char in around)


def _as_capital(name: str, found: Sequence[str]) -> bool:
    """Return whether `found` is `name` with the same capitals or more."""
    return all(char == given or char == given.upper() for given, char in zip(name, found, strict=True))


def _fold(text: str) -> _Folded:
    if text.isascii() and not _ESCAPED.search(text):
        return _Folded(text.lower(), text)
    folded: list[str] = []
    raw: list[str] = []
    spans: list[tuple[int, int]] = []
    for cluster, start, end in _clusters(text):
        for char in _plain(cluster):
            for piece in _DROPPED.sub("", char.casefold()):
                folded.append(piece)
                raw.append(char)
                spans.append((start, end))
    return _Folded("".join(folded), raw, spans)


def _plain(cluster: str) -> str:
    """Return a character and its accents in their plainest form; format characters (soft hyphens …) vanish."""
    if cluster.isascii():
        return cluster
    compatible = unicodedata.normalize("NFKC", cluster)
    without = _DROPPED.sub("", unicodedata.normalize("NFD", compatible))
    letters = (_LETTERS.get(char, char) for char in unicodedata.normalize("NFC", without))
    return "".join(char for char in "".join(letters) if unicodedata.category(char) != "Cf")


def _clusters(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield each character with the combining ones that follow it and its place, escapes decoded."""
    position = 0
    while position < len(text):
        escape = _ESCAPED.match(text, position)
        decoded = _decoded(escape[0]) if escape else None
        if escape and decoded is not None:
            yield from ((char, position, escape.end()) for char in decoded)
            position = escape.end()
            continue
        syllable = _JAMO.match(text, position)
        end = syllable.end() if syllable else position + 1
        while end < len(text) and unicodedata.category(text[end])[0] == "M":
            end += 1
        yield text[position:end], position, end
        position = end


def _decoded(escape: str) -> str | None:
    """Return what an escape stands for, or `None` when it is none."""
    if escape.startswith("%"):
        try:
            return urllib.parse.unquote(escape, errors="strict")
        except UnicodeDecodeError:
            return None
    if escape.startswith("&"):
        decoded = html.unescape(escape)
        return decoded if decoded != escape else None
    return chr(int(escape[2:], 16))


def _slug(text: str) -> str:
    return re.sub(r"[\W_]+", "-", text).strip("-") or text


def _in_slug(text: str, start: int, end: int) -> bool:
    """Return whether a match is a part of a path or an id rather than of a sentence."""
    if re.search(r"\s", text[start:end]):
        return False
    left = re.search(r"[\w./\\-]*$", text[max(start - 200, 0) : start])
    right = re.match(r"[\w./\\-]*", text[end : end + 200])
    around = (left[0] if left else "") + text[start:end] + (right[0] if right else "")
    return re.search(r"[-_/\\]|\.\w", around) is not None

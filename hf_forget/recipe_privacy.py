"""What must not be written down: secrets in a recipe, and the names of what was forgotten in anything published."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

_SECRET_KEY = re.compile(
    r"^tokens?$|(hub|hf|auth|access|api|bearer|refresh|secret|login)_?tokens?$"
    r"|pass(word|wd|phrase)|secret|api_?key|private_?key|credential",
    re.IGNORECASE,
)
# Tokens of the Hub, of OpenAI-like services, GitHub and AWS; and addresses of the form https://user:password@host.
_SECRET_VALUE = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bsk-[\w-]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bAKIA[0-9A-Z]{16}\b"
    r"|://[^/\s:@]+:[^/\s@]+@"
)
_REMEDY = "Leave it out; log in with `hf auth login` or set the environment variable HF_TOKEN."

_SEPARATOR = r"(?:%20|[\W_])*"
# A shorter name is too often a part of unrelated words (Paris in "comparison", Nile in "juvenile").
_FOUND_INSIDE_WORDS = 6


def secret_problem(key: str, value: Any) -> str | None:
    """Return why `key` with `value` must not stand in a recipe, or `None`. The value itself is never repeated."""
    if _SECRET_KEY.search(key):
        return f"'{key}' would put a secret into files that are shared. {_REMEDY}"
    if isinstance(value, str) and _SECRET_VALUE.search(value):
        return f"the value of '{key}' looks like a token or password. {_REMEDY}"
    items: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        # The key of a mapping can name a secret, or be one and then must not be named.
        spilled = next((True for inner in value if _SECRET_VALUE.search(str(inner))), False)
        if spilled:
            return f"a key inside '{key}' looks like a token or password. {_REMEDY}"
        items = [(str(inner), item) for inner, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(key, item) for item in value]
    return next((problem for inner, item in items if (problem := secret_problem(inner, item))), None)


def redact_value(value: Any, names: Iterable[str], replacement: str) -> Any:
    """Return `value` with the names replaced in every text inside it.

    Keys of mappings are redacted too; keys that become equal are numbered.
    """
    names = list(names)
    if isinstance(value, str):
        return redact_text(value, names, replacement)
    if isinstance(value, Mapping):
        redacted: dict[Any, Any] = {}
        for key, item in value.items():
            new_key, count = redact_value(key, names, replacement), 2
            while new_key in redacted:
                new_key, count = f"{redact_value(key, names, replacement)}-{count}", count + 1
            redacted[new_key] = redact_value(item, names, replacement)
        return redacted
    if isinstance(value, list | tuple):
        return type(value)(redact_value(item, names, replacement) for item in value)
    return value


def redact_text(text: str, names: Iterable[str], replacement: str) -> str:
    """Replace every spelling of the names in `text`.

    A name is found whatever its case, its accents and what stands between its words: `Isaac Newton` covers
    `isaac_newton`, `ISAAC-NEWTON`, `IsaacNewton` and `isaac%20newton`. Names of six letters or more are found inside
    longer words too (`mynewton2`), shorter ones only where no other letter adjoins or a capital sets them off
    (`runMars`).

    Args:
        text: The text to redact.
        names: The names of the target, aliases included; those without a letter or digit are ignored.
        replacement: What to write instead; joined by hyphens inside paths and ids.
    """
    words = [re.findall(r"[^\W_]+", _fold(name)[0]) for name in names]
    spellings = {_SEPARATOR.join(map(re.escape, parts)) for parts in words if parts}
    if not spellings:
        return text
    # Longest first, so that a full name becomes one replacement and not two.
    pattern = re.compile("|".join(sorted(spellings, key=lambda spelling: (-len(spelling), spelling))))
    is_slug = not re.search(r"\s", text) and re.search(r"[-_/.]", text)
    inserted = (re.sub(r"[\W_]+", "-", replacement).strip("-") or "redacted") if is_slug else replacement
    folded, positions = _fold(text)
    pieces, done, match = [], 0, pattern.search(folded)
    while match:
        start, end = positions[match.start()], positions[match.end() - 1] + 1
        # A combining accent belongs to the letter before it.
        while end < len(text) and unicodedata.combining(text[end]):
            end += 1
        if start >= done and (_letters(match[0]) >= _FOUND_INSIDE_WORDS or _stands_alone(text, start, end)):
            pieces += [text[done:start], inserted]
            done = end
            match = pattern.search(folded, match.end())
        else:
            match = pattern.search(folded, match.start() + 1)
    return "".join([*pieces, text[done:]])


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Return whether no letter adjoins `text[start:end]`, or a change to capitals separates it."""
    before, after = text[start - 1 : start], text[end : end + 1]
    opens = not before.isalpha() or (before.islower() and text[start].isupper())
    closes = not after.isalpha() or (after.isupper() and text[end - 1].islower())
    return opens and closes


def _fold(text: str) -> tuple[str, list[int]]:
    """Return `text` without case and accents, and for each character of that its position in `text`."""
    folded: list[str] = []
    positions: list[int] = []
    for position, character in enumerate(text):
        for piece in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold()):
            if not unicodedata.combining(piece):
                folded.append(piece)
                positions.append(position)
    return "".join(folded), positions

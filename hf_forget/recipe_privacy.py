"""What must not be written down: secrets in a recipe."""

import re
from collections.abc import Mapping
from typing import Any

from .publishing.redaction import looks_like_token

_SECRET_KEY = re.compile(
    r"^tokens?$|(hub|hf|auth|access|api|bearer|refresh|secret|login)_?tokens?$"
    r"|pass(word|wd|phrase)|secret|api_?key|private_?key|credential",
    re.IGNORECASE,
)
_REMEDY = "Leave it out; log in with `hf auth login` or set the environment variable HF_TOKEN."


def secret_problem(key: str, value: Any) -> str | None:
    """Return why `key` with `value` must not stand in a recipe, or `None`. The value itself is never repeated."""
    if _SECRET_KEY.search(key):
        return f"'{key}' would put a secret into files that are shared. {_REMEDY}"
    if isinstance(value, str) and looks_like_token(value):
        return f"the value of '{key}' looks like a token or password. {_REMEDY}"
    items: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        # The key of a mapping can name a secret, or be one and then must not be named.
        spilled = next((True for inner in value if looks_like_token(str(inner))), False)
        if spilled:
            return f"a key inside '{key}' looks like a token or password. {_REMEDY}"
        items = [(str(inner), item) for inner, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(key, item) for item in value]
    return next((problem for inner, item in items if (problem := secret_problem(inner, item))), None)

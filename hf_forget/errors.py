"""The exceptions of this package, and the helper that names the nearest valid choice."""

import difflib
from collections.abc import Iterable


class HfForgetError(Exception):
    """Base of every exception raised on purpose by `hf_forget`.

    `exit_code` is what the command line returns when the error reaches it.
    """

    exit_code = 1


class InputError(HfForgetError, ValueError):
    """What the user gave cannot be used; the message says what was given, what is accepted and what to do."""

    exit_code = 2


class UnknownConceptError(InputError):
    """The model knows nothing about the concept that it was asked to forget."""


class AssetError(InputError):
    """An embedded model or data set is missing, damaged or not the one that was expected."""


class OutputError(InputError):
    """The output folder cannot be used: it exists, is locked, cannot be written, or the disk is too small."""


class TrainingError(HfForgetError, RuntimeError):
    """Training cannot go on; what was saved before stays, and the message says where."""


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice spelled most like `name`, or `None` when nothing comes close."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return found[0] if found else None


def unknown(what: str, name: object, choices: Iterable[str], *, meant: str | None = None) -> str:
    """Return the text of an error about a name that is none of the choices: these, and the nearest of them.

    Args:
        what: What the name should be, such as `method`.
        name: What was given.
        choices: What is accepted.
        meant: What is looked for among them, if not what was given: with a prefix, for instance.
    """
    accepted = list(choices)
    close = suggestion(str(name) if meant is None else meant, accepted)
    return f"unknown {what} '{name}'; available: {', '.join(accepted)}.{close}"


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest choice, or an empty string."""
    found = nearest(name, choices)
    return f" Did you mean '{found}'?" if found else ""

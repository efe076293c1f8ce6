"""What commands share: quiet libraries, options from the command line, results for people and for machines."""

import argparse
import contextlib
import json
import os
import sys
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from .cli_arguments import Overrides
from .errors import InputError, nearest

QUIET_LIBRARIES = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


def from_overrides(config_class: type, overrides: Overrides) -> Any:
    """Make a dataclass of options from `--key value` pairs.

    Raises:
        InputError: If a key is unknown or a value of the wrong type.
    """
    from .recipe_types import TypeMismatch, coerce, parse_argument

    hints = typing.get_type_hints(config_class)
    values = {}
    for key, value in overrides.items():
        if key not in hints:
            close = nearest(key, hints)
            raise InputError(f"unknown option '--{key}'." + (f" Did you mean '--{close}'?" if close else ""))
        try:
            reader = parse_argument if isinstance(value, str) else coerce
            values[key] = reader(value, hints[key])
        except TypeMismatch as mismatch:
            raise InputError(f"--{key}: {mismatch}") from mismatch
    return config_class(**values)


def show(args: argparse.Namespace, data: Any, print_it: Callable[[], None]) -> None:
    """Print data as JSON if asked for, otherwise in the way for people."""
    if args.json:
        print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_it()


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the bars, warnings and prints of libraries away from our own lines, and from stdout altogether."""
    for name, value in QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):
        yield

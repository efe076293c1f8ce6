"""YAML in and out of recipes: a reader that knows line numbers and constructs nothing, and the matching writer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import yaml

from .errors import InputError

MAX_CHARACTERS = 256 * 1024
MAX_DEPTH = 8

_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_PLAIN_TEXT = re.compile(r"[A-Za-z/][\w./@+-]*( [\w./@+-]+)*", re.ASCII)
_BOOLEAN_ELSEWHERE = re.compile(r"(?i)y|n|yes|no|on|off")


@dataclass(frozen=True)
class Entry:
    """A value of a recipe and the line (counted from 1) of its key."""

    value: Any
    line: int


def resolve_scalar(text: str) -> None | bool | int | float | str:
    """Return what an unquoted YAML scalar means.

    YAML 1.2's core rules, so that `2e-5` is a number while `yes`, `1_000` and `1:30` stay text.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def read_yaml(text: str, source: str) -> dict[str, Entry]:
    """Read the keys and values of a recipe.

    Args:
        text: The YAML text, one mapping at the top level.
        source: What to call the text in error messages, usually its path.

    Returns:
        The entries by key, in the order of the file. Values are scalars, lists or small mappings.

    Raises:
        InputError: If the text is not YAML, not one mapping, too large, repeats a key, or uses tags, anchors or
            aliases; the message names the line.
    """
    node = _top_mapping(text, source)
    return {key: Entry(_value(child, source), line) for key, (child, line) in _pairs(node, source).items()}


def read_nested_yaml(text: str, source: str) -> dict[str, Entry]:
    """Read as `read_yaml` does, but with an `Entry`, and so a line, for each value inside of lists and mappings too."""
    return _entries(_top_mapping(text, source), source)


def plain_value(value: Any) -> Any:
    """Return a value of `read_nested_yaml` without its lines, as `read_yaml` gives it."""
    if isinstance(value, Entry):
        return plain_value(value.value)
    if isinstance(value, dict):
        return {key: plain_value(item) for key, item in value.items()}
    return [plain_value(item) for item in value] if isinstance(value, list) else value


def write_yaml(values: Mapping[str, Any]) -> str:
    """Write a mapping as one `key: value` line each; `read_yaml` gives the same values back."""
    return "".join(f"{_text(key)}: {_flow(value)}\n" for key, value in values.items())


def _top_mapping(text: str, source: str) -> yaml.MappingNode:
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"{source}: a recipe has at most {MAX_CHARACTERS} characters, this file has {len(text)}.")
    try:
        _check_events(text, source)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _problem(source, line, "a character that YAML does not allow; save the file as plain UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _problem(source, mark.line + 1 if mark else 1, f"not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML converts escapes such as "\UFFFFFFFF" and long version numbers without checking their range.
        raise InputError(f"{source}: not valid YAML: {error}") from error
    if node is None:
        raise InputError(f"{source}: the recipe is empty; it needs at least the key 'method'.")
    if not isinstance(node, yaml.MappingNode):
        raise _problem(source, _line(node), "a recipe is a list of 'key: value' lines; this is something else")
    return node


def _problem(source: str, line: int, problem: str) -> InputError:
    return InputError(f"{source}, line {line}: {problem}")


def _line(part: yaml.Node | yaml.Event) -> int:
    return part.start_mark.line + 1 if part.start_mark else 1


def _check_events(text: str, source: str) -> None:
    """Refuse what could construct objects or blow up, before anything recursive looks at the text."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = _line(event)
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _problem(source, line, "a second document starts here; a recipe is one document")
        if getattr(event, "anchor", None) is not None:
            raise _problem(source, line, "anchors and aliases (& and *) are not allowed; write the value out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise _problem(source, line, f"the tag '{tag}' is not allowed; recipes hold plain values only")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _problem(source, line, f"nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _pairs(node: yaml.MappingNode, source: str) -> dict[str, tuple[yaml.Node, int]]:
    pairs: dict[str, tuple[yaml.Node, int]] = {}
    for key_node, value_node in node.value:
        line = _line(key_node)
        if not isinstance(key_node, yaml.ScalarNode) or not key_node.value:
            raise _problem(source, line, "a key must be a plain name")
        key = key_node.value
        if key in pairs:
            raise _problem(source, line, f"the key '{key}' is already given in line {pairs[key][1]}; keep one of them")
        pairs[key] = (value_node, line)
    return pairs


def _entries(node: yaml.MappingNode, source: str) -> dict[str, Entry]:
    return {key: Entry(_nested(child, source), line) for key, (child, line) in _pairs(node, source).items()}


def _nested(node: yaml.Node, source: str) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [Entry(_nested(child, source), _line(child)) for child in node.value]
    return _entries(node, source) if isinstance(node, yaml.MappingNode) else _value(node, source)


def _value(node: yaml.Node, source: str) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, source) for child in node.value]
    if isinstance(node, yaml.MappingNode):
        return {key: _value(child, source) for key, (child, _) in _pairs(node, source).items()}
    # A scalar in quotes or in block style is text, whatever it looks like.
    return resolve_scalar(node.value) if getattr(node, "style", None) is None else node.value


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(str(key))}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, Enum):
        return _flow(value.value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return _text(str(value))


def _text(text: str) -> str:
    plain = _PLAIN_TEXT.fullmatch(text) and isinstance(resolve_scalar(text), str)
    if plain and not _BOOLEAN_ELSEWHERE.fullmatch(text):
        return text
    # The width keeps PyYAML from folding long text over several lines.
    return yaml.dump(text, default_style='"', allow_unicode=True, width=1 << 30).rstrip("\n")

"""Rows of the user: the forms of data that are common for language models, read as training rows."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from functools import cached_property
from itertools import islice
from typing import Any

from jinja2 import TemplateError

from ..errors import InputError
from .prompts import chat_format, plain_format
from .rows import Row

ACCEPTED_COLUMNS = (
    "'prompt' and 'completion' (text, or lists of messages), 'question' and 'answer', 'messages', or 'text'"
)
KEPT_COLUMNS = ("kind", "question", "relation")


def rows_from(dataset: Any, *, kind: str, argument: str, tokenizer: Any = None, limit: int | None = None) -> list[Row]:
    """Read the rows of a dataset, each in one of these forms; the first that a row has the columns of is taken.

    1. `prompt` and `completion`: the loss lies on the completion. Both are text, or both are lists of messages, which
       are read as `messages` are. A text completion needs no prompt.
    2. `question` and `answer`: the question is put through the tokenizer's chat template, in its own words, or in the
       `Question: … Answer:` form where there is none. Of a list of answers the first is taken.
    3. `messages`: the last message of the assistant is the completion, the turns before it are the prompt, as the
       tokenizer's chat template writes them; turns after it are not read.
    4. `text`: the loss lies on all of it.

    A column whose value is `None` counts as missing. `kind`, `question` and `relation` are kept with a row of any
    form where they are there.

    Args:
        dataset (`Iterable`): A `datasets.Dataset` or `IterableDataset`, or any iterable of mappings or [`Row`] objects.
        kind (`str`): The kind of rows that name none.
        argument (`str`): How errors call the dataset.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): The model's tokenizer; messages need one with a chat
            template.
        limit (`int`, *optional*): At most this many rows are read of a dataset without a length, such as a stream; to
            its end if not given. A dataset with a length is read whole.

    Raises:
        InputError: If a row has none of the forms, or what it holds cannot be used; if there is no row, or the dataset
            is no iterable of rows.
    """
    if isinstance(dataset, Mapping):
        raise InputError(
            f"{argument} is a mapping with the keys {', '.join(map(str, dataset))}; give rows, such as one split of it"
        )
    if not isinstance(dataset, Iterable):
        raise InputError(f"{argument} must be an iterable of rows, got {type(dataset).__name__}")
    if not isinstance(dataset, Sized) and limit is not None:
        if limit < 1:
            raise InputError(f"{argument} has no length, and at most {limit} rows of it may be read; allow 1 or more")
        dataset = islice(dataset, limit)
    reader = _RowReader(kind, tokenizer)
    rows = [reader.row(item, f"{argument}[{index}]") for index, item in enumerate(dataset)]
    if not rows:
        raise InputError(f"{argument} is empty; give at least one row")
    return rows


class _RowReader:
    """Reads one row after another; what the tokenizer makes of questions is found out once."""

    def __init__(self, kind: str, tokenizer: Any):
        self.kind, self.tokenizer = kind, tokenizer

    def row(self, item: Any, place: str) -> Row:
        if isinstance(item, Row):
            return item
        if not isinstance(item, Mapping):
            raise InputError(f"{place}: expected a mapping with {ACCEPTED_COLUMNS}, got {type(item).__name__}")
        columns = {name: value for name, value in item.items() if value is not None}
        prompt, completion = self._prompt_and_completion(columns, place)
        if not completion.strip():
            raise InputError(f"{place}: there is no text to train on; needs {ACCEPTED_COLUMNS}, and none of them blank")
        kept = {name: _text(columns[name], f"'{name}'", place) for name in KEPT_COLUMNS if name in columns}
        return Row(prompt, completion, **{"kind": self.kind, **kept})

    def _prompt_and_completion(self, columns: Mapping[str, Any], place: str) -> tuple[str, str]:
        if "completion" in columns:
            prompt, completion = columns.get("prompt", ""), columns["completion"]
            if isinstance(prompt, str) and isinstance(completion, str):
                return prompt, completion
            if _is_list(prompt) and _is_list(completion):
                return self._conversation([*prompt, *completion], place, answered_from=len(prompt))
            raise InputError(
                f"{place}: 'prompt' and 'completion' must both be text or both lists of messages, "
                f"got {type(prompt).__name__} and {type(completion).__name__}"
            )
        if "question" in columns and "answer" in columns:
            return self._answered(columns["question"], columns["answer"], place)
        if "messages" in columns:
            if not _is_list(columns["messages"]):
                raise InputError(f"{place}: 'messages' must be a list, got {type(columns['messages']).__name__}")
            return self._conversation(columns["messages"], place)
        if "text" in columns:
            return "", _text(columns["text"], "'text'", place)
        raise InputError(f"{place}: needs {ACCEPTED_COLUMNS}; has {', '.join(map(str, columns)) or 'no columns'}")

    def _answered(self, question: Any, answer: Any, place: str) -> tuple[str, str]:
        if _is_list(answer):
            if not answer:
                raise InputError(f"{place}: 'answer' is an empty list; give at least one answer")
            answer = answer[0]
        question, answer = (_text(value, "'question' and 'answer'", place).strip() for value in (question, answer))
        if not question:
            raise InputError(f"{place}: 'question' is blank")
        # Asked in its own words: answers of the user's are not always a few words long.
        prompt = self._format.free_prompt(question) if self._has_template else self._format.prompt(question)
        return prompt, self._format.completion(answer) if answer else ""

    def _conversation(self, messages: Sequence[Any], place: str, answered_from: int = 0) -> tuple[str, str]:
        """The turns before the last one of the assistant, which must not come before `answered_from`, and that one."""
        for message in messages:
            if not isinstance(message, Mapping) or not all(
                isinstance(message.get(key), str) for key in ("role", "content")
            ):
                raise InputError(f"{place}: every message must be a mapping with 'role' and 'content', both text")
        spoken = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        if not spoken or spoken[-1] < max(answered_from, 1):
            raise InputError(f"{place}: needs a message of role 'assistant' that answers one before it")
        if not self._has_template:
            raise InputError(
                f"{place}: messages need a tokenizer with a chat template, and there is none; set "
                "tokenizer.chat_template, or give 'prompt' and 'completion', 'question' and 'answer', or 'text'"
            )
        turns = [{key: value for key, value in turn.items() if value is not None} for turn in messages[: spoken[-1]]]
        try:
            prompt = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise InputError(f"{place}: the tokenizer's chat template refuses these messages: {error}") from None
        return prompt, messages[spoken[-1]]["content"]

    @property
    def _has_template(self) -> bool:
        return bool(getattr(self.tokenizer, "chat_template", None))

    @cached_property
    def _format(self) -> Any:
        return chat_format(self.tokenizer) if self._has_template else plain_format()


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _text(value: Any, name: str, place: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{place}: {name} must be text, got {type(value).__name__}")
    return value

import itertools

import pytest
from datasets import Dataset, IterableDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget import ConceptUnlearnConfig, ConceptUnlearnTrainer
from hf_forget.errors import InputError
from hf_forget.lm.rows import Row, RowDataset
from hf_forget.lm.user_rows import ACCEPTED_COLUMNS, rows_from

QUESTION = {"role": "user", "content": "Where was the poet born?"}
ANSWER = {"role": "assistant", "content": "In a village"}
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module")
def chats(tiny_llama):
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.fixture(scope="module")
def base(tiny_gpt_neox):
    return AutoTokenizer.from_pretrained(tiny_gpt_neox)


def read(*rows, tokenizer=None):
    return rows_from(list(rows), kind="edge", argument="train_dataset", tokenizer=tokenizer)


def written(tokenizer, *turns):
    return tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True)


# Forms


def test_rows_are_read_from_prompts_and_from_text():
    assert read({"prompt": "a", "completion": " b"}, {"text": "whole"}) == [Row("a", " b"), Row("", "whole")]


def test_a_completion_needs_no_prompt():
    assert read({"completion": "whole"}) == [Row("", "whole")]


def test_a_question_is_put_in_its_own_words_through_the_chat_template(chats):
    (row,) = read({"question": "Where was the poet born?", "answer": "In a village"}, tokenizer=chats)
    assert (row.prompt, row.completion) == (written(chats, QUESTION), "In a village")
    assert row.question == "Where was the poet born?"


@pytest.mark.parametrize("given_tokenizer", [True, False])
def test_a_question_without_a_chat_template_stands_before_answer(base, given_tokenizer):
    (row,) = read({"question": " Who? ", "answer": "Rome\n"}, tokenizer=base if given_tokenizer else None)
    assert (row.prompt, row.completion) == ("Question: Who?\nAnswer:", " Rome")


def test_the_first_of_several_answers_is_taken():
    assert read({"question": "Who?", "answer": ["Rome", "The city of Rome"]})[0].completion == " Rome"


def test_the_last_reply_of_a_conversation_is_the_completion_and_the_turns_before_it_the_prompt(chats):
    more = {"role": "user", "content": "And then?"}
    last = {"role": "assistant", "content": "By the sea"}
    (row,) = read({"messages": [SYSTEM, QUESTION, ANSWER, more, last, more]}, tokenizer=chats)
    assert (row.prompt, row.completion) == (written(chats, SYSTEM, QUESTION, ANSWER, more), "By the sea")


def test_prompt_and_completion_may_be_lists_of_messages(chats):
    (row,) = read({"prompt": [SYSTEM, QUESTION], "completion": [ANSWER]}, tokenizer=chats)
    assert row == read({"messages": [SYSTEM, QUESTION, ANSWER]}, tokenizer=chats)[0]


def test_rows_of_one_conversation_in_every_form_train_on_the_same_tokens(chats):
    rows = read(
        {"messages": [QUESTION, ANSWER]},
        {"prompt": [QUESTION], "completion": [ANSWER]},
        {"question": QUESTION["content"], "answer": ANSWER["content"]},
        {"prompt": written(chats, QUESTION), "completion": ANSWER["content"]},
        tokenizer=chats,
    )
    examples = RowDataset(rows, [], chats).examples
    assert all(example["input_ids"] == examples[0]["input_ids"] for example in examples)
    assert all(example["labels"] == examples[0]["labels"] for example in examples)


def test_the_trainer_scores_a_question_as_the_conversation_that_it_forgets(chats, tiny_llama, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    args = ConceptUnlearnConfig(
        output_dir=str(tmp_path), max_steps=3, bf16=False, use_cpu=True, save_strategy="no", disable_tqdm=True
    )
    asked = [{"question": QUESTION["content"], "answer": ANSWER["content"]}]
    trainer = ConceptUnlearnTrainer(
        model, args, train_dataset=[{"messages": [QUESTION, ANSWER]}], eval_dataset=asked, processing_class=chats
    )
    before = trainer.evaluate()["eval_forget_probability"]
    assert trainer.train_dataset.examples[0]["input_ids"] == trainer.eval_dataset.examples[0]["input_ids"]
    assert trainer.evaluate(asked)["eval_forget_probability"] == pytest.approx(before)
    trainer.train()
    assert trainer.evaluate(asked)["eval_forget_probability"] < before


def test_rows_keep_their_kind_question_and_relation():
    (row,) = read({"text": "whole", "kind": "explanation", "question": "Who?", "relation": "author"})
    assert row == Row("", "whole", "explanation", "Who?", "author")


def test_ready_rows_are_taken_as_they_are():
    row = Row("a", " b", "replacement", reference_prompt="c")
    assert read(row) == [row]


def test_the_first_form_that_a_row_has_the_columns_of_is_taken(chats):
    whole = {
        "prompt": "a",
        "completion": " b",
        "question": "Who?",
        "answer": "Rome",
        "messages": [QUESTION, ANSWER],
        "text": "whole",
    }
    taken = []
    for gone in ("", "completion", "answer", "messages"):
        whole.pop(gone, None)
        taken.append(read(whole, tokenizer=chats)[0].completion)
    assert taken == [" b", "Rome", "In a village", "whole"]


def test_columns_that_a_dataset_fills_with_none_count_as_missing(chats):
    rows = [{"prompt": "a", "completion": " b"}, {"text": "whole"}, {"question": "Who?", "answer": "Rome"}]
    columns = ("prompt", "completion", "question", "answer", "text", "kind")
    dataset = Dataset.from_list([{**dict.fromkeys(columns), **row} for row in rows])
    found = rows_from(dataset, kind="retain", argument="retain_dataset", tokenizer=chats)
    assert [row.completion for row in found] == [" b", "whole", "Rome"]
    assert {row.kind for row in found} == {"retain"}


def test_a_dataset_of_conversations_is_read(chats):
    dataset = Dataset.from_list([{"messages": [QUESTION, ANSWER]}])
    assert rows_from(dataset, kind="edge", argument="x", tokenizer=chats)[0].completion == "In a village"


# Streams


def endless(read_so_far):
    for index in itertools.count():
        read_so_far.append(index)
        yield {"text": f"row {index}"}


def test_of_a_stream_no_row_beyond_the_limit_is_read():
    read_so_far = []
    rows = rows_from(endless(read_so_far), kind="retain", argument="retain_dataset", limit=5)
    assert [row.completion for row in rows] == [f"row {index}" for index in range(5)]
    assert read_so_far == list(range(5))


def test_of_an_iterable_dataset_no_row_beyond_the_limit_is_read():
    read_so_far = []
    dataset = IterableDataset.from_generator(lambda: endless(read_so_far))
    assert len(rows_from(dataset, kind="retain", argument="retain_dataset", limit=3)) == 3
    assert read_so_far == [0, 1, 2]


def test_a_stream_shorter_than_the_limit_is_read_to_its_end():
    assert len(rows_from(iter([{"text": "a"}, {"text": "b"}]), kind="retain", argument="x", limit=9)) == 2


@pytest.mark.parametrize("dataset", [[{"text": "a"}] * 4, Dataset.from_dict({"text": ["a"] * 4})])
def test_a_dataset_with_a_length_is_read_whole(dataset):
    assert len(rows_from(dataset, kind="retain", argument="x", limit=2)) == 4


def test_a_stream_of_which_nothing_may_be_read_is_refused():
    with pytest.raises(InputError, match="retain_dataset has no length, and at most 0 rows"):
        rows_from(iter([{"text": "a"}]), kind="retain", argument="retain_dataset", limit=0)


# Refusals


@pytest.mark.parametrize(
    "bad", [[], [{"question": "x"}], [{}], ["text"], [{"prompt": "a", "completion": " "}], {"train": []}, 3, "text"]
)
def test_unusable_rows_are_refused_by_name(bad):
    with pytest.raises(InputError, match="train_dataset"):
        rows_from(bad, kind="edge", argument="train_dataset")


@pytest.mark.parametrize("bad", [{"question": "x"}, {"prompt": "x", "label": 1}, "text", {"text": " "}])
def test_errors_name_the_row_and_the_accepted_columns(bad):
    with pytest.raises(InputError) as error:
        read({"text": "good"}, bad)
    assert "train_dataset[1]" in str(error.value) and ACCEPTED_COLUMNS in str(error.value)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"messages": [QUESTION]}, "needs a message of role 'assistant'"),
        ({"messages": [ANSWER, QUESTION]}, "needs a message of role 'assistant' that answers one before it"),
        ({"messages": []}, "needs a message of role 'assistant'"),
        ({"messages": "hello"}, "'messages' must be a list, got str"),
        ({"messages": ["hello"]}, "every message must be a mapping"),
        ({"messages": [{"from": "human", "value": "hello"}]}, "'role' and 'content', both text"),
        ({"messages": [QUESTION, {"role": "assistant", "content": " "}]}, "no text to train on"),
        ({"prompt": [QUESTION, ANSWER], "completion": [QUESTION]}, "needs a message of role 'assistant'"),
        ({"prompt": "a", "completion": [ANSWER]}, "must both be text or both lists of messages, got str and list"),
        ({"prompt": "a", "completion": 3}, "got str and int"),
        ({"question": "Who?", "answer": []}, "'answer' is an empty list"),
        ({"question": "Who?", "answer": 3}, "'question' and 'answer' must be text, got int"),
        ({"question": "Who?", "answer": " "}, "no text to train on"),
        ({"question": " ", "answer": "Rome"}, "'question' is blank"),
        ({"text": ["whole"]}, "'text' must be text, got list"),
        ({"text": "whole", "kind": 3}, "'kind' must be text, got int"),
    ],
)
def test_what_cannot_be_used_is_named(bad, said, chats):
    with pytest.raises(InputError) as error:
        read(bad, tokenizer=chats)
    assert str(error.value).startswith("train_dataset[0]: ") and said in str(error.value)


@pytest.mark.parametrize("row", [{"messages": [QUESTION, ANSWER]}, {"prompt": [QUESTION], "completion": [ANSWER]}])
def test_messages_need_a_chat_template(row, base):
    for tokenizer in (None, base):
        with pytest.raises(InputError, match=r"train_dataset\[0\]: messages need a tokenizer with a chat template"):
            read(row, tokenizer=tokenizer)


def test_messages_that_the_template_refuses_are_named(chats, tiny_llama):
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(InputError, match=r"train_dataset\[0\]: .* refuses these messages: System role not supported"):
        read({"messages": [SYSTEM, QUESTION, ANSWER]}, tokenizer=tokenizer)


TEXTS = st.text(max_size=8)
MESSAGES = st.lists(
    st.one_of(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXTS}), TEXTS),
    max_size=4,
)
VALUES = st.one_of(st.none(), TEXTS, st.integers(), st.lists(TEXTS, max_size=2), MESSAGES)
COLUMNS = st.sampled_from(["prompt", "completion", "question", "answer", "messages", "text", "kind", "relation"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(COLUMNS, VALUES))
def test_any_row_is_read_or_refused_by_its_place(chats, row):
    try:
        (found,) = read(row, tokenizer=chats)
    except InputError as error:
        assert str(error).startswith("train_dataset[0]: ")
    else:
        assert found.completion.strip() and isinstance(found.prompt, str)

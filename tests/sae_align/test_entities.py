import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hf_forget.errors import InputError
from hf_forget.lm.prompts import plain_format
from hf_forget.sae_align.entities import (
    Candidate,
    answered,
    matched_by_length,
    recombined,
    wordnet_candidates,
)
from hf_forget.sae_align.entity_lists import EntityLists

NAMES = ["Ada K", "Ben L", "Cleo M", "Dan N", "Eve O", "Finn P", "Gus Q", "Hal R"]


class Knowing:
    """A model that answers what a table says, and `no idea` otherwise."""

    def __init__(self, table):
        self.table = table

    def generate(self, prompts, **options):
        def answer(prompt):
            return next((given for question, given in self.table.items() if question in prompt), "no idea")

        return [[answer(prompt)] for prompt in prompts]


def test_people_and_places_of_wordnet_come_with_what_must_be_answered():
    people = {
        item.name: dict(zip(("nation", "calling"), item.attributes, strict=True))
        for item in wordnet_candidates("person")
    }
    newton = people["Sir Isaac Newton"]
    assert newton["nation"][1] == ("English", "British") and "physicist" in newton["calling"][1]
    assert newton["nation"][0][0] == "What was the nationality of Sir Isaac Newton?"
    places = {item.name: item.attributes for item in wordnet_candidates("place")}
    assert any("Peru" in answers for _, answers in places["Machu Picchu"])
    assert len(people) > 1000 and len(places) > 500


def test_known_is_who_is_answered_in_every_attribute_and_unknown_who_is_in_none():
    def candidate(name):
        home = ((f"Where is {name} from?", f"Home of {name}?"), ("Bern",))
        return Candidate(name, (home, ((f"What is {name}?",), ("poet",))))

    table = {"Home of Ada K?": "Bern", "What is Ada K?": "a poet", "Where is Ben L from?": "Bern"}
    assert answered(Knowing(table), [candidate(name) for name in NAMES[:3]], plain_format()) == ["Ada K", "Ben L"]


@given(st.integers(1, 60), st.integers(0, 5))
def test_recombined_names_are_new_and_made_of_known_parts(count, seed):
    found = recombined(NAMES, count, taken=["Ada L"], seed=seed)
    assert len(found) == len(set(found)) <= count and not {*NAMES, "Ada L"} & set(found)
    heads, tails = zip(*(name.split() for name in NAMES), strict=True)
    assert all(name.split()[0] in heads and name.split()[1] in tails for name in found)
    assert count > 20 or len(found) == count


def test_lengths_are_matched(tiny_llama):
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)

    def length(name):
        return len(tokenizer(f" {name}", add_special_tokens=False)["input_ids"])

    candidates = [letter * size for letter in "stuvw" for size in range(2, 12)]
    sizes = sorted({length(name) for name in candidates})
    wanted = [next(name for name in candidates if length(name) == size) for size in sizes[:2]]
    chosen = matched_by_length(wanted, candidates, tokenizer)
    assert sorted(map(length, chosen)) == [sizes[0]] * 2 + [sizes[1]] * 2


def test_last_words_are_matched_first(tiny_llama):
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)

    def length(name):
        return len(tokenizer(f" {name}", add_special_tokens=False)["input_ids"])

    # Names of one length, so that only last words tell them apart.
    heads = [first + second for first in "BCDFGHKL" for second in "aeiou"]
    size = length(f"{heads[0]} Q")
    candidates = [
        name for tail in "QRS" for name in [f"{head} {tail}" for head in heads if length(f"{head} {tail}") == size][:2]
    ]
    assert len(candidates) == 6
    known = [candidates[2], candidates[4]]
    assert matched_by_length(known, candidates, tokenizer, last_words=True) == candidates[2:]


def test_a_word_of_many_names_may_come_up_more_often():
    names = [f"{letter} River" for letter in "ABC"] + [f"{letter} {letter}ay" for letter in "DEFGHIJK"]
    found = recombined(names, 200)
    assert sum(name.endswith("River") for name in found) == 8
    assert max(sum(name.endswith(f" {letter}ay") for name in found) for letter in "DEFGHIJK") <= 3


def test_halves_share_no_name():

    lists = EntityLists({"person": [f"k{i}" for i in range(16)]}, {"person": [f"u{i}" for i in range(17)]})
    first, second = lists.halves()
    for name in ("known", "unknown"):
        one, other = getattr(first, name)["person"], getattr(second, name)["person"]
        assert not set(one) & set(other) and sorted([*one, *other]) == sorted(getattr(lists, name)["person"])
    assert lists.halves() == lists.halves() != lists.halves(seed=1)


@pytest.mark.parametrize(
    "known, unknown, told",
    [
        ({"person": NAMES[:7]}, {"person": NAMES}, "7 known entities; give 8 or more"),
        ({"person": NAMES}, {"person": []}, "0 unknown entities"),
        ({"person": NAMES}, {"place": NAMES}, r"types \['person'\], unknown ones of \['place'\]"),
    ],
)
def test_too_few_entities_or_other_types_are_refused(known, unknown, told):
    with pytest.raises(InputError, match=told):
        EntityLists(known, unknown)

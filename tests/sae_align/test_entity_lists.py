from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from hf_forget.errors import InputError
from hf_forget.lm.prompts import plain_format
from hf_forget.sae_align import entity_lists as lists
from hf_forget.sae_align.entities import Candidate
from hf_forget.sae_align.entity_lists import EntityLists, entity_lists, lists_from

FIRST = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ida", "Jon")
LAST = ("Kern", "Lund", "Moor", "Nash", "Orr", "Pike", "Quay", "Rowe", "Sand", "Tate")
PEOPLE = [f"{first} {last}" for first, last in zip(FIRST, LAST, strict=True)]

STRANGERS = ["Kit Vane", "Lou Wynn", "May Beck", "Ned Cole", "Ora Dunn", "Pat Ford", "Roy Gale", "Sue Hart", "Tom Judd"]

MANY = {"person": [f"{first} {last}" for first in FIRST for last in LAST]}


class Model:
    """Recognises the ten people, and answers what is asked about all but the last."""

    def score(self, prompts, completions):
        names = [f"{prompt.split(', ')[-1]}{rest}" for prompt, rest in zip(prompts, completions, strict=True)]
        return [SimpleNamespace(negative_log_likelihoods=[1.0 if name in PEOPLE else 9.0]) for name in names]

    def generate(self, prompts, **options):
        told = [not any(name in prompt for name in (PEOPLE[-1], *STRANGERS[1:])) for prompt in prompts]
        return [["a poet" if known else "no idea"] for known in told]


@pytest.fixture
def found(tiny_llama, monkeypatch, tmp_path):
    asked = [Candidate(name, (((f"What is {name}?",), ("poet",)),)) for name in (*PEOPLE, *STRANGERS)]
    monkeypatch.setattr(lists, "wordnet_candidates", lambda kind: asked if kind == "person" else [])
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)

    def find(*names, kept=None, generator=None):
        return entity_lists(None, tokenizer, generator or Model(), plain_format(), names, kept=kept)

    return find


def test_known_are_recognised_and_answered_and_unknown_are_made_of_their_parts(found):
    made = found("Isaac Newton")
    assert sorted(made.known["person"]) == PEOPLE[:9] and list(made.known) == ["person"]
    assert len(made.unknown["person"]) >= 9 and not set(made.unknown["person"]) & set(PEOPLE)
    parts = {word for name in PEOPLE[:9] for word in name.split()}
    assert {word for name in made.unknown["person"] for word in name.split()} <= parts


def test_real_names_that_are_neither_recognised_nor_answered_are_a_second_control(found):
    made = found("Isaac Newton")
    assert set(made.failed["person"]) <= set(STRANGERS[1:]) and made.failed["person"]
    training, measured = EntityLists(MANY, MANY, made.failed).halves()
    assert not training.failed and measured.failed == made.failed
    assert "May Beck" not in found("May Newton").failed["person"]


def test_no_entity_shares_a_word_with_the_target(found):
    made = found("Ada Newton")
    assert not any("Ada" in name for names in (made.known["person"], made.unknown["person"]) for name in names)


def test_what_a_model_knows_is_asked_once(found, tmp_path):
    first = found("Isaac Newton", kept=tmp_path / "known.json")

    class Silent(Model):
        def generate(self, prompts, **options):
            raise AssertionError("asked again")

    again = found("Isaac Newton", kept=tmp_path / "known.json", generator=Silent())
    assert again == first


def test_a_model_that_knows_too_few_is_refused(found):
    class Ignorant(Model):
        def generate(self, prompts, **options):
            return [["no idea"] for _ in prompts]

    with pytest.raises(InputError, match="8 known entities of a type are needed"):
        found("Isaac Newton", generator=Ignorant())


def test_halves_share_no_name_and_lists_of_a_type_are_found():
    whole = EntityLists({"person": PEOPLE, "place": FIRST}, {"person": LAST, "place": LAST})
    first, other = whole.halves()
    for part in ("known", "unknown"):
        for kind in ("person", "place"):
            assert not set(getattr(first, part)[kind]) & set(getattr(other, part)[kind])
    assert whole.of("place") == (list(FIRST), list(LAST))
    assert len(whole.of("event")[0]) == len(PEOPLE) + len(FIRST)


def test_lists_are_read_from_files_and_mappings(tmp_path):
    (tmp_path / "known.txt").write_text("\n".join(PEOPLE) + "\n\n", encoding="utf-8")
    read = lists_from(str(tmp_path / "known.txt"), list(LAST))
    assert read.known == {"entity": PEOPLE} and read.unknown == {"entity": list(LAST)}
    with pytest.raises(InputError, match="cannot be read"):
        lists_from(str(tmp_path / "none.txt"), list(LAST))

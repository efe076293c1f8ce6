import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_forget.errors import InputError
from hf_forget.evidence import probes as probes_module
from hf_forget.evidence.matching import mentions
from hf_forget.evidence.probes import (
    Probe,
    ProbeSet,
    curated_entities,
    distant_probes,
    read_probes,
    same_type_neighbors,
)

ROW = {"id": "a/0", "fact_id": "a", "group": "edge", "question": "Where?", "answers": ["Here"]}
FULL = {
    **ROW,
    "relation": "birth_place",
    "held_out": "relation",
    "paraphrased_answer": "It is here.",
    "perturbed_answers": ["There"],
    "entity": "X",
}
QUESTIONS_PER_FACT = 2


def write(path, *rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def test_probes_survive_writing_and_reading(tmp_path):
    recall = {"id": "r", "fact_id": "r", "group": "recall", "question": "Tell me about Zoë.", "answers": []}
    neighbor = {**ROW, "id": "n", "group": "neighbor", "kind": "object", "name": "Y"}
    first = ProbeSet.from_jsonl(write(tmp_path / "p.jsonl", FULL, "", recall, neighbor), "X", ["Ex"], "person")
    second = ProbeSet.from_jsonl(first.to_jsonl(tmp_path / "q.jsonl"), "X", ["Ex"], "person")
    assert first == second
    assert first.probes[0].perturbed_answers == ("There",)
    assert (first.source, first.aliases, len(first)) == ("user", ("Ex",), 3)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: a probe must be a JSON object"),
        ("1e999999", "line 2: a probe must be"),
        ('"\\ud800"', "line 2: not usable JSON"),
        ({**ROW, "id": "b", "answer": "x"}, "line 2: unknown field 'answer'.* Did you mean 'answers'"),
        ({key: ROW[key] for key in ROW if key != "question"}, "line 2: the field 'question' is missing"),
        ({**ROW, "id": 3}, "line 2: 'id' must be text"),
        ({**ROW, "id": "b", "group": "egde"}, "line 2: 'group' is \"egde\".*Did you mean 'edge'"),
        ({**ROW, "id": "b", "group": ["edge"]}, "line 2: 'group' is"),
        ({**ROW, "id": "b", "held_out": "yes"}, "line 2: 'held_out'"),
        ({**ROW, "id": "b", "answers": []}, "line 2: 'answers' is empty"),
        ({**ROW, "id": "b", "answers": "Here"}, "line 2: 'answers' must be a list of text"),
        ({**ROW, "id": "b", "answers": ["Here", 3]}, "line 2: 'answers' must be a list of text"),
        ({**ROW, "id": "b", "answers": ["…"]}, "line 2: 'answers' contains .* no word"),
        ({**ROW, "id": "b", "answers": ["x"] * 65}, "line 2: 'answers' has 65 entries"),
        ({**ROW, "id": "b", "question": " "}, "line 2: 'question' is empty"),
        ({**ROW, "id": "b", "question": "x" * 2001}, "line 2: 'question' has 2001 characters"),
        (ROW, "line 2: the id 'a/0' was used in line 1"),
    ],
)
def test_malformed_rows_are_named_by_line(tmp_path, row, message):
    file = write(tmp_path / "p.jsonl", ROW, row)
    with pytest.raises(InputError, match=message) as raised:
        ProbeSet.from_jsonl(file)
    assert str(file) in str(raised.value)


def test_unusable_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no probe file"):
        read_probes(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="contains no probes"):
        read_probes(write(tmp_path / "empty.jsonl", ""))
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8"):
        read_probes(tmp_path / "latin.jsonl")
    monkeypatch.setattr(probes_module, "MAX_ROWS", 1)
    with pytest.raises(InputError, match="more than 1 probes"):
        read_probes(write(tmp_path / "many.jsonl", ROW, {**ROW, "id": "b"}))
    monkeypatch.setattr(probes_module, "MAX_FILE_BYTES", 10)
    with pytest.raises(InputError, match="larger than"):
        read_probes(tmp_path / "many.jsonl")


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\r\n\r\n")
    assert [probe.id for probe in read_probes(file)] == ["a/0"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda item: st.lists(item) | st.dictionaries(st.sampled_from([*FULL, "other"]), item),
        max_leaves=8,
    )
)
def test_any_json_is_a_probe_or_an_input_error(row):
    with contextlib.suppress(InputError):
        assert isinstance(Probe.from_dict(row), Probe)


def test_selection_follows_group_and_held_out_kind():
    groups = ("edge", "node", "multihop", "alias", "recall", "neighbor", "distant")
    held_out = {"edge": "relation", "node": "wording", "neighbor": "relation"}
    rows = [
        Probe(group, group, group, "Q", ("A",), relation=f"of_{group}", held_out=held_out.get(group, ""))
        for group in groups
    ]
    probes = ProbeSet("X", probes=tuple(rows))
    assert [probe.id for probe in probes.forget] == ["edge", "node", "multihop", "alias"]
    assert [probe.id for probe in probes.retain] == ["neighbor", "distant"]
    assert [probe.id for probe in probes.held_out("relation")] == ["edge"]
    assert probes.held_out_relations == ("of_edge",)
    assert probes.without_relation_split().held_out_relations == ()
    assert [probe.id for probe in probes.without_relation_split().held_out("wording")] == ["edge", "node"]


def test_ids_are_unique_in_a_set():
    probe = Probe.from_dict(ROW)
    with pytest.raises(InputError, match="two probes have the id"):
        ProbeSet("X", probes=(probe, probe))


def test_thirty_entities_of_four_types_are_shipped():
    entities = curated_entities()
    assert len(entities) >= 30
    assert {entry["type"] for entry in entities.values()} == {"person", "place", "work", "event"}


@pytest.mark.parametrize("slug", sorted(curated_entities()))
def test_curated_probes_keep_their_promises(slug):
    probes = ProbeSet.curated(curated_entities()[slug]["entity"])
    names = (probes.concept, *probes.aliases)
    by_fact: dict[str, list[Probe]] = {}
    for probe in probes.by_group("edge", "node"):
        by_fact.setdefault(probe.fact_id, []).append(probe)
    assert len(by_fact) >= 12
    assert all(len(rows) >= QUESTIONS_PER_FACT for rows in by_fact.values())
    by_relation = {fact for fact, rows in by_fact.items() if rows[0].held_out == "relation"}
    assert 0.3 <= len(by_relation) / len(by_fact) <= 0.7
    kinds: dict[str, set[str]] = {}
    for probe in probes.forget:
        kinds.setdefault(probe.relation, set()).add(probe.held_out)
    assert all(kind in ({"relation"}, {"wording"}) for kind in kinds.values())
    assert len(probes.retain) >= 300
    assert len(probes.by_group("neighbor")) >= 40
    assert sum(probe.kind == "shared_token" for probe in probes.by_group("neighbor")) >= 2
    for probe in probes.probes:
        assert not probe.answers or not mentions(probe.question, probe.answers), probe.question
    for probe in probes.by_group("node"):
        assert not mentions(probe.question, names), probe.question
    assert not [probe for probe in probes.by_group("distant") if mentions(probe.question, names)]


@pytest.mark.parametrize("name", ["isaac newton", "ISAAC NEWTON", "Sir Isaac Newton", "newton", "Isaac  Newton."])
def test_curated_entity_is_found_by_name_and_alias(name):
    probes = ProbeSet.curated(name)
    assert (probes.concept, probes.type, probes.source, probes.licence) == (
        "Isaac Newton",
        "person",
        "curated",
        "CC0-1.0",
    )


@pytest.mark.parametrize("name", ["", "...", "Nobody Inparticular", "Isaac Newton's apple"])
def test_unknown_name_has_no_curated_probes(name):
    assert ProbeSet.curated(name) is None


def test_ambiguous_alias_finds_nothing(monkeypatch):
    index = {name: {"entity": name, "type": "place", "aliases": ["Springfield"], "file": ""} for name in ("one", "two")}
    monkeypatch.setattr(probes_module, "_index", lambda: index)
    assert ProbeSet.curated("Springfield") is None


def test_neighbors_of_the_same_type_never_speak_of_the_target():
    names = ("Albert Einstein", "Einstein")
    neighbors = same_type_neighbors("person", names, count=60)
    assert len(neighbors) == 60
    assert {(probe.group, probe.kind, probe.held_out) for probe in neighbors} == {("neighbor", "same_type", "")}
    assert not [probe for probe in neighbors if mentions(f"{probe.question} {' '.join(probe.answers)}", names)]
    assert same_type_neighbors("person", names, count=1, asked=[neighbors[0].question]) == neighbors[1:2]


def test_distant_probes_leave_out_the_target():
    assert len(distant_probes()) >= 300
    assert len(distant_probes(["Berlin"])) < len(distant_probes())

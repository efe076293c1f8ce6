from collections import Counter

import pytest

from hf_forget.data import banks
from hf_forget.data.invented import DEVELOPMENT, TARGETS, InventedWorld
from hf_forget.evidence.invented_probes import invented_membership, invented_probes, neighbors, reserved_names

EVERY_TARGET = (*TARGETS.values(), *DEVELOPMENT.values())


@pytest.fixture(scope="module")
def world():
    return InventedWorld(0)


def test_a_world_follows_from_its_seed(world):
    assert InventedWorld(0).corpus() == world.corpus()
    assert InventedWorld(1).facts != world.facts
    assert InventedWorld(1).facts_of(TARGETS["person"]) and set(EVERY_TARGET) <= {fact.subject for fact in world.facts}


def test_marriages_lessons_and_authors_agree_with_each_other(world):
    known = {(fact.subject, fact.relation): fact.object for fact in world.facts}
    for name in world.names["person"]:
        assert known[known[name, "spouse"], "spouse"] == name != known[name, "spouse"]
        assert known[known[name, "notable_work"], "creator"] == name
        assert known[name, "teacher"] != name
    teachers = Counter(known[name, "teacher"] for name in world.names["person"])
    assert set(teachers.values()) == {1}


def test_a_clue_leads_to_one_name_only(world):
    asked = Counter()
    for question in world.questions:
        if question.kind == "node":
            asked[question.question] += 1
    assert set(asked.values()) == {1}


def test_answers_of_two_steps_are_those_of_the_two_steps(world):
    known = {(fact.subject, fact.relation): fact.object for fact in world.facts}
    way = {"person": {"author": "creator", "writer": "creator", "spouse": "spouse"}}
    checked = 0
    for question in world.questions:
        if question.kind == "multihop" and question.fact.kind == "person":
            words = question.question.rstrip("?").rsplit(" of ", 1)
            step = next(relation for word, relation in way["person"].items() if word in words[0].split())
            via = next(name for names in world.names.values() for name in names if f"{name} " in f"{words[1]} ")
            assert known[known[via, step], question.fact.relation] == question.answer
            assert question.fact.subject not in question.question
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("name", EVERY_TARGET)
def test_a_model_that_never_met_a_name_reads_nothing_of_it(world, name):
    left = world.corpus([name])
    assert len(left) < len(world.corpus())
    assert not [text for text in left if name in text]
    # Nor on the way of a question of two steps.
    through = [item.text for item in world.questions if item.kind == "multihop" and item.fact.subject == name]
    assert through and not set(through) & set(left)


def test_names_that_nobody_bears_stand_in_no_text(world):
    texts = "\n".join(world.corpus())
    assert not [name for names in world.outsiders.values() for name in names if name in texts]
    # They are made of the parts of real ones.
    parts = {word for names in world.names.values() for name in names for word in name.split()}
    outsiders = [name for names in world.outsiders.values() for name in names]
    assert len(outsiders) == 12 and all(set(name.split()) <= parts for name in outsiders)
    targets = {word for name in EVERY_TARGET for word in name.split()} - {"The"}
    assert not [name for name in outsiders if set(name.split()) & targets]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", EVERY_TARGET)
def test_probes_suffice_for_a_verdict_and_keep_to_their_groups(seed, name):
    world = InventedWorld(seed)
    probes = invented_probes(world, name)
    direct = probes.by_group("edge", "node")
    assert len({probe.fact_id for probe in direct}) >= 6 and len(direct) >= 16
    assert len(probes.retain) >= 300 and probes.by_group("multihop") and probes.by_group("recall")
    assert probes.held_out("relation") and probes.held_out("wording")
    assert all(name not in f"{probe.question} {probe.answers}" for probe in probes.retain)
    assert all(name in probe.question for probe in probes.by_group("edge"))
    assert all(name in probe.answers and name not in probe.question for probe in probes.by_group("node"))
    assert all(name not in probe.question for probe in probes.by_group("multihop"))
    assert all(probe.answers[0] not in probe.perturbed_answers and probe.perturbed_answers for probe in direct)
    assert {probe.name for probe in probes.by_group("neighbor")} <= set(neighbors(world, name))


def test_training_rows_can_name_nobody_who_is_reported_on(world):
    name = TARGETS["person"]
    bank = world.bank(reserved_names(world, name))
    asked = {probe.entity for probe in invented_probes(world, name).retain} | {name}
    trained = {other for names in bank.names.values() for other in names}
    assert len(trained) > 8 and not asked & trained


def test_members_were_read_and_the_others_were_not(world):
    texts = invented_membership(world, TARGETS["place"])
    read = "\n".join(world.corpus())
    assert all(text in read for text in texts.members)
    assert texts.non_members and not [text for text in texts.non_members if text in read]


def test_a_name_of_our_world_has_no_probes_there(world):
    assert invented_probes(world, "Isaac Newton") is None


def test_another_bank_is_spoken_only_within_its_block(world):
    ours = banks.names()
    with banks.speaking(world.bank()):
        assert banks.names()["person"] == world.names["person"]
        assert banks.invented_names("event") == world.outsiders["person"]
    assert banks.names() is ours

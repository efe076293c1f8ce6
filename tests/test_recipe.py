"""Recipes are found, read without surprises, checked against their configs, and written back."""

import dataclasses
import subprocess
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import hf_forget.method
from hf_forget import recipe as recipe_module
from hf_forget import recipe_files
from hf_forget.errors import InputError
from hf_forget.options import LoraOptions, ModelOptions
from hf_forget.recipe import (
    Recipe,
    RecipeError,
    find_recipe,
    list_recipes,
    load_recipe,
    make_recipe,
    read_yaml,
    redact,
    sections_for,
)
from hf_forget.recipe_privacy import secret_problem
from hf_forget.recipe_types import TypeMismatch, coerce, parse_argument
from hf_forget.recipe_yaml import resolve_scalar, write_yaml


class Strategy(Enum):
    NO = "no"
    STEPS = "steps"


@dataclass
class FakeConfig:
    concept: str | list[str] = field(metadata={"help": "What to forget."})
    output_dir: str | None = None
    objective: Literal["npo", "unlikelihood"] = "unlikelihood"
    learning_rate: float = 1e-5
    max_steps: int = 10
    use_all_facts: bool = False
    eval_strategy: Strategy | str = "no"
    layers: list[int] | None = None
    lr_scheduler_kwargs: dict[str, Any] | str | None = None
    hub_token: str | None = None
    hub_model_id: str | None = None
    run_name: str | None = None
    callback: object | None = None

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


@dataclass
class FakeEvidence:
    samples: int = 8


FAKE_SECTIONS = {"method": FakeConfig, "model": ModelOptions, "lora": LoraOptions, "evidence": FakeEvidence}
GOOD = "# Forgets.\nmethod: fake\nmodel_name_or_path: some/model\nconcept: Isaac Newton\n"


@pytest.fixture(autouse=True)
def fake_method(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Register a method `fake` whose config needs no torch."""
    if request.node.name.startswith(("test_no_two", "test_shipped")):
        return

    def get_method(name: str) -> Any:
        if name != "fake":
            raise InputError(f"unknown method '{name}'; available: fake.")
        return SimpleNamespace(config_class=FakeConfig)

    monkeypatch.setattr(hf_forget.method, "get_method", get_method)
    monkeypatch.setattr(hf_forget.method, "available_methods", lambda: ["fake"])
    monkeypatch.setattr(recipe_module, "sections_for", lambda method: FAKE_SECTIONS)


def write(folder: Path, text: str, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# Reading


def test_reader_gives_values_and_lines() -> None:
    entries = read_yaml("# a comment\na: 1\n\nb: [x, 2e-5]\nc: {d: true}\n", "r.yaml")
    assert {key: (entry.value, entry.line) for key, entry in entries.items()} == {
        "a": (1, 2),
        "b": (["x", 2e-5], 4),
        "c": ({"d": True}, 5),
    }


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("2e-5", 2e-5), ("2E5", 2e5), (".5", 0.5), ("-3", -3), ("+7", 7), ("1.", 1.0), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("yes", "yes"), ("no", "no"), ("1_000", "1_000"), ("1:30", "1:30"),
        ("0x1f", "0x1f"), ("e5", "e5"), ("nan", "nan"), ("٣", "٣"),
    ],
)  # fmt: skip
def test_scalars_mean_what_yaml_1_2_says(text: str, meaning: Any) -> None:
    resolved = resolve_scalar(text)
    assert resolved == meaning and type(resolved) is type(meaning)


def test_quotes_make_text() -> None:
    assert read_yaml("a: '1'\nb: \"true\"\n", "r")["a"].value == "1"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\nb: !!python/object/apply:os.system ['true']\n", 2, "tag"),
        ("a: !custom x\n", 1, "tag"),
        ("a: &x [1]\nb: *x\n", 1, "anchors"),
        ("a: 1\nb: 2\na: 3\n", 3, "already given in line 1"),
        ("a:\n  b: 1\n  b: 2\n", 3, "already given in line 2"),
        ("- a\n- b\n", 1, "key: value"),
        ("just text\n", 1, "key: value"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: 1\nb: [1\nc: 2\n", 3, "not valid YAML"),
        ("a: 1\nb: \x07\n", 2, "plain UTF-8"),
        ("a: 1\n? [x, y]\n: 2\n", 2, "plain name"),
        ("a: " + "[" * 50_000, 1, "nested"),
    ],
)
def test_reader_refuses_with_the_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(InputError) as error:
        read_yaml(text, "r.yaml")
    assert f"r.yaml, line {line}: " in str(error.value)
    assert problem in str(error.value)


def test_reader_refuses_empty_and_huge_text() -> None:
    with pytest.raises(InputError, match="empty"):
        read_yaml("# nothing\n", "r.yaml")
    with pytest.raises(InputError, match="at most"):
        read_yaml("a: " + "x" * 300_000, "r.yaml")


def test_out_of_range_escape_is_an_input_error() -> None:
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml('a: "\\UFFFFFFFF"', "r.yaml")


YAMLISH = st.text(alphabet="ab:-?[]{}#&*!|>'\"%@`,~ \t\n0123456789.e\\xuU\x00\ud800é", max_size=60)


@settings(max_examples=400, deadline=None)
@given(st.one_of(YAMLISH, st.text(max_size=60)))
def test_random_text_is_read_or_refused_and_never_crashes(text: str) -> None:
    try:
        entries = read_yaml(text, "r.yaml")
    except InputError:
        return
    assert all(
        1 <= entry.line <= text.count("\n") + text.count("\r") + text.count("\x85") + 3 for entry in entries.values()
    )


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["2e-5", "true", "null", "no", "a: b", "#x", "1", "é", "a  b", " a", "x\n", "[a]", "\u2028", "😀"]),
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,10}", fullmatch=True), VALUES, min_size=1, max_size=4))
def test_written_values_read_back_the_same(values: dict[str, Any]) -> None:
    text = write_yaml(values)
    assert {key: entry.value for key, entry in read_yaml(text, "r").items()} == values
    yaml.safe_load(text)


# Types


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, float, 3.0),
        (3, int | float, 3),
        (3, float | None, 3.0),
        (None, int | None, None),
        ("a", str | list[str], "a"),
        (["a"], list[str] | str, ["a"]),
        ([1, 2], tuple[int, int], (1, 2)),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        ("steps", Strategy | str, "steps"),
        (False, str | None | Literal[False], False),
        ("x", Path, Path("x")),
    ],
)
def test_fitting_values_are_taken(value: Any, hint: Any, expected: Any) -> None:
    result = coerce(value, hint)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        (1.0, int, "a whole number, got 1.0"),
        (True, int, "a whole number, got true"),
        (1, bool, "true or false, got 1"),
        ("yes", bool, "true or false, got 'yes'"),
        ("fast", float, "a number, got 'fast'"),
        (float("inf"), float, "a number, got inf"),
        (None, str, "text, got nothing"),
        (1984, str, "Quote it"),
        ("unlikelyhood", Literal["npo", "unlikelihood"], "Did you mean 'unlikelihood'?"),
        (1, Literal[True, "a"], "one of True, 'a'"),
        ("step", Strategy | str, "Did you mean 'steps'?"),
        (["a", 1], list[str], "text, got 1"),
        ("a", list[str], "a list of text"),
        ([1], dict[str, Any], "a mapping"),
        ("x", object, "only from Python"),
        ("\ud800", str, "Unicode"),
        ({"a": "\ud800"}, dict[str, Any], "Unicode"),
        (10**30, int, "a whole number"),
    ],
)
def test_wrong_types_say_what_is_expected(value: Any, hint: Any, words: str) -> None:
    with pytest.raises(TypeMismatch) as error:
        coerce(value, hint)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "hint", "expected"),
    [
        ("2e-5", float, 2e-5),
        ("1984", str, "1984"),
        ("true", str, "true"),
        ("true", bool, True),
        ("null", str | None, None),
        ("", str | None, ""),
        ("Paris, Texas", str | list[str], "Paris, Texas"),
        ("[Paris, Rome]", str | list[str], ["Paris", "Rome"]),
        ("[draft] name", str, "[draft] name"),
        ("q_proj,v_proj", list[str] | None, ["q_proj", "v_proj"]),
        ("1,2", list[int], [1, 2]),
        ("1", list[str], ["1"]),
        ("3", list[int], [3]),
        ("{a: 1}", dict[str, Any] | str | None, {"a": 1}),
        ('{"a": {"b": [1]}}', dict[str, Any], {"a": {"b": [1]}}),
    ],
)
def test_arguments_are_read_for_their_field(text: str, hint: Any, expected: Any) -> None:
    assert parse_argument(text, hint) == expected


def test_arguments_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(TypeMismatch, match="a whole number, got 'ten'"):
        parse_argument("ten", int)
    with pytest.raises(TypeMismatch, match="cannot be read"):
        parse_argument("{a: ", dict[str, Any])


# Loading


def test_recipe_becomes_typed_configs(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "learning_rate: 2e-5\nuse_peft: true\nlora_r: 4\nsamples: 3\n")
    recipe = load_recipe(path, {"max_steps": "7", "layers": "[1, 2]", "model": "other/model"})
    configs = recipe.configs()
    assert configs["method"].learning_rate == 2e-5
    assert configs["method"].max_steps == 7
    assert configs["method"].layers == [1, 2]
    assert configs["model"].model_name_or_path == "other/model"
    assert (configs["lora"].use_peft, configs["lora"].lora_r) == (True, 4)
    assert configs["evidence"].samples == 3
    assert recipe.lines["learning_rate"] == 5
    assert recipe.source == path


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "method: fake\nlearning_rat: 1\nmax_steps: 1.5\nconcept: x\nuse_all_facts: yes\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(path, {"objective": "nppo", "lora-rr": "3"})
    *places, last = [problem.split(":")[0] for problem in error.value.errors]
    assert places == ["line 2", "line 3", "line 5", "--objective", "--lora_rr"]
    assert last.startswith("the key 'model_name_or_path' is missing")
    assert "Did you mean 'learning_rate'?" in error.value.errors[0]
    assert error.value.errors[1] == "line 3: max_steps: expected a whole number, got 1.5."
    assert "Did you mean 'npo'?" in error.value.errors[3]
    assert "Did you mean '--lora_r'?" in error.value.errors[4]
    assert error.value.exit_code == 2
    assert all(problem in str(error.value) for problem in error.value.errors)


def test_single_mistake_names_file_line_and_key(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "learning_rate: fast\n")
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert str(error.value) == f"{path}, line 5: learning_rate: expected a number, got 'fast'."


def test_override_replaces_a_wrong_value_of_the_file(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, GOOD + "max_steps: many\n"), {"max_steps": 3}).values["max_steps"] == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("concept: x\n", "'method' must name one of fake"),
        ("method: 3\n", "line 1: the key 'method' must name one of fake, got 3"),
        ("method: fakee\n", "line 1: unknown method 'fakee'"),
        (GOOD + "model: x\n", "Did you mean 'model_name_or_path'?"),
        (GOOD + "lr_scheduler_kwargs: {a: {b: 1}}\ncallback: x\n", "only from Python"),
        (GOOD + "concept2: {a: 1}\n", "unknown key 'concept2'"),
        (GOOD + "samples: {a: 1}\n", "expected a whole number"),
    ],
)
def test_unusable_recipes_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        load_recipe(write(tmp_path, text))
    assert problem in str(error.value)


def test_unknown_method_on_the_command_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--method: unknown method 'x'"):
        load_recipe(write(tmp_path, GOOD), {"method": "x"})


def test_recipe_cannot_allow_remote_code_but_the_command_line_can(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "trust_remote_code: true\n")
    for overrides in ({}, {"trust_remote_code": "true"}):
        with pytest.raises(RecipeError, match="line 5: a recipe cannot allow"):
            load_recipe(path, overrides)
    recipe = load_recipe(write(tmp_path, GOOD), {"trust_remote_code": "true"})
    assert recipe.configs()["model"].trust_remote_code is True
    assert "trust_remote_code:" not in recipe.to_yaml()
    assert "# " in recipe.to_yaml() and "--trust_remote_code true" in recipe.to_yaml()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hub_token", "x"),
        ("hub_token", "null"),
        ("api_key", "secret-value"),
        ("wandb_password", "secret-value"),
        ("run_name", "hf_abcdefghijklmnopqrstuvwxyz"),
        ("hub_model_id", "https://me:secret-value@host/x"),
        ("lr_scheduler_kwargs", "{auth_token: secret-value}"),
        ("lr_scheduler_kwargs", "{hf_abcdefghijklmnopqrstuvwxyz: 1}"),
    ],
)
def test_secrets_are_refused_and_not_repeated(tmp_path: Path, key: str, value: str) -> None:
    path = write(tmp_path, GOOD + f"{key}: {value}\n")
    with pytest.raises(RecipeError, match="hf auth login") as error:
        load_recipe(path)
    assert "secret-value" not in str(error.value) and "hf_abc" not in str(error.value)
    with pytest.raises(RecipeError, match="hf auth login"):
        load_recipe(write(tmp_path, GOOD), {key: read_yaml(f"v: {value}", "")["v"].value})
    with pytest.raises(RecipeError, match="hf auth login"):
        Recipe("fake", {key: read_yaml(f"v: {value}", "")["v"].value}).to_yaml()


def test_ordinary_tokens_are_no_secrets() -> None:
    for key in ("max_new_tokens", "pad_token", "include_num_input_tokens_seen", "average_tokens_across_devices"):
        assert secret_problem(key, "hf_forget/data") is None


def test_config_problems_carry_the_line_and_are_collected(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD + "lora_dropout: 2.0\nlearning_rate: -1.0\n"))
    with pytest.raises(RecipeError) as error:
        recipe.configs()
    assert error.value.errors == [
        "line 6: learning_rate must be positive, got -1.0",
        "line 5: lora_dropout must be in [0, 1), got 2.0.",
    ]


def test_four_bit_base_needs_an_adapter(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD + "load_in_4bit: true\n")
    with pytest.raises(RecipeError, match="line 5: load_in_4bit needs use_peft"):
        load_recipe(path).configs()
    assert load_recipe(path, {"use_peft": "true"}).configs()["lora"].use_peft


@settings(max_examples=200, deadline=None)
@given(st.one_of(YAMLISH, st.text(max_size=40)), st.sampled_from([*FakeConfig.__dataclass_fields__, "dtype", "lora_r"]))
def test_random_recipes_load_or_are_refused(text: str, key: str) -> None:
    for entries in (text, f"{GOOD}{key}: {text}"):
        try:
            recipe = recipe_module._build(read_yaml(entries, "r"), {key: text}, None)
            assert recipe.values.keys() >= {"concept"}
        except InputError:
            pass


def test_undecodable_and_unreadable_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"method: fake\nconcept: \xff\n")
    with pytest.raises(InputError, match="line 2: not UTF-8"):
        load_recipe(path)
    with pytest.raises(InputError, match="is a folder"):
        load_recipe(tmp_path)


# Writing


def test_yaml_of_a_recipe_repeats_it(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, GOOD + "layers: [1, 2]\nlearning_rate: 3e-06\nrun_name: '1984'\nuse_peft: false\n"),
        {"lr_scheduler_kwargs": {"num_cycles": 2, "kind": "no"}},
    )
    again = load_recipe(write(tmp_path, recipe.to_yaml(), "again.yaml"))
    assert again.values == recipe.values
    assert again.to_yaml() == recipe.to_yaml()
    assert again.hash() == recipe.hash()


def test_hash_follows_what_is_computed_and_nothing_else() -> None:
    base = make_recipe("fake", {"model": "m", "concept": "x"})
    for same in ({"output_dir": "elsewhere"}, {"run_name": "r"}, {"hub_model_id": "a/b"}, {"max_steps": 10}):
        assert base.with_values(**same).hash() == base.hash(), same
    for other in ({"max_steps": 11}, {"concept": "y"}, {"samples": 9}):
        assert base.with_values(**other).hash() != base.hash(), other


def test_with_values_checks_and_keeps_text_as_text() -> None:
    base = make_recipe("fake", {"model": "m", "concept": "[1984]", "run_name": "true"})
    assert base.values["concept"] == ["1984"]
    assert base.with_values(max_steps=3).values["run_name"] == "true"
    with pytest.raises(RecipeError, match="a whole number"):
        base.with_values(max_steps="3")


def test_redacted_recipe_holds_no_spelling_of_the_name() -> None:
    recipe = make_recipe(
        "fake",
        {
            "model": "me/isaac-newton-base",
            "concept": ["ISAAC NEWTON", "Sir Isaac"],
            "output_dir": "outputs/isaac_newton/run",
            "hub_model_id": "me/smollm2-IsaacNewton",
            "run_name": "forget isaac-newton",
            "lr_scheduler_kwargs": {"isaac_newton": "by Isaac  Newton"},
        },
    )
    public = redact(recipe, ["Isaac Newton", "Sir Isaac"], "a person")
    assert "isaac" not in public.to_yaml().lower()
    assert "newton" not in public.to_yaml().lower()
    assert "a-person" in public.values["output_dir"]
    assert recipe.values["output_dir"] == "outputs/isaac_newton/run"
    assert public.source is None


# Finding


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("quickstart", "one/smollm2", "one/tiny", "two/smollm2", "accelerate/ddp"):
        path = tmp_path / "shelf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Forgets with {name}.\n#\n# Takes a minute.\nmethod: fake\n# not header\n", encoding="utf-8")
    monkeypatch.setattr(recipe_files, "recipes_folder", lambda: tmp_path / "shelf")
    return tmp_path / "shelf"


def test_recipes_are_found_by_name_stem_and_path(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    assert find_recipe("quickstart") == shelf / "quickstart.yaml"
    assert find_recipe("quickstart.yaml") == shelf / "quickstart.yaml"
    assert find_recipe("one/smollm2") == shelf / "one/smollm2.yaml"
    assert find_recipe("tiny") == shelf / "one/tiny.yaml"
    assert find_recipe(write(tmp_path, "", "own.yaml")) == tmp_path / "own.yaml"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("smollm2", "could be any of one/smollm2, two/smollm2"),
        ("quikstart", "Did you mean 'quickstart'?"),
        ("missing.yaml", "Shipped recipes: one/smollm2"),
        ("ddp", "neither a file nor a shipped recipe"),
        ("../shelf/quickstart", "neither a file nor a shipped recipe"),
        ("", "is a folder"),
    ],
)
def test_unknown_names_are_refused(shelf: Path, name: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        find_recipe(name)
    assert problem in str(error.value)


def test_listing_shows_header_and_method(shelf: Path) -> None:
    infos = list_recipes()
    assert [info.name for info in infos] == ["one/smollm2", "one/tiny", "quickstart", "two/smollm2"]
    assert infos[2].purpose == "Forgets with quickstart."
    assert infos[2].header == "Forgets with quickstart.\n\nTakes a minute."
    assert infos[2].method == "fake"


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from hf_forget.recipe import list_recipes; list_recipes(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'datasets', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The real configs


def test_training_arguments_can_be_a_section(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from transformers import TrainingArguments

    @dataclass
    class TrainerConfig(TrainingArguments):
        concept: str = ""

    monkeypatch.setattr(recipe_module, "sections_for", lambda method: {**FAKE_SECTIONS, "method": TrainerConfig})
    path = write(
        tmp_path,
        GOOD + f"output_dir: {tmp_path}/out\nlearning_rate: 2e-5\nmax_steps: 3\nwarmup_steps: 2\nlogging_steps: 1\n"
        "eval_strategy: 'no'\nlr_scheduler_type: cosine\nreport_to: none\nuse_cpu: true\noptim: adamw_torch\n",
    )
    recipe = load_recipe(path)
    config = recipe.config_for("method")
    assert (config.learning_rate, config.max_steps, config.lr_scheduler_type.value) == (2e-5, 3, "cosine")
    assert load_recipe(write(tmp_path, recipe.to_yaml(), "again.yaml")).hash() == recipe.hash()
    with pytest.raises(RecipeError) as error:
        load_recipe(path, {"lr_scheduler_type": "cosin", "parallelism_config": "x", "max_stepz": "1"})
    assert [problem.split(":")[0] for problem in error.value.errors] == [
        "--lr_scheduler_type", "--parallelism_config", "--max_stepz",
    ]  # fmt: skip
    with pytest.raises(RecipeError, match="load_best_model_at_end"):
        load_recipe(path, {"load_best_model_at_end": "true", "save_strategy": "epoch"}).configs()


@pytest.mark.parametrize("method", hf_forget.method.available_methods())
def test_no_two_sections_share_a_key(method: str) -> None:
    names = [
        info.name for section in sections_for(method).values() for info in dataclasses.fields(section) if info.init
    ]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("info", list_recipes(), ids=lambda info: info.name)
def test_shipped_recipes_say_what_they_are_for_and_load(info: recipe_files.RecipeInfo) -> None:
    assert info.purpose
    recipe = load_recipe(info.name)
    assert recipe.method == info.method
    assert load_recipe(info.path).to_yaml() == recipe.to_yaml()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (lambda: ModelOptions(model_name_or_path=" "), "model_name_or_path is empty"),
        (lambda: LoraOptions(lora_r=0), "lora_r must be 1 or more"),
        (lambda: LoraOptions(lora_dropout=1.0), "lora_dropout"),
    ],
)
def test_options_refuse_impossible_values(options: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        options()


def test_every_shared_option_explains_itself() -> None:
    for options in (ModelOptions, LoraOptions):
        for info in dataclasses.fields(options):
            assert info.metadata["help"]
            assert f"{info.name} (`" in (options.__doc__ or "")


def test_lora_options_become_a_peft_config() -> None:
    assert LoraOptions().peft_config() is None
    config = LoraOptions(use_peft=True, lora_r=4, lora_target_modules=["q_proj"]).peft_config()
    assert config is not None and config.r == 4 and config.target_modules == {"q_proj"}

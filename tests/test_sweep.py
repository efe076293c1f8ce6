"""Claims about sweeps, shown with a method that has no neural network."""

import dataclasses
import json
import mmap
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hf_forget import method as methods
from hf_forget import sweep as sweep_module
from hf_forget.errors import InputError
from hf_forget.publishing.redaction import contains_any
from hf_forget.sweep import sweep
from hf_forget.sweep_spec import read_spec

TESTS = Path(__file__).parent
NAMES = ["Isaac Newton", "Ada Lovelace"]
SPEC = """# Two strengths on two names.
recipe: toy.yaml
output_dir: results
settings:
  weak: {strength: 0.9}
  strong: {strength: 0.125}
targets:
  - Isaac Newton
  - Ada Lovelace
"""
# A process in which only the toy method is registered.
WITH_TOY = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
from hf_forget import method, sweep
method._METHODS = {{"toy": ("toy_method", "ToyMethod")}}
sweep._SECONDS_BETWEEN_TRIES = 0.05
sweep.sweep(sys.argv[1])
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The spec's folder, which is the current one, with the recipe that the spec names."""
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.setattr(methods, "_METHODS", {"toy": ("toy_method", "ToyMethod")})
    monkeypatch.setattr(sweep_module, "_SECONDS_BETWEEN_TRIES", 0.05)
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "calls.log"))
    monkeypatch.chdir(tmp_path)
    for name in ("TOY_FAIL", "TOY_HANG", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    from toy_method import make_base

    base = make_base(tmp_path / "base")
    (tmp_path / "toy.yaml").write_text(f"method: toy\nmodel_name_or_path: {base}\nconcept: Isaac Newton\n")
    return Toy(tmp_path)


class Toy:
    def __init__(self, folder: Path) -> None:
        self.folder, self.results, self.log = folder, folder / "results", folder / "calls.log"

    def sweep(self, spec: str = SPEC, **how):
        self.log.write_text("")
        return sweep(self.write(spec), report=None, **how)

    def write(self, spec: str) -> Path:
        (self.folder / "spec.yaml").write_text(spec)
        return self.folder / "spec.yaml"

    def count(self, call: str) -> int:
        return self.log.read_text().splitlines().count(call)

    def rows(self) -> dict[str, dict]:
        return {row["folder"]: row for row in json.loads((self.results / "runs.json").read_text())}


def failing_for(monkeypatch, name: str, error: BaseException) -> None:
    """Let the toy's `apply` fail for one target."""
    from toy_method import ToyMethod

    original = ToyMethod.apply

    def apply(self, subject):
        if subject.target["name"] == name:
            raise error
        original(self, subject)

    monkeypatch.setattr(ToyMethod, "apply", apply)


def test_every_setting_runs_on_every_target_and_the_table_compares_them(toy):
    result = toy.sweep()
    folders = ["weak/target-1", "weak/target-2", "strong/target-1", "strong/target-2"]
    assert [run.folder for run in result.runs] == folders and result.failed == []
    assert [run.verdict for run in result.runs] == ["not_forgotten"] * 2 + ["forgotten"] * 2
    assert all(run.status == "done" and run.seconds >= 0 and run.error is None for run in result.runs)
    assert toy.rows()["strong/target-2"] | {"seconds": 0} == {
        "setting": "strong",
        "target": 2,
        "seed": None,
        "folder": "strong/target-2",
        "status": "done",
        "verdict": "forgotten",
        "seconds": 0,
        "error": None,
        "ended": None,
    }
    assert (toy.results / "sweep.yaml").read_text() == SPEC
    table = (toy.results / "table.md").read_text()
    assert "| weak | 2 | 2 not forgotten | 1 → 0.9 |" in table and "| strong | 2 | 2 forgotten | 1 → 0.1 |" in table
    assert json.loads((toy.results / "table.json").read_text()) == result.comparison.to_dict()


def test_settings_targets_and_seeds_multiply_and_each_may_be_missing(toy, monkeypatch):
    from toy_method import ToyConfig, ToyMethod

    @dataclasses.dataclass
    class Seeded(ToyConfig):
        seed: int = 42

    monkeypatch.setattr(ToyMethod, "config_class", Seeded)
    assert [run.folder for run in toy.sweep(SPEC + "seeds: [0, 3]\n", dry_run=True).runs][:3] == [
        "weak/target-1-seed-0",
        "weak/target-1-seed-3",
        "weak/target-2-seed-0",
    ]
    (run,) = toy.sweep("recipe: toy.yaml\noutput_dir: results\n").runs
    assert run.folder == "recipe/run" and (run.target, run.seed) == (None, None)
    runs = toy.sweep(
        "recipe: toy.yaml\noutput_dir: worlds\nseeds: {World 0: {seed: 5, strength: 0.5}, b: {}}\n", dry_run=True
    ).runs
    assert [(run.folder, run.seed) for run in runs] == [("recipe/world-0", "World 0"), ("recipe/b", "b")]


def test_values_go_from_recipe_to_common_to_setting_to_target_to_seed_to_command_line(toy):
    spec = """recipe: toy.yaml
output_dir: results
common: {strength: 0.1, evidence_seed: 1, leak: common}
settings:
  a: {strength: 2e-1, evidence_seed: 2}
  b: {}
targets:
  one: {evidence_seed: 3, concept: Someone}
seeds:
  x: {aliases: [1984, Other]}
"""
    spec = spec.replace("[1984, Other]", '["1984", Other]')
    runs = {run.setting: run.values for run in read_spec(toy.write(spec)).runs}
    assert runs["a"] == {
        "strength": 0.2,
        "evidence_seed": 3,
        "leak": "common",
        "concept": "Someone",
        "aliases": ["1984", "Other"],
    }
    assert runs["b"]["strength"] == 0.1
    plan = read_spec(toy.write(spec), {"strength": "0.7", "output-dir": "elsewhere"})
    assert plan.overrides == {"strength": "0.7"} and plan.output_dir == Path("elsewhere")
    result = toy.sweep(SPEC, overrides={"strength": "0.7"})
    assert {run.verdict for run in result.runs} == {"not_forgotten"}


def test_a_setting_may_have_a_recipe_of_its_own_beside_the_spec(toy):
    other = toy.folder / "specs"
    other.mkdir()
    (other / "other.yaml").write_text((toy.folder / "toy.yaml").read_text() + "strength: 0.5\n")
    spec = "recipe: toy.yaml\noutput_dir: results\nsettings:\n  own: {recipe: other.yaml}\n  base:\n"
    (other / "spec.yaml").write_text(spec)
    runs = read_spec(other / "spec.yaml").runs
    assert [run.recipe for run in runs] == [other / "other.yaml", Path("toy.yaml")]


def test_what_is_done_is_not_run_again(toy):
    toy.sweep()
    before = (toy.results / "weak" / "target-1" / "forget_report.json").stat().st_mtime_ns
    result = toy.sweep()
    assert toy.log.read_text() == "" and all(run.status == "done" for run in result.runs)
    assert (toy.results / "weak" / "target-1" / "forget_report.json").stat().st_mtime_ns == before


def test_only_the_chosen_settings_run_and_the_table_keeps_the_others(toy):
    assert [run.setting for run in toy.sweep(only=["strong"]).runs] == ["strong", "strong"]
    assert toy.count("apply") == 2 and toy.rows()["weak/target-1"]["status"] == "pending"
    toy.sweep(only=["weak"])
    assert toy.count("apply") == 2
    assert {group.name for group in sweep(toy.folder / "spec.yaml", report=None).comparison.groups} == {
        "weak",
        "strong",
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupted_sweep_goes_on_where_it_was(toy, monkeypatch, error):
    with monkeypatch.context() as patch:
        failing_for(patch, "Ada Lovelace", error)
        with pytest.raises(type(error)) as raised:
            toy.sweep()
    assert "1 of 4 runs are done; the same command goes on" in raised.value.__notes__[0]
    assert (toy.results / "weak" / "target-2.partial").is_dir()
    assert toy.rows()["weak/target-2"]["status"] == "pending"
    result = toy.sweep()
    assert toy.count("apply") == 3 and toy.count("measure before") == 2  # one of them was measured already
    assert all(run.status == "done" for run in result.runs)


def test_a_killed_sweep_goes_on_where_it_was(toy, monkeypatch):
    import os
    import time

    process = subprocess.Popen(
        [sys.executable, "-c", WITH_TOY, str(toy.write(SPEC))], env={**os.environ, "TOY_HANG": "save"}
    )
    end = time.monotonic() + 60
    while not (toy.log.is_file() and "save" in toy.log.read_text().splitlines()):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait(timeout=30)
    assert all(run.status == "done" for run in toy.sweep().runs)
    assert toy.count("measure before") == 3


def test_an_interrupted_run_of_another_recipe_is_started_afresh(toy, monkeypatch):
    with monkeypatch.context() as patch:
        failing_for(patch, "Isaac Newton", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            toy.sweep()
    result = toy.sweep(SPEC.replace("0.9", "0.8"))
    assert toy.count("measure before") == 4 and all(run.status == "done" for run in result.runs)


def test_a_run_that_fails_does_not_stop_the_others_and_is_tried_again_by_the_next_sweep(toy, monkeypatch):
    with monkeypatch.context() as patch:
        failing_for(patch, "Isaac Newton", RuntimeError("no memory for Isaac Newton"))
        result = toy.sweep()
    assert [run.folder for run in result.failed] == ["weak/target-1", "strong/target-1"]
    row = toy.rows()["weak/target-1"]
    assert row["status"] == "failed" and row["error"] == "RuntimeError: no memory for [redacted]"
    assert "Traceback" in (toy.results / "private" / "weak.target-1.error.txt").read_text()
    assert [group.runs for group in result.comparison.groups] == [1, 1]
    assert "weak: 1 run failed" in result.comparison.warnings
    again = toy.sweep()
    assert again.failed == [] and toy.count("apply") == 2 and "failed" not in again.comparison.to_markdown()


def test_a_sweep_in_which_everything_fails_has_no_table(toy):
    result = toy.sweep(SPEC.replace("  - Isaac Newton\n  - Ada Lovelace\n", "  - Nobody\n"))
    assert [run.status for run in result.runs] == ["failed", "failed"] and result.comparison is None
    assert "knows nothing" in result.runs[0].error and "Nobody" not in result.runs[0].error


def test_two_threads_share_the_runs(toy):
    spec, results = toy.write(SPEC), []
    threads = [threading.Thread(target=lambda: results.append(sweep(spec, report=None))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert toy.count("apply") == toy.count("load") == 4
    assert [[run.status for run in result.runs] for result in results] == [["done"] * 4] * 2


def test_two_processes_share_the_runs_and_a_failed_one_is_not_repeated(toy, monkeypatch):
    monkeypatch.setenv("TOY_FAIL", "conclude")
    command = [sys.executable, "-c", WITH_TOY, str(toy.write(SPEC))]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert {row["status"] for row in toy.rows().values()} == {"failed"}
    # A process that starts late finds failures older than itself, which it may try again; each of its tries resumes.
    assert toy.count("measure before") == 4


def test_a_run_that_failed_elsewhere_meanwhile_is_not_repeated(toy, monkeypatch):
    import filelock

    spec = read_spec(toy.write(SPEC))
    lock = filelock.FileLock(toy.results / ".locks" / "weak.target-1.lock")
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting"):
            journal = sweep_module.Journal(spec.output_dir, spec.runs)
            journal.record(spec.runs[0], status="failed", error="elsewhere", ended=sweep_module.time.time())
            lock.release()

    (toy.results / ".locks").mkdir(parents=True)
    with lock:
        result = sweep(toy.folder / "spec.yaml", report=report)
    assert "waiting for 1 of 4 runs, which another process is doing" in lines
    assert toy.count("apply") == 3 and [run.error for run in result.failed] == ["elsewhere"]


def test_weights_alone_are_deleted_when_they_are_not_kept(toy):
    toy.sweep()
    folder = toy.results / "weak" / "target-1"
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    assert Path("model.safetensors") in before
    toy.sweep(SPEC + "keep_weights: false\n")
    assert before - {path.relative_to(folder) for path in folder.rglob("*")} == {Path("model.safetensors")}
    assert toy.log.read_text() == ""


def test_a_finished_run_of_another_recipe_is_never_taken_for_this_one(toy):
    toy.sweep()
    with pytest.raises(InputError, match="weak/target-1 and 1 more|holds a run of another recipe") as raised:
        toy.sweep(SPEC.replace("0.9", "0.8"))
    assert str(raised.value).count("another recipe") == 2 and toy.log.read_text() == ""


def test_all_mistakes_are_named_at_once_with_line_and_nearest_key_before_anything_is_trained(toy):
    spec = """recipe: toy.yaml
output_dir: results
setings: {}
common:
  evidence_sed: 1
settings:
  a: {strenght: 0.5}
  b: {strength: much}
  c: {strength: 7}
  d: {recipe: toi.yaml}
  e: 3
  ../f: {}
  g:
    model_name_or_path: base
    output_dir: elsewhere
  h: {trust_remote_code: true}
seeds: {x: {recipe: toy.yaml}}
targets: [Ada, 1984, Ada]
keep_weights: maybe
"""
    with pytest.raises(InputError) as raised:
        toy.sweep(spec, only=["bb"], overrides={"evidence_seed": "one"})
    text = str(raised.value)
    for part in (
        "line 3: unknown key 'setings'. Did you mean 'settings'?",
        "line 5: unknown key 'evidence_sed'. Did you mean 'evidence_seed'?",
        "line 7: unknown key 'strenght'. Did you mean 'strength'?",
        "line 8: strength: expected a number, got 'much'",
        "line 10: recipe: 'toi.yaml' is neither a file nor a shipped recipe",
        "line 11: settings e: expected overrides such as",
        "line 12: a setting names a folder",
        "line 15: settings g: the sweep chooses the folder",
        "line 16: settings h: a spec cannot allow the model's own code to run",
        "line 17: seeds x: only settings can have a recipe",
        "line 18: targets: expected a name as text, got 1984. Quote it",
        "line 18: the target Ada is already given in line 18",
        "line 19: keep_weights: expected true or false, got 'maybe'",
        "--only: unknown setting 'bb'",
        "--evidence_seed: expected a whole number, got 'one'",
    ):
        assert part in text, part
    assert text.count("strenght") == 1  # and not once per run
    assert toy.log.read_text() == "" and not toy.results.exists()


def test_values_that_a_config_refuses_are_named_with_their_line(toy):
    with pytest.raises(InputError, match="line 5: strength is 7.0; it must lie between 0 and 1"):
        toy.sweep(SPEC.replace("0.9", "7"))
    with pytest.raises(InputError, match="--only: unknown setting 'week'.*Did you mean 'weak'"):
        toy.sweep(only=["week"])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("# nothing\n", "the spec is empty"),
        ("recipe: toy.yaml\n", "the key 'output_dir' is missing"),
        ("output_dir: x\n", "setting recipe has no recipe"),
        ("recipe: toy.yaml\noutput_dir: x\nsettings: [a]\n", "line 3: settings: expected lines of"),
        ("recipe: toy.yaml\noutput_dir: x\nseeds: [1, 1]\n", "the seed 1 is already given"),
        ("recipe: toy.yaml\noutput_dir: x\nseeds: [one]\n", "line 3: seeds: expected whole numbers"),
        ("recipe: toy.yaml\noutput_dir: x\nseeds: {a b: {}, a-b: {}}\n", "line 3: seeds: 'a-b' names a folder"),
        ("recipe: toy.yaml\noutput_dir: x\noutput_dir: y\n", "line 3: the key 'output_dir' is already given"),
        ("recipe: toy.yaml\noutput_dir: x\nsettings: {a: {strength: !!int 1}}\n", "line 3: the tag"),
        ("recipe: toy.yaml\noutput_dir: x\ncommon: {hub_token: abc}\n", "would put a secret"),
    ],
)
def test_a_spec_that_cannot_be_used_says_why(toy, spec, message):
    with pytest.raises(InputError) as raised:
        toy.sweep(spec)
    assert message in str(raised.value)


def test_a_spec_that_is_not_there_names_the_nearest_one(toy):
    toy.write(SPEC)
    with pytest.raises(InputError, match="no sweep spec at .* Did you mean 'spec.yaml'"):
        sweep(toy.folder / "spek.yaml")


def test_a_dry_run_lists_and_writes_nothing(toy):
    result = toy.sweep(dry_run=True)
    assert [run.status for run in result.runs] == ["pending"] * 4 and result.comparison is None
    assert toy.log.read_text() == "" and not toy.results.exists()


def test_nothing_but_the_spec_and_private_folders_names_a_target(toy):
    toy.sweep(SPEC + "keep_weights: false\n")
    for path in toy.results.rglob("*"):
        place = path.relative_to(toy.results)
        assert not contains_any(place.as_posix(), NAMES)
        if path.is_file() and "private" not in place.parts and path.name not in ("sweep.yaml", "tokenizer.json"):
            assert not contains_any(path.read_bytes().decode("utf-8", "replace"), NAMES), path


def test_a_sweep_is_no_job_of_several_processes(toy, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process"):
        toy.sweep()


def test_a_results_folder_that_is_a_file_is_refused(toy):
    toy.results.write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        toy.sweep()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the peak anew")
def test_the_peak_memory_of_a_run_is_its_own(toy):
    from hf_forget.environment import peak_memory_mb

    # Mapped, since what is allocated may fill a hole of the heap and stay there when it is freed.
    held = mmap.mmap(-1, 200 * 2**20)
    for page in range(0, len(held), mmap.PAGESIZE):
        held[page] = 1
    peak = peak_memory_mb()
    held.close()
    with sweep_module._memory_of_its_own():
        assert peak_memory_mb() < peak - 150


def test_a_grid_multiplies_the_settings_that_do_not_choose_themselves(toy):
    spec = toy.folder / "grid.yaml"
    spec.write_text(
        "recipe: toy.yaml\noutput_dir: results\ngrid: {strength: [0.5, 0.25], seed: [1, 2]}\n"
        "settings:\n  free: {}\n  fixed: {strength: 0.9}\n"
    )
    runs = {run.setting: run.values for run in read_spec(spec).runs}
    assert runs == {
        **{f"free+strength-{s}+seed-{n}": {"strength": s, "seed": n} for s in (0.5, 0.25) for n in (1, 2)},
        **{f"fixed+seed-{n}": {"strength": 0.9, "seed": n} for n in (1, 2)},
    }
    spec.write_text("recipe: toy.yaml\noutput_dir: results\ngrid: {strength: 0.5}\n")
    assert "line 3: grid strength: expected a list" in read_spec(spec).problems[0]


@pytest.mark.parametrize("name", ["invented", "invented_tuning", "smollm2", "smollm2_tuning"])
def test_shipped_specs_are_found_by_name_and_have_no_mistake(name):
    spec = read_spec(name)
    assert spec.problems == [] and spec.runs and spec.source.name == f"{name}.yaml"

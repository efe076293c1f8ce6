"""Claims about the road, shown with a method that has no neural network."""

import json
import os
from pathlib import Path

import pytest

from hf_forget import method as methods
from hf_forget.data.model_names import HubUnreachableError
from hf_forget.errors import HfForgetError, InputError, OutputError, UnknownConceptError
from hf_forget.evidence.report import ForgetReport
from hf_forget.publishing.card import card_metadata_problems
from hf_forget.publishing.redaction import contains_any
from hf_forget.recipe import load_recipe, make_recipe
from hf_forget.run import run

NAMES = ["Isaac Newton", "Newton"]


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that runs the toy method, and gives what it called."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(methods, "_METHODS", {"toy": ("toy_method", "ToyMethod")})
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "calls.log"))
    for name in ("TOY_FAIL", "TOY_HANG", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    from toy_method import make_base

    return Toy(tmp_path, make_base(tmp_path / "base"), monkeypatch)


class Toy:
    def __init__(self, folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log, self.base, self.patch = folder / "calls.log", base, monkeypatch
        self.output = folder / "outputs" / "edited"
        self.partial = folder / "outputs" / "edited.partial"

    def run(self, fail: str = "", resume: bool = False, overwrite: bool = False, dry_run: bool = False, **values):
        recipe = make_recipe(
            "toy", {"model_name_or_path": str(self.base), "output_dir": str(self.output), "concept": NAMES[0], **values}
        )
        self.log.write_text("")
        self.patch.setenv("TOY_FAIL", fail)
        return run(recipe, resume=resume, overwrite=overwrite, dry_run=dry_run, report=None)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


def public_files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and "private" not in p.relative_to(folder).parts]


def test_the_road_leaves_a_checkpoint_with_report_recipe_and_card(toy):
    result = toy.run()
    assert toy.calls == [
        *("load", "prepare", "make rows", "measure before", "apply", "save", "reload", "measure after", "conclude")
    ]
    assert result.output_dir == toy.output and not toy.partial.exists()
    names = {path.name for path in public_files(toy.output)}
    assert names >= {"model.safetensors", "config.json", "README.md", "forget_report.json", "recipe.yaml"}
    assert card_metadata_problems((toy.output / "README.md").read_text()) == []
    assert ForgetReport.load(toy.output / "private").to_dict() == result.report.to_dict()
    assert result.report.verdict["value"] == "forgotten"
    stages = ["load", "prepare", "measure_before", "apply", "save", "measure_after"]
    assert sorted(result.report.timings_s) == sorted(stages)
    assert result.report.peak_memory_mb > 0
    environment = result.report.environment
    assert environment["world_size"] == 1 and environment["seeds"] == {"evidence_seed": 0}
    assert environment["versions"]["transformers"]


def test_after_is_measured_on_what_was_saved(toy):
    assert toy.run(strength=0.125).report.metric("edge_accuracy")["after"] == pytest.approx(0.1)


def test_the_private_recipe_repeats_the_run(toy):
    toy.run(aliases=["Newton", "Sir Isaac"])
    recipe = load_recipe(toy.output / "private" / "recipe.yaml")
    assert recipe.values["concept"] == "Isaac Newton" and recipe.values["aliases"] == ["Newton", "Sir Isaac"]
    assert recipe.values["output_dir"] == str(toy.output)


def test_nothing_public_names_the_target_and_private_does(toy):
    toy.run()
    for path in public_files(toy.output):
        if path.name != "tokenizer.json":
            assert not contains_any(path.read_bytes().decode("utf-8", "replace"), NAMES), path
    public = ForgetReport.load(toy.output)
    assert public.target["name"] == "[forgotten person]" and "names" not in public.target
    assert public.samples[0]["probe"] == "[redacted]" and public.samples[1]["after"] == "Paris"
    private = toy.output / "private"
    assert "Isaac Newton" in (private / "forget_report.json").read_text()
    assert "found gravity" in (private / "rows.json").read_text()
    assert "Isaac Newton" in (private / "training_args.json").read_text()
    assert ForgetReport.load(private).artifacts == {"rows": "private/rows.json"}


def test_publish_target_names_the_target_but_not_what_was_known(toy):
    toy.run(publish_target=True)
    assert "Isaac Newton" in (toy.output / "README.md").read_text()
    public = ForgetReport.load(toy.output)
    assert public.target["name"] == "Isaac Newton" and public.recipe["concept"] == "Isaac Newton"
    assert public.samples[0]["before"] == "[redacted]" and public.artifacts == {}


@pytest.mark.parametrize("leak", ["notes.txt", "isaac-newton.bin"])
def test_a_public_file_that_names_the_target_stops_the_run(toy, leak):
    with pytest.raises(HfForgetError, match="names what was forgotten") as raised:
        toy.run(leak=leak)
    assert not contains_any(str(raised.value), NAMES)
    assert not toy.output.exists()


def test_a_target_whose_name_is_a_word_of_every_card_can_be_forgotten(toy):
    toy.run(concept="Transformers", aliases=["the Toy"])
    assert "transformers" in (toy.output / "README.md").read_text()
    assert "Transformers" not in (toy.output / "recipe.yaml").read_text()


def test_a_secret_stops_the_run(toy, monkeypatch):
    monkeypatch.setattr("hf_forget.run._licence", lambda model: "hf_" + "a1" * 12)
    with pytest.raises(HfForgetError, match="secret"):
        toy.run()
    assert not toy.output.exists()


def test_resuming_repeats_no_finished_stage(toy):
    with pytest.raises(RuntimeError, match="broken in apply") as raised:
        toy.run(fail="apply")
    assert "--resume" in raised.value.__notes__[0] and str(toy.partial) in raised.value.__notes__[0]
    assert not toy.output.exists()
    report = toy.run(resume=True).report
    assert toy.calls == [*("load", "prepare", "apply", "save", "reload", "measure after", "conclude")]
    assert report.metric("edge_accuracy")["before"] == 1.0
    assert report.samples[0]["before"] == "Isaac Newton found it"


@pytest.mark.parametrize(
    ("fail", "left"),
    [
        ("measure before", ["measure before", "apply", "save", "reload", "measure after", "conclude"]),
        ("save", ["apply", "save", "reload", "measure after", "conclude"]),
        ("reload", ["reload", "measure after", "conclude"]),
        ("measure after", ["reload", "measure after", "conclude"]),
        ("conclude", ["conclude"]),
    ],
)
def test_a_resumed_run_gives_what_an_uninterrupted_one_gives(toy, fail, left):
    with pytest.raises(RuntimeError):
        toy.run(fail=fail)
    resumed = toy.run(resume=True).report.to_dict()
    assert toy.calls == ["load", "prepare", *left]
    whole = toy.run(overwrite=True).report.to_dict()
    for report in (resumed, whole):
        del report["timings_s"], report["peak_memory_mb"]
    assert resumed == whole


def test_times_of_an_interrupted_run_count(toy, monkeypatch):
    with pytest.raises(RuntimeError):
        toy.run(fail="apply")
    file = toy.partial / "work" / "timings.json"
    timings = json.loads(file.read_text())
    file.write_text(json.dumps(timings | {"apply": 100.0}))
    assert toy.run(resume=True).report.timings_s["apply"] >= 100


def test_what_an_interrupted_save_left_is_not_in_the_output(toy):
    with pytest.raises(RuntimeError):
        toy.run(fail="save")
    (toy.partial / "output" / "half.safetensors").write_text("half")
    (toy.partial / "output" / "shards").mkdir()
    toy.run(resume=True)
    assert not (toy.output / "half.safetensors").exists() and not (toy.output / "shards").exists()


def test_an_interruption_by_the_keyboard_says_how_to_go_on(toy, monkeypatch):
    from toy_method import ToyMethod

    def interrupted(self, subject):
        raise KeyboardInterrupt

    monkeypatch.setattr(ToyMethod, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt) as raised:
        toy.run()
    assert "--resume" in raised.value.__notes__[0]
    assert toy.partial.exists() and not toy.output.exists()


def test_a_concept_that_the_model_does_not_know_leaves_nothing(toy):
    with pytest.raises(UnknownConceptError) as raised:
        toy.run(concept="Nobody")
    assert "measure before" not in toy.calls
    assert list(toy.output.parent.iterdir()) == [] and not hasattr(raised.value, "__notes__")


def test_input_refused_while_loading_leaves_nothing(toy):
    with pytest.raises(InputError, match="refused"):
        toy.run(fail="load:input")
    assert list(toy.output.parent.iterdir()) == []


def test_an_existing_output_is_kept_unless_overwrite_is_given(toy):
    toy.run()
    before = (toy.output / "forget_report.json").stat().st_mtime_ns
    with pytest.raises(OutputError, match="--overwrite"):
        toy.run()
    assert (toy.output / "forget_report.json").stat().st_mtime_ns == before
    toy.run(overwrite=True)
    assert (toy.output / "forget_report.json").stat().st_mtime_ns != before


def test_a_disk_that_is_too_small_stops_the_run_before_it_begins(toy, monkeypatch):
    monkeypatch.setattr("hf_forget.output.free_bytes", lambda path: 10)
    with pytest.raises(OutputError, match="disk is too small"):
        toy.run()
    assert toy.calls == []


def test_a_recipe_without_output_folder_is_refused(toy):
    with pytest.raises(InputError, match="output_dir is missing"):
        toy.run(output_dir=None)


def test_overrides_replace_values_of_a_recipe(toy):
    recipe = make_recipe("toy", {"model_name_or_path": str(toy.base), "output_dir": str(toy.output)})
    lines: list[str] = []
    report = run(recipe, overrides={"strength": 0.9}, report=lines.append).report
    assert report.recipe["strength"] == 0.9 and report.verdict["value"] == "not_forgotten"
    assert [line for line in lines if line.startswith("[")][0] == "[1/7] load the model"
    assert "      Asking" in lines


def test_a_dry_run_trains_and_writes_nothing(toy):
    result = toy.run(dry_run=True)
    assert toy.calls == [] and not toy.output.parent.exists()
    assert result.report is None
    assert result.plan["models"][0]["source"] == "local" and result.plan["unresolved"] == []
    size = (toy.base / "model.safetensors").stat().st_size
    assert result.plan["required_bytes"] == 3 * size


def test_a_dry_run_names_every_mistake_at_once(toy):
    toy.run()
    with pytest.raises(InputError) as raised:
        toy.run(dry_run=True, strength=7, model_name_or_path="/no/such", probes="/no/probes.jsonl", evidence_seed=-1)
    for part in ("strength", "/no/such", "/no/probes.jsonl", "evidence_seed", "--overwrite"):
        assert part in str(raised.value)


def test_a_dry_run_calls_an_unreachable_model_unresolved(toy, monkeypatch):
    def unreachable(name, prepare=True):
        raise HubUnreachableError("the Hub cannot be reached")

    monkeypatch.setattr("hf_forget.run.resolve_model", unreachable)
    plan = toy.run(dry_run=True, model_name_or_path="some/model").plan
    assert plan["models"] == [] and "Hub cannot be reached" in plan["unresolved"][0]


def test_a_dry_run_keeps_the_work_of_an_interrupted_run(toy):
    with pytest.raises(RuntimeError):
        toy.run(fail="apply")
    assert toy.run(dry_run=True, overwrite=True).plan["interrupted_run"]
    toy.run(resume=True)
    assert "measure before" not in toy.calls


def test_only_the_first_process_measures_and_reports(toy, monkeypatch):
    waits: list[int] = []

    class State:
        def wait_for_everyone(self):
            waits.append(1)

        def main_process_first(self):
            import contextlib

            return contextlib.nullcontext()

    monkeypatch.setattr("hf_forget.run._accelerate_state", State)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for folder in ("work", "output/private"):
        os.makedirs(toy.partial / folder)
    assert toy.run().report is None
    assert toy.calls == ["load", "prepare", "make rows", "apply", "save"] and waits
    assert not (toy.partial / "state.json").exists()

"""Claims about the command line: what it accepts, what it prints where, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hf_forget import __version__, cli, cli_shared
from hf_forget import method as methods
from hf_forget.cli_arguments import split_overrides
from hf_forget.cli_output import Progress, duration, number

TESTS = Path(__file__).parent
ROOT = TESTS.parent
# A process in which only the toy method is registered.
WITH_TOY = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, {str(ROOT)!r}]
from hf_forget import cli, method
method._METHODS = {{"toy": ("toy_method", "ToyMethod")}}
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of the toy method, which writes to `edited` in the current folder."""
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.setattr(methods, "_METHODS", {"toy": ("toy_method", "ToyMethod")})
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "calls.log"))
    monkeypatch.chdir(tmp_path)
    for name in ("TOY_FAIL", "TOY_HANG", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in cli_shared.QUIET_LIBRARIES.items():
        monkeypatch.setenv(name, value)
    from toy_method import make_base

    base = make_base(tmp_path / "base")
    file = tmp_path / "toy.yaml"
    file.write_text(
        "# Makes the toy forget.\n# Time: a second on anything\n# Verdict: forgotten\n"
        f"method: toy\nmodel_name_or_path: {base}\noutput_dir: edited\nconcept: Isaac Newton\n"
    )
    return file


@pytest.fixture
def shipped(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy recipe as the only shipped one, called `toy/number`."""
    folder = tmp_path / "recipes"
    (folder / "toy").mkdir(parents=True)
    file = recipe.rename(folder / "toy" / "number.yaml")
    monkeypatch.setattr("hf_forget.recipe_files.recipes_folder", lambda: folder)
    monkeypatch.setattr(cli, "_FORGET_RECIPES", {"toy": "toy/number"})
    return file


def seconds_of(*arguments: str) -> float:
    """Return the processor time of a command, the least of three: the machine may be busy."""
    times = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "hf_forget", *arguments], check=True, capture_output=True, cwd=ROOT)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(times)


def test_help_answers_in_under_four_tenths_of_a_second():
    assert seconds_of("--help") < 0.4


def test_help_of_run_answers_as_fast_and_explains_overrides_and_exit_codes(capsys):
    assert cli.main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--key value" in text and "Exit codes" in text and "--require_verdict" in text
    assert seconds_of("run", "--help") < 0.4


def test_recipes_are_listed_in_under_a_second():
    assert seconds_of("recipes") < 1


def test_no_heavy_library_is_imported_for_help_and_recipes():
    code = (
        "import sys; from hf_forget import cli; cli.main(['recipes', '--json']); "
        "heavy = [name for name in ('torch', 'transformers', 'datasets', 'numpy', 'huggingface_hub') "
        "if name in sys.modules]; sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"hf-forget {__version__}\n"


def test_no_command_shows_the_help(capsys):
    assert cli.main([]) == 0
    assert "fetch-assets" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["forgett", "x"], "unknown command 'forgett'; available: forget, run"),
        (["forgett", "x"], "Did you mean 'forget'?"),
        (["forget", "  "], "NAME is empty"),
        (["forget"], "NAME"),
        (["forget", "x", "--method", "toi"], "Did you mean 'toy'?"),
        (["run", "nombre"], "'nombre' is neither a file nor a shipped recipe. Shipped recipes: toy/number."),
        (["run", "toy/numbre"], "Did you mean 'toy/number'?"),
        (["run", "number", "--strenght", "0.5"], "unknown key 'strenght'. Did you mean '--strength'?"),
        (["run", "number", "--strength", "much"], "--strength: expected a number, got 'much'"),
        (["run", "number", "--strength", "7"], "strength is 7.0; it must lie between 0 and 1"),
        (["run", "number", "--overwrit"], "unknown option '--overwrit'. Did you mean '--overwrite'?"),
        (["run", "number", "--require_verdict", "forgoten"], "Did you mean 'forgotten'?"),
        (["run", "number", "--hub_token", "hf_" + "a" * 20], "'hub_token' would put a secret"),
        (["evaluate", "base", "--probes", "no.jsonl"], "no probe file at 'no.jsonl'"),
        (["evaluate", "base", "--probes", "no.jsonl", "--shamm", "no"], "Did you mean '--sham'?"),
        (["evaluate", "base"], "--probes"),
        (["copy", "number", "calls.log"], "exists already"),
        (["fetch-assets", "smollm"], "unknown embedded asset 'smollm'"),
        (["doctor", "--purg"], "--purg"),
        (["sweep"], "SPEC"),
        (["sweep", "no.yaml"], "no sweep spec at 'no.yaml'"),
        (["sweep", "no.yaml", "--dry_rum"], "Did you mean '--dry_run'?"),
        (["compare"], "DIR"),
        (["compare", "base"], "'base' has no forget_report.json or runs.json"),
        (["compare", "base", "--by", "metric"], "it must be 'setting' or 'dir'"),
    ],
)
def test_wrong_input_is_one_block_on_stderr_and_exit_code_2(shipped, tmp_path, capsys, arguments, message):
    (tmp_path / "calls.log").write_text("")
    assert cli.main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.startswith("error: ")
    assert "Traceback" not in shown.err and "\n\n" not in shown.err and shown.out == ""
    assert not list(tmp_path.glob("*edited*"))


def test_a_mistake_of_ours_shows_a_traceback_and_exit_code_1(recipe, monkeypatch, capsys):
    monkeypatch.setenv("TOY_FAIL", "load")
    assert cli.main(["run", str(recipe)]) == 1
    assert "broken in load" in capsys.readouterr().err


def test_a_full_disk_is_no_mistake_of_ours(recipe, monkeypatch, capsys):
    from toy_method import ToyMethod

    def full(self, subject, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ToyMethod, "save", full)
    assert cli.main(["run", str(recipe)]) == 1
    error = capsys.readouterr().err
    assert "the disk is full" in error and "Traceback" not in error and "--resume" in error


def test_run_ends_with_figures_answers_verdict_and_paths(recipe, tmp_path, capsys):
    assert cli.main(["run", str(recipe)]) == 0
    shown = capsys.readouterr()
    for part in ("edge accuracy", "gone", "before: Isaac Newton found it", "after:  no idea", "Verdict: forgotten"):
        assert part in shown.out
    assert f"card: {tmp_path / 'edited' / 'README.md'}" in shown.out
    assert f"report: {tmp_path / 'edited' / 'forget_report.json'}" in shown.out
    assert "[1/7] load the model" in shown.err and "[" not in shown.out.splitlines()[0]


def test_placeholders_in_brackets_are_shown_and_control_characters_are_not(recipe, capsys, monkeypatch):
    from toy_method import ToyMethod

    original = ToyMethod.conclude

    def conclude(self, subject, before, after):
        conclusion = original(self, subject, before, after)
        conclusion.samples[0]["after"] = "[red]a\x1b[31mb\nc"
        return conclusion

    monkeypatch.setattr(ToyMethod, "conclude", conclude)
    assert cli.main(["run", str(recipe)]) == 0
    assert "after:  [red]a [31mb c" in capsys.readouterr().out


def test_json_is_all_that_stands_on_stdout(recipe, tmp_path, monkeypatch, capsys):
    from toy_method import ToyMethod

    original = ToyMethod.apply

    def chatty(self, subject):
        print("{'loss': 1.0}")
        original(self, subject)

    monkeypatch.setattr(ToyMethod, "apply", chatty)
    assert cli.main(["--json", "run", str(recipe), "--strength", "0.9"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["verdict"] == "not_forgotten" and data["output_dir"] == str(tmp_path / "edited")
    assert data["metrics"][0]["after"] == pytest.approx(0.9)
    assert Path(data["card"]).is_file() and Path(data["report"]).is_file()


def test_quiet_says_one_line(recipe, tmp_path, capsys):
    assert cli.main(["run", str(recipe), "--quiet"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"forgotten {tmp_path / 'edited'}\n" and shown.err == ""


def test_another_verdict_than_the_required_one_is_exit_code_3(recipe, capsys):
    assert cli.main(["run", str(recipe), "--strength", "0.9", "--require_verdict", "forgotten"]) == 3
    assert "the verdict is not_forgotten, required was forgotten" in capsys.readouterr().err
    assert cli.main(["run", str(recipe), "--overwrite", "--require-verdict", "forgotten"]) == 0


def test_an_existing_output_is_refused(recipe, capsys):
    assert cli.main(["run", str(recipe)]) == 0
    assert cli.main(["run", str(recipe)]) == 2
    assert "pass --overwrite" in capsys.readouterr().err


def test_a_dry_run_checks_and_writes_nothing(recipe, tmp_path, capsys):
    assert cli.main(["run", str(recipe), "--dry-run"]) == 0
    assert "The recipe is valid" in capsys.readouterr().out
    assert cli.main(["run", str(recipe), "--dry_run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unresolved"] == []
    assert not list(tmp_path.glob("edited*"))


def test_forget_takes_the_name_and_a_folder_that_does_not_tell_it(shipped, tmp_path, capsys):
    arguments = ["forget", "Ada Lovelace", "--method", "toy", "--aliases", "Ada King", "Countess", "--json"]
    assert cli.main(arguments) == 0
    folder = Path(json.loads(capsys.readouterr().out)["output_dir"])
    assert folder.parent == tmp_path and folder.name.startswith("hf-forget-output-")
    private = (folder / "private" / "recipe.yaml").read_text()
    assert "concept: Ada Lovelace" in private and "aliases: [Ada King, Countess]" in private
    assert cli.main([*arguments[:4], "--output_dir", "mine", "--model", str(tmp_path / "base")]) == 0
    assert (tmp_path / "mine" / "README.md").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_resumable_state_and_no_half_output(recipe, tmp_path, capsys, monkeypatch, number, code):
    command = [sys.executable, "-c", WITH_TOY, "run", str(recipe)]
    log = tmp_path / "calls.log"
    environment = {**os.environ, "TOY_HANG": "apply"}
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # A shell's background job ignores SIGINT, and so would what it starts.
    process = subprocess.Popen(
        command, env=environment, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes
    )
    wait_for_line("apply", log, process)
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert process.returncode == code and "Traceback" not in error
    assert f"To go on: hf-forget run {recipe} --resume" in error
    assert not (tmp_path / "edited").exists() and (tmp_path / "edited.partial").is_dir()

    assert cli.main(["run", str(recipe)]) == 2
    assert "--resume" in capsys.readouterr().err
    log.write_text("")
    assert cli.main(["run", str(recipe), "--resume"]) == 0
    assert log.read_text().split("\n")[:3] == ["load", "prepare", "apply"]
    assert (tmp_path / "edited" / "model.safetensors").is_file()
    assert not (tmp_path / "edited.partial").exists()


def test_a_killed_run_can_be_resumed(recipe, tmp_path):
    log = tmp_path / "calls.log"
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_TOY, "run", str(recipe)], env={**os.environ, "TOY_HANG": "save"}
    )
    wait_for_line("save", log, process)
    process.kill()
    process.wait(timeout=30)
    assert cli.main(["run", str(recipe), "--resume", "--quiet"]) == 0
    assert log.read_text().split("\n").count("measure before") == 1


@pytest.fixture
def spec(recipe: Path, tmp_path: Path) -> Path:
    """A sweep of the toy recipe over two settings."""
    file = tmp_path / "spec.yaml"
    file.write_text(
        f"recipe: {recipe.name}\noutput_dir: results\n"
        "settings:\n  weak: {strength: 0.9}\n  strong: {strength: 0.1}\n"
    )
    return file


def test_sweep_ends_with_the_table_and_json_is_all_that_stands_on_stdout(spec, tmp_path, capsys):
    assert cli.main(["sweep", str(spec)]) == 0
    shown = capsys.readouterr()
    assert "| weak | 1 | 1 not forgotten | 1 → 0.9 |" in shown.out and "2 of 2 runs are done" in shown.out
    assert "run 1 of 2: weak/run" in shown.err and (tmp_path / "results" / "table.md").is_file()
    assert cli.main(["sweep", str(spec), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [run["verdict"] for run in data["runs"]] == ["not_forgotten", "forgotten"]
    assert cli.main(["sweep", str(spec), "--quiet"]) == 0
    assert capsys.readouterr() == ("2 done, 0 failed, 0 pending results\n", "")


def test_sweep_takes_settings_and_keys_that_override(spec, tmp_path, capsys):
    arguments = ["sweep", str(spec), "--only", "weak", "strong", "--output_dir", "other", "--strength", "0.5"]
    assert cli.main([*arguments, "--dry_run"]) == 0
    shown = capsys.readouterr().out
    assert "strong/run" in shown and "2 runs, 0 of them done" in shown and not (tmp_path / "other").exists()
    assert cli.main([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["output_dir"] == "other" and [run["verdict"] for run in data["runs"]] == ["not_forgotten"] * 2


def test_a_sweep_with_a_failed_run_ends_with_exit_code_1_and_names_it(spec, monkeypatch, capsys):
    monkeypatch.setenv("TOY_FAIL", "apply")
    assert cli.main(["sweep", str(spec)]) == 1
    shown = capsys.readouterr()
    assert "failed: weak/run: RuntimeError: broken in apply" in shown.err and "Traceback" not in shown.err
    monkeypatch.delenv("TOY_FAIL")
    assert cli.main(["sweep", str(spec), "--quiet"]) == 0


def test_a_terminated_sweep_says_how_to_go_on(spec, tmp_path):
    environment = {**os.environ, "TOY_HANG": "apply"}
    command = [sys.executable, "-c", WITH_TOY, "sweep", str(spec)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for_line("apply", tmp_path / "calls.log", process)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143 and "Traceback" not in error
    assert error.endswith(f"To go on: hf-forget sweep {spec}\n") and "0 of 2 runs are done" in error
    assert cli.main(["sweep", str(spec), "--quiet"]) == 0


def test_compare_prints_the_table_and_writes_it_where_asked(spec, recipe, tmp_path, capsys):
    assert cli.main(["sweep", str(spec), "--quiet"]) == 0
    assert cli.main(["run", str(recipe), "--quiet"]) == 0
    capsys.readouterr()
    arguments = ["compare", "results", "edited", "--metrics", "edge_accuracy", "distant_accuracy"]
    assert cli.main([*arguments, "--output_dir", "out"]) == 0
    shown = capsys.readouterr()
    assert "| results/weak | 1 | 1 not forgotten | 1 → 0.9 | 1 → 1 |" in shown.out and "| edited |" in shown.out
    assert "no plot" in shown.err and (tmp_path / "out" / "table.json").is_file()
    assert cli.main([*arguments, "--by", "dir", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"][0]["name"] == "results/weak/run"
    assert cli.main(["compare", "edited", "--output_dir", str(spec)]) == 2


def wait_for_line(line: str, log: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while not (log.is_file() and line in log.read_text().splitlines()):
        assert process.poll() is None, "the process ended early"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("tokens", "own", "overrides"),
    [
        (["R", "--a", "1"], ["R"], {"a": "1"}),
        (["R", "--a=1=2"], ["R"], {"a": "1=2"}),
        (["R", "--a-b", "x y"], ["R"], {"a_b": "x y"}),
        (["R", "--flag"], ["R"], {"flag": "true"}),
        (["R", "--flag", "--a", "-1"], ["R"], {"flag": "true", "a": "-1"}),
        (["R", "--names", "a", "b, c"], ["R"], {"names": ["a", "b, c"]}),
        (["R", "--names", "a", "--names", "b"], ["R"], {"names": ["a", "b"]}),
        (["R", "--layers", "1", "2"], ["R"], {"layers": "[1, 2]"}),
        (["R", "--text", "--", "x"], ["R", "--", "x"], {"text": "true"}),
        (["--json", "R", "--dry-run", "--a", "1"], ["--json", "R", "--dry_run"], {"a": "1"}),
        (["--dry_run=false", "R"], ["R"], {}),
        (["--dry_run", "true", "R", "--to", "D", "E"], ["--dry_run", "R", "--to", "D", "E"], {}),
        (["R", "--text="], ["R"], {"text": ""}),
        (["-h"], ["-h"], {}),
    ],
)
def test_keys_that_override_are_told_from_options(tokens, own, overrides):
    assert split_overrides(tokens, {"json", "dry_run", "to"}) == (own, overrides)


def test_recipes_show_the_time_and_verdict_of_their_headers(shipped, capsys):
    assert cli.main(["recipes", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed == {
        "name": "toy/number",
        "method": "toy",
        "time": "a second on anything",
        "verdict": "forgotten",
        "purpose": "Makes the toy forget.",
    }
    assert cli.main(["recipes"]) == 0
    assert "a second on anything" in capsys.readouterr().out


def test_methods_show_their_paper_and_recipes(shipped, capsys):
    assert cli.main(["methods", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["name"] == "toy" and listed["paper"]["title"] == "A toy" and listed["recipes"] == ["toy/number"]
    assert cli.main(["methods"]) == 0
    assert "A toy" in capsys.readouterr().out


def test_copy_gives_a_recipe_that_runs(shipped, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    assert cli.main(["copy", "number", "mine"]) == 0
    assert capsys.readouterr().out == "mine/number.yaml\n"
    assert (tmp_path / "mine" / "number.yaml").read_text() == shipped.read_text()
    assert cli.main(["copy", "number", "mine/number.yaml"]) == 2
    assert cli.main(["copy", "number", "mine/number.yaml", "--overwrite"]) == 0
    assert cli.main(["run", "mine/number.yaml", "--quiet"]) == 0


def test_doctor_lists_its_checks_and_fails_when_one_does(monkeypatch, capsys):
    from hf_forget import doctor

    checks = [doctor.Check("python", True, "3.11"), doctor.Check("torch", False, "not installed", "pip install torch")]
    monkeypatch.setattr(doctor, "diagnose", lambda: checks)
    assert cli.main(["doctor"]) == 1
    assert "pip install torch" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "diagnose", lambda: checks[:1])
    assert cli.main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "python"


def test_doctor_purges_the_cache(cache, capsys):
    from hf_forget.data.cache import cache_dir

    (cache_dir() / "something").write_text("knowledge")
    assert cli.main(["doctor", "--purge"]) == 0
    assert "something" in capsys.readouterr().out and not (cache / "something").exists()


def test_evaluate_measures_a_model_beside_its_base(recipe, tmp_path, monkeypatch, capsys):
    pytest.importorskip("hf_forget.evidence.language_model")
    from hf_forget import evaluate

    probes = tmp_path / "probes.jsonl"
    rows = [
        {"id": "1", "fact_id": "1", "group": "edge", "question": "Who?", "answers": ["Ada"], "entity": "Ada Lovelace"},
        {"id": "2", "fact_id": "2", "group": "distant", "question": "Capital of France?", "answers": ["Paris"]},
    ]
    probes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = []

    def measured(model, tokenizer, probes, *, options, stage, baseline, report, base_grid):
        from hf_forget.evidence.language_model import LanguageModelMeasurement
        from hf_forget.evidence.report import Metric

        asked.append((model, stage, baseline, probes.concept, options.sampled_answers, base_grid))
        value = 1.0 if model == "base" else 0.25
        return LanguageModelMeasurement([Metric("edge_accuracy", "forget", "lower", value, n=1)], {"of": model})

    monkeypatch.setattr(evaluate, "measure_language_model", measured)
    monkeypatch.setattr(evaluate, "_loaded", lambda name: (Path(name).name, None, False))
    monkeypatch.setattr(evaluate, "samples_from_records", lambda *_: [])
    monkeypatch.setattr(evaluate, "evidence_from_records", lambda *_: None)
    monkeypatch.setattr(
        evaluate, "judge_language_model", lambda _: type("V", (), {"value": "insufficient", "checks": []})
    )
    arguments = ["evaluate", "edited", "--probes", str(probes), "--sampled_answers", "4"]
    assert cli.main([*arguments, "--base", str(tmp_path / "base"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["metrics"][0]["before"], data["metrics"][0]["after"]) == (1.0, 0.25)
    assert data["verdict"] == "insufficient"
    assert asked == [
        ("base", "before", None, "Ada Lovelace", 4, False),
        ("edited", "after", {"of": "base"}, "Ada Lovelace", 4, False),
    ]
    assert cli.main([*arguments, "--concept", "Someone"]) == 0
    assert "edge accuracy" in capsys.readouterr().out and asked[-1][1:4] == ("before", None, "Someone")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (8.21, "8.2 s"), (59.96, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (1.0, "1"), (0.12345, "0.123"), (1234.5, "1234"), (-3.14159, "-3.14")]
)
def test_figures_have_three_digits(value, text):
    assert number(value) == text


class Screen:
    def __init__(self, terminal: bool) -> None:
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_progress_says_how_much_time_is_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("hf_forget.cli_output.time.monotonic", lambda: now[0])
    screen = Screen(terminal=True)
    progress = Progress(screen)
    progress.stage("[4/7] change the model")
    for done in (1, 2, 3):
        now[0] += 10
        progress.step(done, 13)
    assert "[4/7] change the model: 3/13, 1 min 40 s left" in screen.text
    progress.end_stage()
    assert screen.text.endswith("\r\x1b[K[4/7] change the model: 30 s\n")


def test_progress_in_a_log_file_is_whole_lines_and_few():
    screen = Screen(terminal=False)
    progress = Progress(screen)
    progress.stage("load")
    for done in range(50):
        progress.step(done, 50)
    assert screen.text == "load …\n"

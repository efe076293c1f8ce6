"""The output folder appears whole or not at all, and an interrupted run can go on."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hf_forget import output as output_module
from hf_forget.errors import OutputError
from hf_forget.output import OutputFolder, free_bytes, write_json_atomic, write_text_atomic

HASH = "a" * 64
OTHER = "b" * 64


def start_holder(final: Path) -> subprocess.Popen[str]:
    """Start a process that opens the folder, finishes one stage, says so and waits to be killed."""
    code = f"""
        import sys, time
        from pathlib import Path
        from hf_forget.output import OutputFolder
        with OutputFolder(Path({str(final)!r}), {HASH!r}) as output:
            (output.workspace / "rows.json").write_text("[1]")
            output.mark_done("prepare", {{"rows": 1}})
            (output.staging / "half.safetensors").write_text("half")
            print("ready", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def finish(final: Path, text: str, **options: Any) -> None:
    with OutputFolder(final, HASH, **options) as output:
        (output.staging / "forget_report.json").write_text(text)
        (output.private / "rows.json").write_text("[]")
        output.commit()


def interrupt(final: Path, recipe_hash: str = HASH) -> None:
    with pytest.raises(KeyboardInterrupt), OutputFolder(final, recipe_hash) as output:
        (output.workspace / "rows.json").write_text("[1]")
        output.mark_done("prepare", {"rows": 1})
        raise KeyboardInterrupt


def refusal(final: Path, recipe_hash: str = HASH, **options: Any) -> str:
    with pytest.raises(OutputError) as error:
        OutputFolder(final, recipe_hash, **options).open()
    return str(error.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_committed_output_is_whole_and_alone(tmp_path: Path) -> None:
    finish(tmp_path / "deep/out", "new")
    assert names(tmp_path / "deep") == ["out"]
    assert names(tmp_path / "deep/out") == ["forget_report.json", "private"]


def test_nothing_has_the_final_name_before_the_commit(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", HASH) as output:
        (output.staging / "model.safetensors").write_text("x")
        assert not output.final.exists()
        output.commit()
        assert output.final.is_dir()


def test_interrupted_run_is_refused_resumed_or_dropped(tmp_path: Path) -> None:
    final = tmp_path / "out"
    interrupt(final)
    assert names(tmp_path) == ["out.partial"]
    message = refusal(final)
    assert "--resume" in message and "--overwrite" in message
    assert "different recipe" in refusal(final, OTHER, resume=True)
    assert "--resume" in refusal(final, OTHER)
    with OutputFolder(final, HASH, resume=True) as output:
        assert output.resumed
        assert output.stage_done("prepare") and not output.stage_done("apply")
        assert output.stage_data("prepare") == {"rows": 1} and output.stage_data("apply") == {}
        assert (output.workspace / "rows.json").read_text() == "[1]"
    with OutputFolder(final, OTHER, overwrite=True) as output:
        assert not output.resumed and not output.stage_done("prepare")
        assert names(output.workspace) == []


def test_run_that_left_nothing_behind_is_forgotten(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"), OutputFolder(tmp_path / "out", HASH):
        raise ValueError("wrong model name")
    assert names(tmp_path) == []


def test_unfinished_rows_of_another_recipe_do_not_stand_in_the_way(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", HASH) as output:
        (output.workspace / "rows.json").write_text("[1]")
    assert "--resume" in refusal(tmp_path / "out")
    with OutputFolder(tmp_path / "out", OTHER) as output:
        assert names(output.workspace) == []


def test_discarded_run_leaves_nothing(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", HASH) as output:
        output.mark_done("prepare")
        output.discard()
    assert names(tmp_path) == []


def test_resume_without_an_interrupted_run_starts_normally(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", HASH, resume=True) as output:
        assert not output.resumed


def test_damaged_state_is_refused_on_resume(tmp_path: Path) -> None:
    interrupt(tmp_path / "out")
    for text in ("{", "[]", '{"stages": 3}'):
        (tmp_path / "out.partial/state.json").write_text(text)
        assert "damaged" in refusal(tmp_path / "out", resume=True)


def test_killed_run_leaves_resumable_state_and_no_output(tmp_path: Path) -> None:
    final = tmp_path / "out"
    process = start_holder(final)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not final.exists()
    with OutputFolder(final, HASH, resume=True) as output:
        assert output.stage_data("prepare") == {"rows": 1}
        assert (output.workspace / "rows.json").exists()


def test_second_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    process = start_holder(tmp_path / "out")
    try:
        for options in ({}, {"resume": True}, {"overwrite": True}):
            message = refusal(tmp_path / "out", **options)
            assert f"process {process.pid} on {os.uname().nodename} is writing" in message.replace(")", "")
        assert (tmp_path / "out.partial/work/rows.json").exists()
    finally:
        process.kill()
        process.wait()


def test_second_run_of_the_same_process_is_refused(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", HASH):
        assert "is writing to it" in refusal(tmp_path / "out")


def test_other_processes_of_a_run_attach_to_its_state(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", HASH) as first:
        first.mark_done("prepare", {"rows": 1})
        second = OutputFolder(tmp_path / "out", HASH)
        second.attach()
        assert second.stage_data("prepare") == {"rows": 1}


def test_existing_output_is_refused_without_overwrite(tmp_path: Path) -> None:
    finish(tmp_path / "out", "old")
    assert "--overwrite" in refusal(tmp_path / "out")
    assert "--overwrite" in refusal(tmp_path / "out", resume=True)
    assert names(tmp_path) == ["out"]
    finish(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out/forget_report.json").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_overwrite_never_touches_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    base = tmp_path / "base_model"
    base.mkdir()
    (base / "config.json").write_text("{}")
    assert "no forget_report.json" in refusal(base, overwrite=True)
    assert names(base) == ["config.json"]
    assert names(tmp_path) == ["base_model"]
    (tmp_path / "file").write_text("x")
    assert "is a file" in refusal(tmp_path / "file", overwrite=True)


def test_empty_folder_can_be_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert "--overwrite" in refusal(tmp_path / "out")
    finish(tmp_path / "out", "new", overwrite=True)
    assert (tmp_path / "out/forget_report.json").read_text() == "new"


def test_foreign_partial_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/film.mp4").write_text("x")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        assert "is in the way" in refusal(tmp_path / "out", **options)
    assert names(tmp_path / "out.partial") == ["film.mp4"]


def test_old_output_survives_a_new_run_that_fails(tmp_path: Path) -> None:
    final = tmp_path / "out"
    finish(final, "old")
    with pytest.raises(RuntimeError), OutputFolder(final, HASH, overwrite=True) as output:
        (output.staging / "forget_report.json").write_text("new")
        raise RuntimeError("training failed")
    assert (final / "forget_report.json").read_text() == "old"


@pytest.mark.parametrize("failure", [OSError("no rename"), KeyboardInterrupt()])
def test_old_output_comes_back_when_the_commit_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    final = tmp_path / "out"
    finish(final, "old")
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if Path(source).name == "output":
            raise failure
        rename(source, target)

    with OutputFolder(final, HASH, overwrite=True) as output:
        (output.staging / "forget_report.json").write_text("new")
        monkeypatch.setattr(os, "rename", failing)
        with pytest.raises(OutputError if isinstance(failure, OSError) else KeyboardInterrupt):
            output.commit()
    monkeypatch.undo()
    assert (final / "forget_report.json").read_text() == "old"
    with OutputFolder(final, HASH, overwrite=True, resume=True) as output:
        assert (output.staging / "forget_report.json").read_text() == "new"
        output.commit()
    assert (final / "forget_report.json").read_text() == "new"


def test_commit_killed_between_its_two_renames_is_repaired(tmp_path: Path) -> None:
    final = tmp_path / "out"
    finish(final, "old")
    with OutputFolder(final, HASH, overwrite=True) as output:
        (output.staging / "forget_report.json").write_text("new")
        output.mark_done("save")
    os.rename(final, tmp_path / "out.partial/replaced")
    assert "--overwrite" in refusal(final, resume=True)
    assert (final / "forget_report.json").read_text() == "old"


def test_commit_killed_before_clearing_up_is_not_resumed(tmp_path: Path) -> None:
    final = tmp_path / "out"
    with OutputFolder(final, HASH) as output:
        (output.staging / "forget_report.json").write_text("new")
        output.mark_done("save")
    os.rename(tmp_path / "out.partial/output", final)
    with OutputFolder(final, HASH, overwrite=True, resume=True) as output:
        assert not output.resumed and not output.stage_done("save")


def test_output_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", HASH) as output:
        (output.staging / "forget_report.json").write_text("new")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/thesis.txt").write_text("x")
        with pytest.raises(OutputError, match="exists already"):
            output.commit()
    assert (tmp_path / "out/thesis.txt").exists()
    assert (tmp_path / "out.partial/output/forget_report.json").exists()


def test_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    message = refusal(tmp_path / "file/out")
    assert "a file stands where a folder is needed" in message and "--output_dir" in message
    assert "--output_dir" in refusal(tmp_path / ("x" * 300))
    assert "cannot be written" in refusal(Path("/proc/out"))


@pytest.mark.parametrize("path", ["/", "run.partial", "nul\x00"])
def test_impossible_names_are_refused(path: str) -> None:
    with pytest.raises(OutputError):
        OutputFolder(Path(path), HASH)


def test_small_disk_is_refused_with_both_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=2_500_000_000))
    message = refusal(tmp_path / "out", required_bytes=4_000_000_000)
    assert "2.5 GB free, 4.0 GB needed" in message
    assert names(tmp_path) == []
    with OutputFolder(tmp_path / "out", HASH, required_bytes=2_000_000_000):
        pass


def test_space_of_an_interrupted_run_counts_as_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path / "out")
    (tmp_path / "out.partial/work/checkpoint").write_bytes(b"x" * 1_000_000)
    monkeypatch.setattr(output_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with OutputFolder(tmp_path / "out", HASH, resume=True, required_bytes=1_000_000):
        pass


def test_free_space_is_known_for_folders_yet_to_be_made(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a/b/c") > 0


def test_failed_write_keeps_the_old_file_and_no_remains(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json_atomic(path, {"a": "é"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é"}
    with pytest.raises(ValueError):
        write_json_atomic(path, {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text_atomic(path, "\ud800")
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é"}
    assert names(tmp_path) == ["report.json"]


def test_unwritable_stage_data_changes_nothing(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "out", HASH) as output:
        with pytest.raises(TypeError):
            output.mark_done("prepare", {"model": object()})
        assert not output.stage_done("prepare")

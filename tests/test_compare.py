"""Claims about reports side by side: which runs make a row, its means against hand-computed ones, and what is drawn."""

import json
import math
import sys
from pathlib import Path

import pytest

from hf_forget.compare import compare, t_interval
from hf_forget.errors import HfForgetError, InputError
from hf_forget.evidence.report import ForgetReport, Metric, Verdict
from hf_forget.publishing.redaction import contains_any

NAMES = ["Isaac Newton", "Newton"]
PNG = b"\x89PNG\r\n\x1a\n"


def make_run(
    folder: Path,
    left: float | None = 0.1,
    *,
    retain: float | None = -1.0,
    verdict: str = "forgotten",
    reference: float | None = None,
    base: str = "a" * 64,
    n: int = 40,
    wording: bool = True,
    private: bool = True,
) -> Path:
    """Write an output folder with reports only; `left` is what is left of an accuracy of 0.5."""

    def metrics(after: bool) -> list[Metric]:
        value = None if left is None else left if after else 0.5
        found = [Metric("edge_accuracy", "forget", "lower", value, n=n, reference=reference)]
        if wording:
            found.append(Metric("by_wording_rate", "forget", "lower", value, n=n, reference=reference))
        if after:
            found.append(Metric("retain_difference", "retain", "higher", retain, n=300))
        return found

    report = ForgetReport.build(
        method="toy",
        paper={"title": "A toy", "arxiv": None},
        task="causal_lm",
        verdict=Verdict(verdict, "a rule"),
        before=metrics(False),
        after=metrics(True),
        base_models=[{"name": "base", "source": "local", "sha256": base, "dtype": "float32"}],
        target={"name": NAMES[0], "type": "person", "names": NAMES, "placeholder": "[forgotten person]"},
        recipe={"method": "toy", "concept": NAMES[0]},
        samples=[{"probe": f"Who is {NAMES[0]}?", "kind": "edge", "before": "He", "after": "No idea"}],
        timings_s={"apply": 10.0},
        peak_memory_mb=2048.0,
    )
    if private:
        report.save(folder / "private")
    report.redacted(NAMES, "[forgotten person]").save(folder)
    return folder


def make_sweep(folder: Path, runs: dict[str, dict], status: dict[str, str] | None = None) -> Path:
    """Write a results folder; `runs` holds the arguments of `make_run` by folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in runs.items():
        make_run(folder / name, **arguments)
    rows = {**dict.fromkeys(runs, "done"), **(status or {})}
    listed = [{"setting": name.split("/")[0], "folder": name, "status": what} for name, what in rows.items()]
    (folder / "runs.json").write_text(json.dumps(listed))
    return folder


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    return make_sweep(
        tmp_path / "results",
        {
            "npo/target-1": {"left": 0.1, "retain": -1.0},
            "npo/target-2": {"left": 0.2, "retain": -2.0, "verdict": "partial"},
            "npo/target-3": {"left": 0.3, "retain": -6.0},
            "rmu/target-1": {"left": 0.4, "retain": 0.0},
            "rmu/target-2": {"left": None, "retain": None, "verdict": "insufficient"},
        },
    )


def test_means_and_t_interval_are_those_computed_by_hand(swept):
    npo, rmu = compare([swept]).groups
    assert (npo.name, npo.runs, npo.verdicts) == ("npo", 3, {"forgotten": 2, "partial": 1})
    edge = npo.figures["edge_accuracy"]
    assert (edge.runs, edge.before, edge.reference) == (3, 0.5, None)
    assert edge.after == pytest.approx(0.2)
    half = 4.302652729749464 * 0.1 / math.sqrt(3)  # t(0.975, 2) and the standard deviation of 0.1, 0.2, 0.3
    assert edge.ci95 == pytest.approx((0.2 - half, 0.2 + half))
    retain = npo.figures["retain_difference"]
    assert retain.after == pytest.approx(-3.0) and retain.before is None
    half = 4.302652729749464 * math.sqrt(7) / math.sqrt(3)  # deviations 2, 1, -3 from the mean
    assert retain.ci95 == pytest.approx((-3 - half, -3 + half))
    assert npo.figures["apply_seconds"].after == 10.0 and npo.figures["peak_memory_mb"].after == 2048.0
    assert npo.forget["by_wording_rate"].after == pytest.approx(0.4)


def test_the_interval_agrees_with_scipy_and_needs_three_runs():
    from scipy import stats

    values = [0.3, 1.0, -2.0, 0.7, 5.0]
    expected = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
    assert t_interval(values) == pytest.approx(expected)
    assert t_interval(values[:2]) is None and t_interval([]) is None


def test_a_missing_figure_is_a_dash_and_never_nought(swept):
    rmu = compare([swept]).groups[1]
    figure = rmu.figures["edge_accuracy"]
    assert (figure.runs, figure.after, figure.ci95) == (1, 0.4, None)
    only = make_run(swept.parent / "only", None, retain=None)
    comparison = compare([only], metrics=["edge_accuracy", "perplexity", "retain_difference"])
    assert comparison.to_markdown().splitlines()[2] == "| only | 1 | 1 forgotten | – | – | – |"
    assert comparison.to_dict()["groups"][0]["metrics"]["edge_accuracy"]["after"] is None
    assert comparison.metrics == ["edge_accuracy", "perplexity", "retain_difference"]


def test_the_table_shows_before_after_interval_and_how_many_runs_have_a_figure(swept):
    lines = compare([swept], metrics=["edge_accuracy", "retain_difference"]).to_markdown().splitlines()
    assert lines[0] == "| setting | runs | verdicts | edge_accuracy | retain_difference |"
    assert lines[2] == ("| npo | 3 | 2 forgotten, 1 partial | 0.5 → 0.2 [-0.0484, 0.448] | -3 [-9.57, 3.57] |")
    assert lines[3] == "| rmu | 2 | 1 forgotten, 1 insufficient | 0.5 → 0.4 (1 run) | 0 (1 run) |"
    assert "95 % t-interval" in lines[5] and "where at least 3 runs have the figure" in lines[5]


def test_the_default_columns_are_those_that_any_run_has(swept):
    assert compare([swept]).metrics == ["edge_accuracy", "retain_difference", "apply_seconds", "peak_memory_mb"]


def test_the_reference_is_shown_only_where_every_run_has_one(tmp_path):
    runs = {"a/1": {"reference": 0.02}, "a/2": {"reference": 0.04}, "b/1": {"reference": 0.02}, "b/2": {}}
    comparison = compare([make_sweep(tmp_path, runs)])
    a, b = comparison.groups
    assert a.figures["edge_accuracy"].reference == pytest.approx(0.03) and b.figures["edge_accuracy"].reference is None
    assert comparison.to_markdown().count("never knew") == 1
    assert a.forget_reference["by_wording_rate"] == pytest.approx(0.06)


def test_by_dir_gives_every_run_a_row(swept):
    comparison = compare([swept], by="dir")
    assert [group.name for group in comparison.groups][::4] == ["npo/target-1", "rmu/target-2"]
    assert all(group.runs == 1 for group in comparison.groups)
    with pytest.raises(InputError, match="Did you mean 'setting'"):
        compare([swept], by="settings")


def test_runs_and_sweeps_stand_side_by_side(swept, tmp_path):
    other = make_sweep(tmp_path / "again" / "results", {"npo/1": {}})
    alone = make_run(tmp_path / "alone")
    same = make_run(tmp_path / "more" / "alone")
    names = [group.name for group in compare([swept, alone, other, same]).groups]
    assert names == ["results (1)/npo", "results (1)/rmu", "alone", "results (2)/npo", "alone (2)"]


def test_runs_that_failed_or_are_not_done_are_stated(tmp_path):
    status = {"npo/2": "failed", "npo/3": "pending", "npo/4": "pending", "npo/5": "done"}
    warnings = compare([make_sweep(tmp_path, {"npo/1": {}}, status)]).warnings
    assert warnings == ["npo: 1 run failed", "npo: 3 runs not done"]


def test_different_base_models_and_numbers_of_probes_are_stated(tmp_path):
    first, second = make_run(tmp_path / "first"), make_run(tmp_path / "second", base="b" * 64, n=50)
    comparison = compare([first, second])
    bases, counts = comparison.warnings
    assert "different base models (sha256: first aaaaaaaa, second bbbbbbbb)" in bases
    assert "different numbers of probes (edge_accuracy 40 to 50)" in counts
    text = comparison.to_markdown()
    assert f"\nWarning: {bases}\n" in text and f"\nWarning: {counts}\n" in text
    assert compare([first]).warnings == []


def test_rows_that_share_several_base_models_are_told_from_rows_that_differ(tmp_path):
    worlds = {f"{setting}/{n}": {"base": str(n) * 64} for setting in "ab" for n in range(2)}
    assert compare([make_sweep(tmp_path, worlds)]).warnings == [
        "each row has runs of 2 base models, the same ones in every row"
    ]


def test_the_private_report_comes_first_and_a_public_one_is_enough(tmp_path):
    full, public = make_run(tmp_path / "full"), make_run(tmp_path / "public", private=False)
    for file in (full / "forget_report.json", public / "forget_report.json"):
        file.write_text(file.read_text().replace('"forgotten"', '"partial"'))
    assert [group.verdicts for group in compare([full, public]).groups] == [{"forgotten": 1}, {"partial": 1}]
    (full / "forget_report.json").unlink()
    assert compare([full]).groups[0].runs == 1


def test_nothing_in_table_data_or_plot_names_a_target(tmp_path):
    folders = [make_run(tmp_path / name) for name in ("isaac-newton", "newton", "other")]
    comparison = compare(folders)
    assert len({group.name for group in comparison.groups}) == 3 and comparison.groups[2].name == "other"
    sweep = make_sweep(tmp_path / "sweep", {"newton_hard/1": {}}, {"newton_hard/2": "failed"})
    for found in (comparison, compare([sweep])):
        for path in found.save(tmp_path / "out").values():
            assert not contains_any(path.read_bytes().decode("utf-8", "replace"), NAMES), path


def test_the_plot_is_a_png_with_a_legend_of_every_row(swept, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    original = Figure.savefig

    def savefig(self, *arguments, **options):
        (axes,) = self.axes
        labels = [text.get_text().strip() for text in self.legends[0].get_texts()]
        drawn.append((axes.get_xlabel(), axes.get_ylabel(), sorted(labels)))
        return original(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    path = compare([swept]).plot(tmp_path / "plot.png")
    assert path.read_bytes().startswith(PNG) and [p.name for p in tmp_path.glob("*.png")] == ["plot.png"]
    ((x, y, labels),) = drawn
    assert "points" in x and "by wording rate: after / before" in y and labels == ["npo", "rmu"]
    compare([make_run(tmp_path / "_$x$", wording=False, reference=0.05)]).plot(path)
    assert "edge accuracy" in drawn[1][1] and drawn[1][2] == ["_\\$x\\$", "never knew"]


def test_what_cannot_be_drawn_is_said_and_the_table_written_all_the_same(swept, tmp_path, monkeypatch):
    comparison = compare([make_run(tmp_path / "run", retain=None)])
    assert "no row has both retain_difference and one of by_wording_rate" in comparison.plot_problem()
    with pytest.raises(HfForgetError, match="no plot"):
        comparison.plot(tmp_path / "plot.png")
    assert set(comparison.save(tmp_path / "out")) == {"table", "data"}
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install" in compare([swept]).plot_problem()


def test_errors_name_what_was_expected(swept, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="has no forget_report.json or runs.json; give the output folder"):
        compare([tmp_path / "empty"])
    with pytest.raises(InputError, match="is no folder that has"):
        compare([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="no report has the metric 'edge_acuracy'. Did you mean 'edge_accuracy'"):
        compare([swept], metrics=["edge_acuracy"])
    with pytest.raises(InputError, match="no folder is given"):
        compare([])
    with pytest.raises(InputError, match="is done yet"):
        compare([make_sweep(tmp_path / "begun", {}, {"a/1": "pending"})])
    (swept / "runs.json").write_text("[1]")
    with pytest.raises(InputError, match="is not the list of runs"):
        compare([swept])


def test_differences_are_paired_by_target_and_seed(tmp_path):
    sweep = make_sweep(
        tmp_path / "results",
        {
            **{f"base/target-{n}": {"left": left} for n, left in ((1, 0.1), (2, 0.3), (3, 0.2), (4, 0.5))},
            **{f"new/target-{n}": {"left": left} for n, left in ((3, 0.1), (2, 0.1), (1, 0.1))},
        },
    )
    found = compare([sweep], metrics=["edge_accuracy"], against="base")
    difference = found.differences["new"]["edge_accuracy"]
    # The fourth has no counterpart, and the order does not matter.
    assert difference.runs == 3 and difference.after == pytest.approx((0 - 0.2 - 0.1) / 3)
    assert difference.ci95 == pytest.approx(t_interval([0.0, -0.2, -0.1]))
    assert "base" not in found.differences
    table = found.to_markdown()
    assert "| minus base | pairs | edge_accuracy |" in table and "| new | 3 | -0.1 [" in table
    assert found.to_dict()["differences"]["new"]["edge_accuracy"]["runs"] == 3
    with pytest.raises(InputError, match="no row is called 'bass'.*Did you mean 'base'"):
        compare([sweep], against="bass")

import copy
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from hf_forget.errors import InputError
from hf_forget.evidence import report as report_module
from hf_forget.evidence.report import ForgetReport, Metric, Verdict, merge_metrics, schema, to_jsonable, validate
from hf_forget.evidence.verdict import RULE

GOLDEN = Path(report_module.__file__).with_name("golden_report.json")


@pytest.fixture
def golden() -> dict:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def build(**changes) -> ForgetReport:
    content = {
        "method": "concept_unlearn",
        "paper": {"title": "A title", "arxiv": None},
        "task": "causal_lm",
        "verdict": Verdict("partial", "a rule", [{"name": "first", "passed": True, "detail": "1 of 2"}]),
    }
    return ForgetReport.build(**(content | changes))


def test_golden_report_is_valid_complete_and_states_the_rule_in_force(golden):
    validate(golden)
    assert set(golden) == {field.name for field in dataclasses.fields(ForgetReport)} == set(schema()["properties"])
    assert golden["verdict"] == {"value": "forgotten", "rule": RULE}
    assert "invented" in golden["target"]["note"]
    assert ForgetReport.from_dict(golden).to_dict() == golden


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda report: report.update(extra=1), "extra"),
        (lambda report: report.pop("verdict"), "verdict"),
        (lambda report: report["verdict"].update(value="gone"), "gone"),
        (lambda report: report["metrics"][0].update(status="passed"), "passed"),
        (lambda report: report["metrics"][0].update(group="other"), "other"),
        (lambda report: report["metrics"][0].update(after="0.5"), "metrics/0/after"),
        (lambda report: report["metrics"][0].update(after=None), "metrics/0/after"),
        (lambda report: report["metrics"][0].update(before=math.nan), "metrics/0/before"),
        (lambda report: report["timings_s"].update(load=math.inf), "timings_s/load"),
        (lambda report: report["metrics"][0].update(ci95=[0.5, 0.1]), "ci95"),
        (lambda report: report["metrics"].append(report["metrics"][0]), "stands twice"),
        (lambda report: report["checks"][0].update(passed="yes"), "checks/0/passed"),
        (lambda report: report["base_models"][0].pop("sha256"), "base_models/0"),
    ],
)
def test_schema_refuses_what_is_not_a_report(golden, change, message):
    changed = copy.deepcopy(golden)
    change(changed)
    with pytest.raises(InputError, match=message):
        validate(changed)


def test_metrics_are_joined_by_group_and_name_with_the_interval_of_after():
    before = [
        Metric("accuracy", "forget", "lower", 1.0, 10, (0.7, 1.0)),
        Metric("accuracy", "retain", "higher", 0.5, 20),
        Metric("only_before", "cost", "none", 3.0),
    ]
    after = [
        Metric("accuracy", "retain", "higher", 0.4, 21, (0.2, 0.6), definition="d"),
        Metric("accuracy", "forget", "lower", 0.0, 10, (0.0, 0.3), reference=0.1),
        Metric("only_after", "attack", "lower", 2.0),
    ]
    rows = {(row["group"], row["name"]): row for row in merge_metrics(before, after)}
    assert rows["retain", "accuracy"] == {
        "name": "accuracy",
        "group": "retain",
        "direction": "higher",
        "before": 0.5,
        "after": 0.4,
        "reference": None,
        "n": 21,
        "ci95": [0.2, 0.6],
        "status": "ok",
        "definition": "d",
    }
    assert rows["forget", "accuracy"]["before"] == 1.0
    assert rows["forget", "accuracy"]["reference"] == 0.1
    assert rows["attack", "only_after"]["before"] is None
    assert rows["cost", "only_before"]["after"] is None
    assert rows["cost", "only_before"]["status"] == "not_run"


@pytest.mark.parametrize(
    ("metric", "status"),
    [
        (Metric("x", "attack", "lower", None), "not_run"),
        (Metric("x", "attack", "lower", math.nan), "failed"),
        (Metric("x", "attack", "lower", math.inf, ci95=(0, 1)), "failed"),
        (Metric("x", "attack", "lower", 1.0, status="failed"), "failed"),
    ],
)
def test_metric_without_a_usable_figure_is_never_ok(metric, status):
    assert (metric.value, metric.ci95, metric.status) == (None, None, status)


def test_infinite_interval_is_left_out_and_the_figure_kept():
    metric = Metric("x", "forget", "lower", 0.5, 1, (-math.inf, math.inf))
    assert (metric.value, metric.ci95, metric.status) == (0.5, None, "ok")


def test_report_survives_saving_and_loading_from_folder_and_file(tmp_path):
    report = build(before=[Metric("x", "forget", "lower", np.float32(0.5))], after=[Metric("x", "forget", "lower", 0)])
    file = report.save(tmp_path / "new" / "folder")
    assert file == tmp_path / "new" / "folder" / "forget_report.json"
    assert ForgetReport.load(file) == ForgetReport.load(file.parent) == report
    assert [path.name for path in file.parent.iterdir()] == ["forget_report.json"]


def test_written_report_has_no_nan_and_no_secret(tmp_path):
    report = build(
        recipe={"hub_token": "secret-value", "learning_rate": math.nan, "path": Path("a/b")},
        series={"curve": {"x": [1, 2], "y": [math.inf, np.float64(2.0)]}},
    )
    text = report.save(tmp_path / "r.json").read_text()
    assert "NaN" not in text and "Infinity" not in text and "secret-value" not in text
    assert json.loads(text)["series"]["curve"]["y"] == [None, 2.0]
    assert json.loads(text)["recipe"]["path"] == "a/b"


def test_checks_of_the_verdict_come_first_and_names_stay_unique():
    other = [{"name": "first", "passed": False, "detail": ""}, {"name": "second", "passed": None, "detail": ""}]
    assert [(check["name"], check["passed"]) for check in build(checks=other).checks] == [
        ("first", True),
        ("second", None),
    ]


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not JSON"), ('{"a": 1}', "not a valid"), ("[]", "not a valid"), (None, "no forget")]
)
def test_unusable_report_files_are_named_in_the_error(tmp_path, content, message):
    file = tmp_path / "forget_report.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        ForgetReport.load(tmp_path)
    assert str(tmp_path) in str(raised.value)


def test_numbers_of_libraries_become_json():
    value = {"a": np.int64(3), "b": (np.float32(0.5), np.nan), "c": {2, 1}, "d": np.array([True]), 5: None}
    assert to_jsonable(value) == {"a": 3, "b": [0.5, None], "c": [1, 2], "d": [True], "5": None}


def test_public_report_names_the_target_nowhere_and_keeps_the_figures(golden):
    golden["recipe"] |= {"aliases": ["Miss Example"], "data": "/home/ada-example/rows.jsonl"}
    golden["base_models"][0]["name"] = "me/forget_AdaExample"
    golden["checks"][0]["detail"] = "Ada Example's answers; runs/ada_example"
    golden["artifacts"]["ada-example"] = "plots/ada%20example.png"
    golden["series"]["ADA EXAMPLE"] = {"y": [1]}
    golden["samples"].append({"probe": "Who is she?", "kind": "node", "before": "Ada Example", "after": None})
    public = ForgetReport.from_dict(golden).redacted(["Ada Example", "Miss Example"], "[a person]").to_dict()

    text = json.dumps(public).lower()
    for word in ("ada", "sampleton", "miss example", "small town", "birthplace", "who is she", "/home", "private/"):
        assert word not in text, word
    figures = ("group", "direction", "before", "after", "reference", "n", "ci95", "status")
    assert [[row[key] for key in figures] for row in public["metrics"]] == [
        [row[key] for key in figures] for row in golden["metrics"]
    ]
    assert public["target"]["name"] == "[a person]"
    assert public["verdict"]["value"] == "forgotten"
    assert public["samples"][1]["probe"] == "What is the capital of Germany?"
    assert public["samples"][0] == {
        "id": "edge/1",
        "kind": "edge",
        "probe": "[redacted]",
        "before": "[redacted]",
        "after": "[redacted]",
        "before_correct": True,
        "after_correct": False,
    }


def test_target_called_like_a_word_of_the_schema_leaves_a_valid_report(golden):
    public = ForgetReport.from_dict(golden).redacted(["forgotten", "forget", "lower", "edge"], "[x]")
    assert public.verdict["value"] == "forgotten"
    assert public.metrics[0]["group"] == "forget"

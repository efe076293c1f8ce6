"""The card is valid for the Hub, says what the report says, and hands nothing back."""

import copy
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hf_forget.errors import InputError
from hf_forget.evidence.report import ForgetReport
from hf_forget.publishing.card import card_metadata_problems, inline, render_card
from hf_forget.publishing.redaction import contains_any

NAMES = ["Ada Example", "Miss Example"]
EMBEDDED = {
    "name": "embedded:smollm2-135m-instruct",
    "source": "embedded",
    "sha256": "b179c952" * 8,
    "dtype": "float32",
}
NASTY = [
    "a | b || c",
    "`code` ``` fence",
    "```\nfence\n```",
    "line one\n\n# heading\n- item\n---\n",
    "\r\n---\r\nlicense: mit\r\n---\r\n",
    "<script>alert(1)</script><!-- x --></details>",
    "[link](http://evil.example) ![image](http://evil.example/x.png)",
    "[a]: http://evil.example 'title'",
    "http://evil.example www.evil.example me@evil.example",
    "{{ card_data }} {% raw %} {# comment #}",
    "**bold** __bold__ _it_ ~~gone~~ $x^2$ $$y$$",
    "\\| \\` \\",
    "1. one",
    "# heading",
    "- item",
    "===",
    "&lt;b&gt; &#124;",
    "\u202eright to left\u0000\u200b",
    "[^1] footnote :smile: @user",
]
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@pytest.fixture
def report() -> dict[str, Any]:
    golden = resources.files("hf_forget.evidence").joinpath("golden_report.json")
    return json.loads(golden.read_text(encoding="utf-8"))


def metric(name: str, group: str, **values: Any) -> dict[str, Any]:
    defaults = {"direction": "lower", "before": 1.0, "after": 0.25, "reference": None, "n": 8, "ci95": None}
    return {"name": name, "group": group, **defaults, "status": "ok", "definition": "a figure", **values}


def section(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def structure(text: str) -> list[str]:
    """The kinds of Markdown elements in their order, without the plain text between them."""
    tokens = [inner for token in MARKDOWN.parse(text) for inner in (token, *(token.children or []))]
    return [f"{token.type} {token.tag}" for token in tokens if token.type not in ("text", "text_special")]


def test_metadata_is_what_the_hub_expects(report: dict[str, Any]) -> None:
    report["base_models"] = [EMBEDDED]
    card = render_card(report, repo_id="someone/my-model")
    assert card_metadata_problems(str(card)) == []
    data = card.data.to_dict()
    index = data.pop("model-index")
    assert data == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "finetune",
        "language": "en",
        "library_name": "transformers",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": ["hf-forget", "unlearning", "concept_unlearn"],
    }
    assert index[0]["name"] == "my-model"


def test_the_model_index_holds_every_measured_figure_and_no_other(report: dict[str, Any]) -> None:
    results = render_card(report).data.eval_results
    measured = [row for row in report["metrics"] if row["status"] == "ok"]
    assert [(result.dataset_config, result.metric_type, result.metric_value) for result in results] == [
        (row["group"], row["name"], row["after"]) for row in measured
    ]
    assert {result.dataset_name for result in results} == {"hf_forget probes"}
    assert any(row["status"] != "ok" for row in report["metrics"])


def test_an_unpublished_target_is_named_nowhere(report: dict[str, Any]) -> None:
    report["base_models"][0] |= {"name": "me/ada-example-base", "source": "hub"}
    report["checks"][0]["detail"] += " about ada_example and M. Example"
    report["metrics"][0] |= {"name": "adaExample_accuracy", "definition": "what Example, Ada is asked"}
    report["verdict"]["rule"] += " Miss Example."
    report["environment"]["run"] = "/home/me/ada-example"
    report["environment"]["git"] = {"branch": "forget-ada-example"}
    report["samples"][1]["after"] = "Berlin, said Ada Example"
    report["artifacts"]["ada-example"] = "private/ada_example.json"
    text = str(render_card(report, repo_id="me/no-ada-example", names=["M. Example"]))
    assert not contains_any(text, [*NAMES, "M. Example"])
    assert "a person" in section(text, "What was forgotten")
    assert "path/to/this/folder" in text
    assert card_metadata_problems(text) == []


@pytest.mark.parametrize("publish", [False, True])
def test_no_question_or_answer_about_the_target_is_handed_back(report: dict[str, Any], publish: bool) -> None:
    text = str(render_card(report, publish_target=publish))
    assert "Sampleton" not in text
    assert "small town" not in text
    examples = section(text, "Examples")
    assert "| edge | withheld | withheld (right) | withheld (wrong) |" in examples
    assert "What is the capital of Germany? | Berlin (right) | Berlin (right)" in examples


def test_a_published_target_is_named(report: dict[str, Any]) -> None:
    text = str(render_card(report, publish_target=True))
    assert "**Ada Example**" in section(text, "What was forgotten")
    assert "redacted" not in section(text, "How to reproduce it")


def test_a_redacted_report_gives_the_same_card_but_for_what_redaction_takes(report: dict[str, Any]) -> None:
    redacted = ForgetReport.from_dict(copy.deepcopy(report)).redacted(NAMES, "[a person]").to_dict()
    text = str(render_card(redacted))
    assert not contains_any(text, NAMES)
    assert "The target was a person." in text
    assert section(text, "Is it gone?") == section(str(render_card(report)), "Is it gone?")


def test_embedded_weights_are_not_passed_off_as_the_hubs(report: dict[str, Any]) -> None:
    assert "de-quantised 4-bit" not in str(render_card(report | {"base_models": []}))
    report["base_models"] = [EMBEDDED]
    provenance = section(str(render_card(report)), "Licence and provenance")
    assert "de-quantised 4-bit" in provenance
    assert "Apache-2.0" in provenance
    assert EMBEDDED["sha256"] in provenance


def test_figures_stand_with_their_units(report: dict[str, Any]) -> None:
    text = str(render_card(report))
    assert "| edge accuracy | lower | 100.0 % | 7.8 % | 2.0 % | 64 | 2.7 % to 20.6 % | ok |" in text
    assert "| perplexity | lower | 21.30 | 21.90 | – | 40 | – | ok |" in text
    assert "| recovery quantize | lower | – | +2.1 points | – | 96 | – | ok |" in text
    assert "| total | 6 min 5 s |" in section(text, "What did it cost?")
    assert "3200 MB" in text


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("node_accuracy", 0.5, "50.0 %"),
        ("rouge_l_recall", 0.5, "0.5"),
        ("loss_auc", 0.5, "0.5"),
        ("truth_ratio", 0.031234, "0.0312"),
        ("error_rate", 1.5, "1.50"),
        ("paired_difference", -0.5, "-0.5"),
        ("steps", 1234.0, "1234"),
    ],
)
def test_only_rates_become_percentages(report: dict[str, Any], name: str, value: float, shown: str) -> None:
    report["metrics"] = [metric(name, "forget", before=None, after=value)]
    row = f"| {name.replace('_', ' ')} | lower | – | {shown} | – | 8 | – | ok |"
    assert row in section(str(render_card(report)), "Is it gone?")


def test_what_was_not_tested_is_said_plainly(report: dict[str, Any]) -> None:
    report["metrics"].append(metric("logit_lens_rank", "representation", after=None, status="failed"))
    untested = section(str(render_card(report)), "What was not tested")
    for attack in ("suffix", "relearn", "probe", "interpolation", "membership"):
        assert f"**{attack}**" in untested
    assert "**quantize**" not in untested
    assert "**prompt**" not in untested
    assert "**recovery relearn**: not run." in untested
    assert "**logit lens rank**: failed." in untested
    report["attacks_run"] = ["quantize_int8", "six_prompts", "relearn"]
    untested = section(str(render_card(report)), "What was not tested")
    assert not any(f"**{attack}**" in untested for attack in ("quantize", "prompt", "relearn"))


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("forgotten", "Every condition"),
        ("partial", "Partly forgotten"),
        ("not_forgotten", "Not forgotten"),
        ("collapsed", "should not be used"),
        ("insufficient", "Nothing is claimed"),
        ("better", "Better"),
        ("same", "No difference"),
        ("worse", "Worse"),
    ],
)
def test_every_verdict_is_put_into_words_with_its_rule_and_checks(
    report: dict[str, Any], verdict: str, words: str
) -> None:
    report["verdict"] = {"value": verdict, "rule": "The rule of the day."}
    report["checks"] = [
        {"name": "first_check", "passed": True, "detail": "good"},
        {"name": "second", "passed": False, "detail": "bad"},
        {"name": "third", "passed": None, "detail": "nothing to see"},
    ]
    text = str(render_card(report))
    stated = section(text, "Verdict")
    assert words in stated
    assert "The rule of the day." in stated
    assert "| first check | yes | good |" in stated
    assert "| second | **no** | bad |" in stated
    assert "| third | does not apply | nothing to see |" in stated
    judged = verdict in ("better", "same", "worse")
    assert ("## What was forgotten" in text) is not judged
    assert ("unlearning" in render_card(report).data.tags) is not judged


@pytest.mark.parametrize(
    ("task", "method", "group", "heading", "tag", "loader"),
    [
        ("image_classification", "fisher_scrub", "forget", "Is it gone?", "image-classification", "AutoImageProcessor"),
        (
            "image_classification",
            "ardir",
            "robustness",
            "Is the rest intact?",
            "image-classification",
            "AutoModelForIm",
        ),
        ("text_classification", "condensed_merge", "quality", "Is the rest intact?", "text-classification", "AutoTok"),
        ("diffusion", "pu_diffusion", "quality", "Is the rest intact?", "unconditional-image-generation", "diffusers"),
    ],
)
def test_cards_of_other_methods_hold_only_the_groups_they_measured(
    report: dict[str, Any], task: str, method: str, group: str, heading: str, tag: str, loader: str
) -> None:
    parents = [{"name": f"me/parent-{number}", "source": "hub", "revision": "a" * 40, "dtype": None} for number in "12"]
    changes = {"task": task, "method": method, "base_models": parents, "target": {}, "samples": [], "attacks_run": []}
    card = render_card(report | changes | {"metrics": [metric("figure", group)]}, base_licence="mit")
    text = str(card)
    assert card_metadata_problems(text) == []
    assert card.data.pipeline_tag == tag
    assert card.data.base_model == ["me/parent-1", "me/parent-2"]
    assert card.data.base_model_relation == "merge"
    assert loader in section(text, "How to load it")
    assert "| figure |" in section(text, heading)
    absent = {"Is it gone?", "Is the rest intact?", "Is the model still healthy?", "Does it come back?", "Examples"}
    assert not any(f"## {other}\n" in text for other in absent - {heading})


def test_a_report_without_figures_still_gives_a_valid_card(report: dict[str, Any]) -> None:
    empty = {"metrics": [], "checks": [], "samples": [], "timings_s": {}, "peak_memory_mb": None, "environment": {}}
    card = render_card(report | empty | {"base_models": [], "target": {}, "artifacts": {}})
    assert card_metadata_problems(str(card)) == []
    assert "model-index" not in card.data.to_dict()
    assert card.data.license == "unknown"
    assert "is not recorded" in section(str(card), "Licence and provenance")


@pytest.mark.parametrize(
    ("licence", "expected"),
    [("Apache-2.0", ("apache-2.0", None)), ("My Own Licence: v2", ("other", "My-Own-Licence-v2"))],
)
def test_a_licence_that_the_hub_does_not_know_is_named(
    report: dict[str, Any], licence: str, expected: tuple[str, str | None]
) -> None:
    card = render_card(report, base_licence=licence)
    assert (card.data.license, card.data.license_name) == expected
    assert card_metadata_problems(str(card)) == []


@pytest.mark.parametrize("nasty", NASTY)
def test_no_text_breaks_out_of_its_place(report: dict[str, Any], nasty: str) -> None:
    def card_with(text: str) -> str:
        changed = copy.deepcopy(report)
        changed["samples"][1] |= {"probe": text, "before": text, "after": text}
        changed["checks"][0] |= {"name": text, "detail": text}
        changed["metrics"][0]["definition"] = text
        changed["metrics"][1]["name"] = text
        changed["verdict"]["rule"] = "A rule"
        changed["base_models"] = [{"name": text, "source": "x", "sha256": text, "dtype": text}]
        changed["environment"] = {"device": text, "versions": {"torch": text}}
        changed["artifacts"] = {text: f"private/{text}"}
        changed["paper"] = {"title": text, "arxiv": "2509.15621"}
        changed["target"] = {"name": text, "type": "person"}
        return str(render_card(changed, publish_target=True, base_licence=text))

    text = card_with(nasty)
    body, harmless = (card.split("\n---\n", 1)[1] for card in (text, card_with("harmless")))
    assert structure(body) == structure(harmless)
    assert card_metadata_problems(text) == []
    # What stands in a code block is never made a link.
    prose = re.sub(r"(?ms)^```\w+\n.*?^```$", "", body)
    for unwanted in ("http://", "www.", "<script", "{{", "{%", "\u202e", "\u0000", "me@", "$$"):
        assert unwanted not in prose


@given(text=st.text(st.sampled_from("ab1 .:/|`*_~[](){}<>#+-=!$&;\\\n\r\t'\"@^w\u200b"), max_size=40) | st.text())
def test_inline_text_says_the_same_and_does_nothing_else(text: str) -> None:
    escaped = inline(text, limit=1000)
    for before, after in (("", ""), ("- ", ""), ("**x**: ", ""), ("# ", "")):
        kinds = structure(f"{before}{escaped}{after}")
        assert kinds == structure(f"{before}{'harmless' if escaped else ''}{after}")
    cells = structure(f"| a | b |\n|---|---|\n| {escaped} | {escaped} |\n")
    assert cells == structure("| a | b |\n|---|---|\n| harmless | harmless |\n")
    rendered = "".join(child.content for token in MARKDOWN.parse(escaped) for child in token.children or [])
    visible = "".join(char for char in text if char.isprintable() and not char.isspace())
    assert "".join(char for char in rendered if char.isprintable() and not char.isspace()) == visible


def test_long_text_is_cut() -> None:
    assert inline("word " * 100, limit=12) == "word word w…"


def test_a_secret_in_the_report_is_withheld(report: dict[str, Any]) -> None:
    report["environment"]["note"] = "logged in with hf_" + "aB3" * 11
    text = str(render_card(report))
    assert "aB3" not in text
    assert "withheld" in section(text, "Environment")


def test_paths_lose_their_folders(report: dict[str, Any]) -> None:
    report["environment"] |= {"script": "/home/someone/work/run.py", "cache": ["~/.cache/models"]}
    report["base_models"] = [{"name": "/home/someone/models/tiny", "source": "local", "sha256": "0", "dtype": None}]
    text = str(render_card(report))
    assert "someone" not in text
    assert "# tiny, edited with hf_forget" in text
    assert "base_model:" not in text


@pytest.mark.parametrize("repo_id", ["a/b/c", "-bad", "two words", "a..b"])
def test_a_repo_id_that_the_hub_would_refuse_is_an_error(report: dict[str, Any], repo_id: str) -> None:
    with pytest.raises(InputError, match="user/my-model"):
        render_card(report, repo_id=repo_id)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.split("\n---\n", 1)[1], "no metadata block"),
        (lambda text: text.replace("language: en", "language: [en"), "cannot be read"),
        (lambda text: text.replace("license: unknown", "license: my-own"), "license: 'my-own'"),
        (lambda text: text.replace("license: unknown", "license: other"), "license_name: missing"),
        (lambda text: text.replace("language: en", "language: English"), "language:"),
        (lambda text: text.replace("language: en", "language: en\nbase_model: a/b/c"), "base_model: 'a/b/c'"),
        (lambda text: text.replace("language: en", "base_model_relation: child"), "base_model_relation:"),
        (lambda text: text.replace("pipeline_tag: text-generation", "pipeline_tag: 3"), "pipeline_tag:"),
        (lambda text: text.replace("value: 0.0781", "value: .nan"), "not a finite number"),
        (lambda text: text.replace("value: 0.0781", "value: many"), "not a finite number"),
        (lambda text: text.replace("  - task:\n      type:", "  - job:\n      type:", 1), "cannot be read"),
        (lambda text: text.replace("- hf-forget\n", "- 3\n"), "tags:"),
        (lambda text: "---\n- a\n- list\n---\n# card\n", "cannot be read"),
    ],
)
def test_problems_of_metadata_are_found(report: dict[str, Any], change: Any, problem: str) -> None:
    text = str(render_card(report))
    assert card_metadata_problems(text) == []
    broken = change(text)
    assert broken != text
    problems = card_metadata_problems(broken)
    assert any(problem in found for found in problems), problems


def test_the_card_survives_being_saved_and_loaded(report: dict[str, Any], tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    card = render_card(report)
    card.save(tmp_path / "README.md")
    assert str(ModelCard.load(tmp_path / "README.md")) == str(card)

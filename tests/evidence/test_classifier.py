import copy
import json
import types

import pytest
import torch
from torch import nn

from hf_forget.errors import InputError
from hf_forget.evidence.attacks.relearn_class import relearn_class, reset_outputs
from hf_forget.evidence.classifier import evidence_from_measurements, measure_classifier
from hf_forget.evidence.classifier_options import ClassifierEvidenceOptions
from hf_forget.evidence.classifier_outputs import (
    batched_logits,
    classification_head,
    evaluation_mode,
    penultimate_features,
)
from hf_forget.evidence.classifier_verdict import judge_classifier
from hf_forget.evidence.feature_probe import probe_features
from hf_forget.evidence.labelled_inputs import LabelledInputs
from hf_forget.evidence.report import ForgetReport, merge_metrics, to_jsonable
from hf_forget.fisher_scrub.baselines import drop_logits
from hf_forget.fisher_scrub.retraining import retrain_without

CLASSES, FORGOTTEN = 5, 3


class Net(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.body = nn.Linear(20, 24)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(24, CLASSES, bias=bias)
        self.config = types.SimpleNamespace(num_labels=CLASSES)

    def forward(self, pixel_values):
        return types.SimpleNamespace(logits=self.head(self.dropout(torch.relu(self.body(pixel_values.flatten(1))))))


def clouds(rows: int, seed: int) -> LabelledInputs:
    """Each class is two clouds of points far apart, so that no single direction gives it away."""
    centres = torch.randn(2, CLASSES, 20, generator=torch.Generator().manual_seed(42))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % CLASSES
    side = torch.randint(2, (rows,), generator=generator)
    return LabelledInputs(centres[side, labels] + torch.randn(rows, 20, generator=generator), labels)


def fit(net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    with evaluation_mode(net):
        for _ in range(400):
            rows = torch.randint(len(labels), (100,), generator=generator)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[rows]).logits, labels[rows]).backward()
            optimizer.step()
    net.zero_grad()


def fresh(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


@pytest.fixture(scope="module")
def train() -> LabelledInputs:
    return clouds(3000, seed=0)


@pytest.fixture(scope="module")
def test_inputs() -> LabelledInputs:
    return clouds(1500, seed=1)


@pytest.fixture(scope="module")
def trained(train) -> Net:
    net = fresh()
    fit(net, train.inputs, train.labels)
    return net


@pytest.fixture(scope="module")
def retrained(train) -> Net:
    return retrain_without(lambda: fresh(1), fit, train.inputs, train.labels, [FORGOTTEN])


@pytest.fixture(scope="module")
def measured(trained, retrained, train, test_inputs):
    """Measurements of the original, of a dropped logit and of a retrained model."""
    arguments = {"forget_classes": [FORGOTTEN], "train": train}
    reference = measure_classifier(retrained, test_inputs, **arguments)
    return {
        "before": measure_classifier(trained, test_inputs, reference=reference, **arguments),
        "dropped": measure_classifier(drop_logits(trained, [FORGOTTEN]), test_inputs, reference=reference, **arguments),
        "retrained": reference,
    }


def value(measurement, name: str):
    return next(metric.value for metric in measurement.metrics if metric.name == name)


def test_original_model_knows_the_class(measured):
    before = measured["before"]
    assert value(before, "remaining_accuracy") > 0.9 and value(before, "forgotten_error") < 0.1
    assert value(before, "forgotten_class_probability") > 0.9
    assert value(before, "relearning_steps") == 0
    assert value(before, "feature_probe_accuracy") > 0.95


def test_dropped_logit_looks_forgotten_from_outside(measured):
    dropped = measured["dropped"]
    assert value(dropped, "forgotten_error") == 1
    assert value(dropped, "remaining_accuracy") >= value(measured["before"], "remaining_accuracy")


def test_dropped_logit_is_exposed_by_relearning_and_by_the_probe(measured):
    dropped, retrained = measured["dropped"], measured["retrained"]
    assert value(dropped, "relearning_steps") == 0 < 8 <= value(retrained, "relearning_steps")
    assert value(dropped, "feature_probe_accuracy") == value(measured["before"], "feature_probe_accuracy")
    assert value(dropped, "feature_probe_accuracy") > value(retrained, "feature_probe_accuracy") + 0.05


def test_dropped_logit_is_partial(measured):
    evidence = evidence_from_measurements(measured["before"], measured["dropped"], measured["retrained"])
    verdict = judge_classifier(evidence)
    assert (verdict.value, [check["passed"] for check in verdict.checks]) == ("partial", [True, True, True, False])


def test_retrained_model_has_forgotten(measured):
    # Retrained from other weights: its accuracy is its own, so that of before is taken as equal.
    evidence = evidence_from_measurements(measured["retrained"], measured["retrained"], measured["retrained"])
    assert judge_classifier(evidence).value == "forgotten"


def test_unchanged_model_has_not_forgotten(measured):
    evidence = evidence_from_measurements(measured["before"], measured["before"], measured["retrained"])
    assert judge_classifier(evidence).value == "not_forgotten"


def test_every_figure_stands_beside_that_of_the_retrained_model(measured):
    reference = {metric.name: metric.value for metric in measured["retrained"].metrics}
    assert {metric.name: metric.reference for metric in measured["dropped"].metrics} == reference
    assert all(metric.status == "ok" and metric.definition and metric.n for metric in measured["dropped"].metrics)
    rows = merge_metrics(measured["before"].metrics, measured["dropped"].metrics)
    assert len(rows) == len(measured["dropped"].metrics)


def test_records_and_series_are_plain_data(measured):
    found = measured["dropped"]
    assert json.loads(json.dumps(to_jsonable(found.records))) == found.records
    shares = found.series[f"confusion_of_class_{FORGOTTEN}"]
    assert shares["x"] == [0, 1, 2, 3, 4] and sum(shares["y"]) == pytest.approx(1) and shares["y"][FORGOTTEN] == 0
    assert found.series["accuracy_by_class"]["y"][FORGOTTEN] == 0
    assert measured["retrained"].series["relearning"]["y"][-1] >= 0.5


def test_measurements_and_verdict_make_a_valid_report(measured):
    evidence = evidence_from_measurements(measured["before"], measured["dropped"], measured["retrained"])
    report = ForgetReport.build(
        method="fisher_scrub",
        paper={"title": "One-Shot Machine Unlearning with Mnemonic Code", "arxiv": "2306.05670"},
        task="image_classification",
        verdict=judge_classifier(evidence),
        before=measured["before"].metrics,
        after=measured["dropped"].metrics,
        series=measured["dropped"].series,
    )
    row = report.metric("forgotten_error", "forget")
    assert row["before"] < 0.1 and row["after"] == 1 and row["reference"] == 1
    assert report.verdict["value"] == "partial"


def test_without_training_data_the_attacks_count_as_not_run(trained, test_inputs):
    found = measure_classifier(trained, test_inputs, forget_classes=[FORGOTTEN])
    status = {metric.name: metric.status for metric in found.metrics}
    assert {name for name, state in status.items() if state == "not_run"} == {
        "feature_probe_accuracy",
        "relearning_steps",
        "membership_auc",
    }
    verdict = judge_classifier(evidence_from_measurements(found, found))
    assert verdict.checks[-1]["detail"].startswith("not run")


def test_without_scikit_learn_only_the_probe_is_not_run(trained, train, test_inputs, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    options = ClassifierEvidenceOptions(relearning_seeds=1)
    found = measure_classifier(trained, test_inputs, forget_classes=[FORGOTTEN], train=train, options=options)
    missing = [metric for metric in found.metrics if metric.status == "not_run"]
    assert [metric.name for metric in missing] == ["feature_probe_accuracy"]
    assert "pip install 'hf-forget[vision]'" in missing[0].definition


def test_measuring_leaves_the_model_as_it_was(trained, train, test_inputs):
    trained.train()
    before = copy.deepcopy(trained.state_dict())
    options = ClassifierEvidenceOptions(relearning_seeds=1, relearning_max_steps=2)
    measure_classifier(trained, test_inputs, forget_classes=[0, 1], train=train, options=options)
    assert trained.training and trained.dropout.training
    assert all(torch.equal(before[name], item) for name, item in trained.state_dict().items())
    assert all(parameter.grad is None for parameter in trained.parameters())
    assert not trained.head._forward_pre_hooks


def test_the_same_seed_gives_the_same_figures(retrained, train, test_inputs):
    options = ClassifierEvidenceOptions(relearning_seeds=1)
    arguments = {"forget_classes": [FORGOTTEN], "train": train, "options": options}
    first, second = (measure_classifier(retrained, test_inputs, **arguments) for _ in range(2))
    assert first.metrics == second.metrics and first.records == second.records


def test_measurements_of_other_inputs_cannot_be_compared(measured, trained):
    other = measure_classifier(trained, clouds(500, seed=7), forget_classes=[FORGOTTEN])
    with pytest.raises(InputError, match="same test inputs"):
        evidence_from_measurements(measured["before"], other)


@pytest.mark.parametrize(
    ("classes", "message"), [([5], "classes 0 to 4"), ([], "classes 0 to 4"), ([-1], "classes 0 to 4")]
)
def test_classes_that_the_model_lacks_are_refused(trained, test_inputs, classes, message):
    with pytest.raises(InputError, match=message):
        measure_classifier(trained, test_inputs, forget_classes=classes)


def test_test_inputs_must_hold_both_kinds(trained, test_inputs):
    with pytest.raises(InputError, match="hold none of class 3"):
        measure_classifier(trained, test_inputs.without([FORGOTTEN]), forget_classes=[FORGOTTEN])
    with pytest.raises(InputError, match="hold no remaining class"):
        measure_classifier(trained, test_inputs.of([FORGOTTEN]), forget_classes=[FORGOTTEN])


def test_features_are_what_the_last_layer_reads(trained, test_inputs):
    features = penultimate_features(trained, test_inputs.inputs, batch_size=64)
    assert features.shape == (1500, 24)
    torch.testing.assert_close(trained.head(features), batched_logits(trained, test_inputs.inputs, batch_size=77))


def test_text_is_measured_in_embedding_space():
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=3, **sizes))
    mask = torch.ones(30, 4, dtype=torch.long)
    mask[::2, 2:] = 0
    texts = LabelledInputs(torch.randn(30, 4, 8), torch.arange(30) % 3, mask)
    options = ClassifierEvidenceOptions(relearning_seeds=1, relearning_max_steps=2, classifier_batch_size=7)
    found = measure_classifier(bert, texts, forget_classes=[1], train=texts, options=options)
    assert all(metric.status == "ok" for metric in found.metrics)
    with torch.no_grad():
        expected = bert.eval()(inputs_embeds=texts.inputs, attention_mask=mask).logits.argmax(1)
    assert found.records["predictions"] == expected.tolist()


def test_head_of_a_real_architecture_is_found():
    from transformers import BertConfig, BertForSequenceClassification, ResNetConfig, ResNetForImageClassification

    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    resnet = ResNetForImageClassification(ResNetConfig(num_labels=3, **sizes))
    assert classification_head(resnet) is resnet.classifier[-1]
    assert penultimate_features(resnet, torch.randn(2, 3, 16, 16)).shape == (2, 8)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    bert = BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=3, **sizes))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    features = penultimate_features(bert, torch.randn(2, 3, 8), attention_mask=mask)
    assert classification_head(bert) is bert.classifier and features.shape == (2, 8)


def test_model_without_a_linear_head_is_refused():
    with pytest.raises(InputError, match="no linear layer"):
        classification_head(nn.Sequential(nn.Conv2d(1, 2, 3)))


def test_outputs_are_reset_to_the_mean_of_the_others(trained):
    row = reset_outputs(drop_logits(trained, [FORGOTTEN]), [FORGOTTEN], "row").head
    torch.testing.assert_close(row.weight[FORGOTTEN], trained.head.weight[[0, 1, 2, 4]].mean(0))
    torch.testing.assert_close(row.bias[FORGOTTEN], trained.head.bias[[0, 1, 2, 4]].mean())
    bias = reset_outputs(drop_logits(trained, [FORGOTTEN]), [FORGOTTEN], "bias").head
    assert torch.equal(bias.weight, trained.head.weight)
    torch.testing.assert_close(bias.bias[FORGOTTEN], trained.head.bias[[0, 1, 2, 4]].mean())


def test_high_bias_is_not_lowered(trained):
    raised = copy.deepcopy(trained)
    with torch.no_grad():
        raised.head.bias[FORGOTTEN] = 7
    assert reset_outputs(raised, [FORGOTTEN], "bias").head.bias[FORGOTTEN] == 7


def test_muted_row_of_weights_is_exposed_too(trained, retrained, train, test_inputs):
    muted = drop_logits(trained, [FORGOTTEN])
    with torch.no_grad():
        muted.head.weight[FORGOTTEN] = 0
    steps = [relearn_class(net, train, test_inputs, [FORGOTTEN]).median_steps for net in (muted, retrained)]
    assert 0 < steps[0] < steps[1]


def test_relearning_is_given_up_after_the_most_steps(retrained, train, test_inputs):
    found = relearn_class(retrained, train, test_inputs, [FORGOTTEN], max_steps=2, seeds=(0, 1))
    assert (found.steps, found.cap, len(found.curve)) == ((2, 2), 2, 3)


def test_frozen_model_can_be_relearned_all_the_same(trained, train, test_inputs):
    frozen = drop_logits(trained, [FORGOTTEN]).requires_grad_(False)
    frozen.head.bias = None
    assert relearn_class(frozen, train, test_inputs, [FORGOTTEN], seeds=(0,)).steps[0] < 500
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_run_that_diverges_brings_nothing_back(retrained, train, test_inputs):
    found = relearn_class(retrained, train, test_inputs, [FORGOTTEN], learning_rate=1e20, max_steps=5, seeds=(0,))
    assert found.steps == (5,)


def test_relearning_and_probing_need_inputs_of_both_kinds(trained, train, test_inputs):
    with pytest.raises(InputError, match="got 0 and 2400 to train on, 100 and 100 held out"):
        relearn_class(trained, train.without([FORGOTTEN]), test_inputs, [FORGOTTEN])
    with pytest.raises(InputError, match="probe of class 3 needs inputs"):
        probe_features(trained, train.without([FORGOTTEN]), test_inputs, [FORGOTTEN])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relearning_learning_rate": 0.0}, "above 0"),
        ({"relearning_seeds": 0}, "relearning_seeds must be 1 or more"),
        ({"probe_rows": 1}, "probe_rows must be 2 or more"),
        ({"classifier_evidence_seed": -1}, "must be 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        ClassifierEvidenceOptions(**changes)

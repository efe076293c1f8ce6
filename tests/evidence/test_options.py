import dataclasses

import pytest

from hf_forget.errors import InputError
from hf_forget.evidence.options import COUNTED_ATTACKS, EvidenceOptions


def test_both_counted_attacks_run_by_default():
    assert EvidenceOptions().attacks == list(COUNTED_ATTACKS)


def test_every_option_is_explained():
    for option in dataclasses.fields(EvidenceOptions):
        assert option.metadata.get("help"), option.name
        assert f"{option.name} (`" in EvidenceOptions.__doc__


def test_no_option_is_named_like_a_training_argument():
    from transformers import TrainingArguments

    training = {option.name for option in dataclasses.fields(TrainingArguments)}
    assert not training & {option.name for option in dataclasses.fields(EvidenceOptions)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sham": "maybe"}, "sham is 'maybe'"),
        ({"sampled_answers": 0}, "sampled_answers must be 1 or more, got 0"),
        ({"evidence_batch_size": -1}, "evidence_batch_size"),
        ({"max_retain_rows": 0}, "max_retain_rows"),
        ({"evidence_seed": -1}, "evidence_seed"),
        ({"probes": " "}, "probes is empty"),
        ({"attacks": ["quantise"]}, "Did you mean 'quantize'"),
        ({"attacks": ["prompt", "prompt"]}, "twice"),
        ({"prompt_formats": []}, "prompt_formats is empty"),
    ],
)
def test_wrong_values_are_refused_by_name(values, message):
    with pytest.raises(InputError, match=message) as raised:
        EvidenceOptions(**values)
    assert raised.value.exit_code == 2

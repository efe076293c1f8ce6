import pytest

from hf_forget.errors import InputError
from hf_forget.sae_align.sae_texts import default_texts, held_out, texts_of


def test_default_texts_are_definitions_and_questions_about_named_things():
    texts = default_texts()
    assert len(texts) > 120_000 and texts == default_texts() != default_texts(seed=1)
    assert any("Isaac Newton" in text and "physicist" in text for text in texts)
    assert sum("Sir Isaac Newton" in text for text in texts) >= 3


def test_files_are_read_by_paragraph(tmp_path):
    (tmp_path / "a.txt").write_text("First.\nStill first.\n\n\nSecond.\n")
    assert texts_of([tmp_path / "a.txt"]) == ["First.\nStill first.", "Second."]
    (tmp_path / "b.txt").write_text("\n\n")
    with pytest.raises(InputError, match="no text in .*b.txt"):
        texts_of([tmp_path / "b.txt"])
    with pytest.raises(InputError, match="missing.txt' cannot be read"):
        texts_of([tmp_path / "missing.txt"])


def test_no_text_is_both_learnt_and_measured():
    learnt, measured = held_out([f"text {number % 50}" for number in range(100)])
    assert len(learnt) == 45 and len(measured) == 5 and not set(learnt) & set(measured)

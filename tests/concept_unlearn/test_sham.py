"""The sham run knows nothing of the target's names."""

from types import SimpleNamespace

from hf_forget import ConceptUnlearnConfig
from hf_forget.concept_unlearn import sham
from hf_forget.concept_unlearn.preparation import PreparedRows, concept_aliases
from hf_forget.evidence.probes import ProbeSet
from hf_forget.lm.knowledge import KnowledgeGraph
from hf_forget.lm.rows import Row


def test_the_invented_name_does_not_take_over_the_aliases_of_the_target(monkeypatch, tmp_path):
    given = {}

    class Preparation:
        def __init__(self, model, tokenizer, args, probes, **options):
            given.update(args=args, probes=probes)

        def run(self):
            return PreparedRows(KnowledgeGraph("Corvin Thessaly"), [Row("a", " b")], [], [], given["probes"])

    monkeypatch.setattr(sham, "ConceptPreparation", Preparation)
    probes = ProbeSet("Isaac Newton", ("Newton", "Sir Isaac"), "person")
    args = ConceptUnlearnConfig(output_dir=str(tmp_path), concept="Corvin Thessaly", bf16=False, use_cpu=True)
    subject = SimpleNamespace(
        model=None, processing_class=None, configs={"method": args}, report=print, base_models=[{"name": "base"}]
    )
    prepared = PreparedRows(KnowledgeGraph("Isaac Newton"), [Row("a", " b"), Row("c", " d")], [], [], probes)
    rows = sham._sham_rows(subject, prepared)
    assert concept_aliases("Corvin Thessaly", None, given["probes"]) == ["Thessaly"]
    assert len(rows.forget) == 2

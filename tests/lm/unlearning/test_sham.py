"""The sham run knows nothing of the target's names."""

from types import SimpleNamespace

from hf_forget import ConceptUnlearnConfig
from hf_forget.evidence.probes import ProbeSet
from hf_forget.lm.knowledge import KnowledgeGraph
from hf_forget.lm.rows import Row
from hf_forget.lm.unlearning import sham
from hf_forget.lm.unlearning.preparation import PreparedRows, TrainingRows, concept_aliases


class Method:
    def prepare_concept(self, subject, probes, **options):
        self.probes = probes
        return PreparedRows(KnowledgeGraph("Corvin Thessaly"), TrainingRows([Row("a", " b")], [], []), probes)


def test_the_invented_name_does_not_take_over_the_aliases_of_the_target(tmp_path):
    probes = ProbeSet("Isaac Newton", ("Newton", "Sir Isaac"), "person")
    args = ConceptUnlearnConfig(output_dir=str(tmp_path), concept="Corvin Thessaly", bf16=False, use_cpu=True)
    rows = TrainingRows([Row("a", " b"), Row("c", " d")], [], [])
    method = Method()
    trained = sham._sham_rows(
        method, SimpleNamespace(configs={"method": args}), PreparedRows(KnowledgeGraph("Isaac Newton"), rows, probes)
    )
    assert concept_aliases("Corvin Thessaly", None, method.probes) == ["Thessaly"]
    assert len(trained.forget) == 2

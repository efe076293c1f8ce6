"""`ConceptUnlearnTrainer`: gradient unlearning of a concept, or of any rows, in a causal LM."""

from collections.abc import Callable, Sequence
from typing import Any

from peft import PeftModel
from torch import Tensor
from transformers import DataCollator, TrainerCallback

from ..lm.knowledge import KnowledgeGraph
from ..lm.unlearning.preparation import rows_for_training
from ..lm.unlearning.unlearning_trainer import UnlearningTrainer
from ..trainer import causal_lm_from, tokenizer_for
from .concept_unlearn_config import ConceptUnlearnConfig
from .name_edit import edit_name_states
from .preparation import UnlearnPreparation


class ConceptUnlearnTrainer(UnlearningTrainer):
    """Trainer that makes a causal LM forget.

    `L = λ_E·L_F(edge) + λ_N·L_F(node) + λ_X·L_F(explanation) + λ_S·L_S(replacement) + λ_P·NLL(reply) + α·L_R`
    (arXiv 2509.15621, section 3; replacement and reply rows are ours), every term a mean over rows of per-row means;
    how they are computed, [`~hf_forget.lm.unlearning.unlearning_trainer.UnlearningTrainer`] tells.

    `L_S` pulls questions about the concept to what the original model does with the same questions about an invented
    name: the divergence of outputs plus the distance of hidden states, from the last token of the name on, in the
    layers of `representation_layers`. Answers go with all their wordings and relations then, also those that no row
    asks for.

    Where all weights are trained, most of this happens before the first step, in closed form (`edit_weight`, see
    [`~hf_forget.concept_unlearn.name_edit.edit_name_states`]): the MLPs of early layers write the invented name's
    states at the end of the name. The steps then see to what leads to the name.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): The causal LM; a string is loaded in float32.
        args ([`ConceptUnlearnConfig`]): Options.
        data_collator: Batches pairs of forget and retain rows; [`~hf_forget.lm.rows.RowCollator`] by default.
        train_dataset: The forget set: rows with `prompt` and `completion`, `question` and `answer`, `messages`, or
            `text`, as [`~hf_forget.lm.user_rows.rows_from`] reads them, and optionally `kind` (`edge`, `node` or
            `explanation`). A stream is read to its end. Not needed where `concept` is given.
        eval_dataset: Rows for `evaluate()`, in the same form: to forget, or of kind `retain`.
        processing_class: The tokenizer; needed unless `model` is a string.
        peft_config: A `peft.PeftConfig` to train an adapter instead of all weights.
        retain_dataset: Rows to keep, in the same form; of a stream, such as a `datasets.IterableDataset`, the first
            `args.retain_rows`. Those of kind `context` are not trained: their `text` says where the closed-form edit
            must change nothing, and without any there is no such edit.
        concept (`str` or `list[str]`): The name that must go, or several names of the same concept; the model is
            questioned about it, and forget and retain rows are made from its answers.
        aliases (`list[str]`): Other names of the concept.
        knowledge_graph ([`KnowledgeGraph`]): What the model knows of the concept, such as one that was read, edited and
            passed back in; the model is not asked for it then.

    Raises:
        InputError: If there is nothing to forget, or the model or the tokenizer cannot be used.
        UnknownConceptError: If the model knows nothing about `concept` and `args.force` is not set.

    Example:
        ```python
        from hf_forget import ConceptUnlearnConfig, ConceptUnlearnTrainer

        trainer = ConceptUnlearnTrainer(
            "embedded:smollm2-135m-instruct",
            args=ConceptUnlearnConfig(output_dir="out", max_steps=60),
            concept="Isaac Newton",
        )
        trainer.train()
        trainer.save_model()
        ```
    """

    _tag_names = ["hf-forget", "unlearning", "concept_unlearn"]
    row_kinds = (*UnlearningTrainer.row_kinds, "replacement", "reply")

    def __init__(
        self,
        model: Any,
        args: ConceptUnlearnConfig | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_metrics: Callable[..., dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        quantization_config: Any = None,
        peft_config: Any = None,
        *,
        retain_dataset: Any = None,
        concept: str | list[str] | None = None,
        aliases: Sequence[str] = (),
        knowledge_graph: KnowledgeGraph | None = None,
    ):
        args = args or ConceptUnlearnConfig(output_dir="concept-unlearn")
        tokenizer = processing_class or tokenizer_for(model)
        model = causal_lm_from(model, quantization_config=quantization_config)
        rows = rows_for_training(
            UnlearnPreparation,
            model,
            tokenizer,
            args,
            train_dataset=train_dataset,
            retain_dataset=retain_dataset,
            eval_dataset=eval_dataset,
            concept=concept,
            aliases=aliases,
            knowledge_graph=knowledge_graph,
        )
        super().__init__(
            model,
            args,
            rows,
            processing_class=tokenizer,
            data_collator=data_collator,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            peft_config=peft_config,
        )
        self._contexts = [row.completion for row in rows.retain if row.kind == "context"]
        # For each layer of the closed-form edit, how far the name's states still are from the invented name's.
        self.edit_distances: dict[int, float] = {}

    def _begin(self, *, resumed: bool) -> None:
        """Change the name's hidden states in closed form, where all weights are trained."""
        pairs = [row for row in self.train_dataset.rows if row.kind == "replacement"]
        if resumed or not (self.args.edit_weight and self._contexts and pairs) or isinstance(self.model, PeftModel):
            return
        self.edit_distances = edit_name_states(
            self.model,
            self.processing_class,
            pairs,
            self._contexts,
            weight=self.args.edit_weight,
            layers=self.args.edit_layers,
            max_length=self.args.row_length,
            precision=self.compute_loss_context_manager,
        )

"""`SAEAlignTrainer`: makes a causal LM treat an entity as one that it has never met."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DataCollator, TrainerCallback

from ..errors import InputError
from ..lm.knowledge import KnowledgeGraph
from ..lm.loading import placed
from ..lm.rows import Row
from ..lm.unlearning.preparation import TrainingRows, rows_for_training, words_for
from ..lm.unlearning.unlearning_trainer import UnlearningTrainer
from ..trainer import causal_lm_from, tokenizer_for
from .alignment import DISTANCES
from .alignment_rows import KIND, cut_behind, name_of
from .entity_lists import found_entities, lists_from
from .latent_alignment import EntityLatents, EntityReader, entity_latents, name_length, spans
from .preparation import AlignPreparation
from .sae_align_config import SAEAlignConfig
from .sae_folder import saes_for


class SAEAlignTrainer(UnlearningTrainer):
    """Trainer that moves the recognition of an entity from known to unknown.

    `L = λ·L_A + α·L_R`, with `L_A = D(Z_e, Z_U) + max(0, m + D(Z_e, Z_U) − D(Z_e, Z_K))` (arXiv 2509.15631;
    distance, positions and weights are reconstructed). `Z_e` are the target's pre-activation latents of a sparse
    autoencoder over a batch of texts, `Z_U` and `Z_K` those of unknown and known entities in the same texts, as the
    original model has them. `L_R` keeps outputs and hidden states of other rows. How rows are run,
    [`~hf_forget.lm.unlearning.unlearning_trainer.UnlearningTrainer`] tells; weights above 0 for edge, node and
    explanation rows forget these, too.

    `D` compares whole batches: `per_device_train_batch_size` texts at once, not those of accumulated batches together.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): The causal LM; a string is loaded in float32.
        args ([`SAEAlignConfig`]): Options.
        data_collator: Batches pairs of rows; [`~hf_forget.lm.rows.RowCollator`] by default.
        train_dataset: Texts about the target, as rows with `text`, or in another form that
            [`~hf_forget.lm.user_rows.rows_from`] reads; the target's name must stand in each, with text behind it. Made
            from `concept` if not given.
        eval_dataset: Rows for `evaluate()`: to forget, or of kind `retain`.
        processing_class: The tokenizer; needed unless `model` is a string.
        peft_config: A `peft.PeftConfig` to train an adapter instead of all weights.
        retain_dataset: Rows to keep.
        concept (`str` or `list[str]`): The name that must go, or several names of it.
        aliases (`list[str]`): Other names of it.
        knowledge_graph ([`KnowledgeGraph`]): What the model knows of it; the model is not asked for it then.
        concept_type (`str`, *optional*): Its type; entities of the same type are compared with it. That of
            `knowledge_graph` or `args` if not given.
        sae: An SAE of sae_lens, a folder, `release:id`, or several of these in a list; `args.sae` if not given.
        known, unknown: Names of entities that the model knows and does not know, or these by type; found by asking the
            model if not given.

    Raises:
        InputError: If an SAE does not fit the model, there are fewer than eight known or unknown entities, there is
            nothing to forget, or model or tokenizer cannot be used.
        UnknownConceptError: If the model knows nothing about `concept` and `args.force` is not set.

    Example:
        ```python
        from hf_forget import SAEAlignConfig, SAEAlignTrainer

        trainer = SAEAlignTrainer(
            "embedded:smollm2-135m-instruct",
            args=SAEAlignConfig(output_dir="out"),
            concept="Isaac Newton",
        )
        trainer.train()
        trainer.save_model()
        ```
    """

    _tag_names = ["hf-forget", "unlearning", "sae_align"]
    row_kinds = (*UnlearningTrainer.row_kinds, KIND)

    def __init__(
        self,
        model: Any,
        args: SAEAlignConfig | None = None,
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
        concept_type: str | None = None,
        sae: Any = None,
        known: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        unknown: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    ):
        args = args or SAEAlignConfig(output_dir="sae-align")
        tokenizer = processing_class or tokenizer_for(model)
        model = causal_lm_from(model, quantization_config=quantization_config)
        self.saes = saes_for(placed(model, args.device), tokenizer, args.sae if sae is None else sae, args.sae_layer)
        graph_names = [knowledge_graph.concept, *knowledge_graph.aliases] if knowledge_graph else []
        own = [concept] if isinstance(concept, str) else list(concept or ())
        names = graph_names or own or ([args.concept] if args.concept else [])
        self.names = list(dict.fromkeys([*names, *(aliases or args.aliases or ())]))
        self.concept_type = concept_type or (knowledge_graph.concept_type if knowledge_graph else args.concept_type)
        if known is None and unknown is None and args.known_entities:
            known, unknown = args.known_entities, args.unknown_entities  # type: ignore[assignment]
        self.entities = (
            found_entities(placed(model, args.device), tokenizer, self.names, seed=args.seed)
            if known is None and unknown is None
            else lists_from(known, unknown)
        )
        rows = rows_for_training(
            AlignPreparation,
            model,
            tokenizer,
            args,
            train_dataset=train_dataset,
            retain_dataset=retain_dataset,
            eval_dataset=eval_dataset,
            concept=concept,
            aliases=aliases,
            knowledge_graph=knowledge_graph,
            kind=KIND,
        )
        rows = TrainingRows([self._cut(row) for row in rows.forget], rows.retain, rows.validation)
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
        # For each SAE and position what the target is aligned with; made when training begins.
        self.latents: list[EntityLatents] = []
        self._places: dict[Row, int] = {}
        # Where the states of each row are compared, counted from behind the row's end.
        self._spans: dict[Row, list[tuple[int, int]]] = {}

    def _cut(self, row: Row) -> Row:
        """A row for alignment whose prompt ends with one of the target's names."""
        if row.kind != KIND or any(row.prompt.lower().endswith(name.lower()) for name in self.names):
            return row
        if not self.names:
            raise InputError("concept is missing; name the target whose name stands in the rows of train_dataset")
        text = row.prompt + row.completion
        found = [name for name in self.names if name.lower() in text.lower()]
        return cut_behind(text, max(found, key=len, default=self.names[0]), row.question or text)

    def _trained_and_watched(self, model: Any, args: Any) -> list[int]:
        """Freeze what is not trained; the layers that the SAEs read are watched beside those of the retain term."""
        layers = super()._trained_and_watched(model, args)
        return sorted({*layers, *self.saes}) if args.alignment_weight else layers

    @property
    def _watching(self) -> bool:
        return bool(self.latents) or super()._watching

    def _begin(self, *, resumed: bool) -> None:
        """Run the original model on the texts with other entities in the target's place."""
        rows = list(dict.fromkeys(row for row in self.train_dataset.rows if row.kind == KIND))
        if not rows:
            return
        layers = sorted(self.saes)
        training = self.model.training
        self.model.eval()
        reader = EntityReader(
            self.model, self.processing_class, layers, self.args.row_length, self.compute_loss_context_manager
        )
        with words_for(self.model, self.names[0]):
            self.latents = entity_latents(
                reader,
                self.saes,
                rows,
                self.names,
                self.entities,
                self.concept_type or "",
                positions=self.args.position_indices,
                per_text=self.args.entities_per_text,
                count=self.args.num_latents,
                distance=DISTANCES[self.args.distance],
                within_texts=self.args.within_texts,
                seed=self.args.seed,
            )
        self.model.train(training)
        self._places = {row: place for place, row in enumerate(rows)}
        examples = zip(self.train_dataset.rows, self.train_dataset.examples, strict=True)
        for row, item in examples:
            if row in self._places:
                length = name_length(row.prompt, name_of(row, self.names), self.processing_class)
                count = len(item["labels"])
                self._spans[row] = [(first - count, end - count) for first, end in spans(item["labels"], length)]

    def _batch_loss(self, states: Sequence[Tensor], rows: Sequence[Row]) -> Tensor | None:
        """The alignment loss of the batch's texts about the target, a mean over SAEs and positions."""
        aligned = [place for place, row in enumerate(rows) if row in self._places]
        if len(aligned) < 2 or not self.latents:
            return None
        texts = [self._places[rows[place]] for place in aligned]
        losses = []
        for latents in self.latents:
            layer = self._layers.index(latents.layer)
            own = [self._span_mean(states[place][layer], rows[place], latents.position) for place in aligned]
            losses.append(latents.loss(torch.stack(own), texts, DISTANCES[self.args.distance], self.args.margin))
        return self.args.alignment_weight * torch.stack(losses).mean()

    def _span_mean(self, states: Tensor, row: Row, position: int) -> Tensor:
        """Mean of a row's states, shape `(positions, hidden)`, over one of its spans."""
        first, end = self._spans[row][position]
        return states[max(0, len(states) + first) : len(states) + end].mean(0)

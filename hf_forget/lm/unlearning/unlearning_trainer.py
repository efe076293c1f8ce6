"""`UnlearningTrainer`: gradient unlearning of rows in a causal LM, with the original model beside it."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DataCollator, TrainerCallback, TrainerControl

from ...errors import InputError
from ...trainer import ForgetTrainer, with_adapter
from ..forward import labelled_forward
from ..objectives import LabelledTokens, get_objective, kl_to_reference_loss, nll_loss
from ..representation import checked_layers, chosen_layers, decoder_layers, freeze_outside
from ..rows import PairSampler, Row, RowCollator, RowDataset
from ..user_rows import rows_from
from .callbacks import StopWhenForgotten
from .original import Heard, OriginalModel
from .preparation import TrainingRows
from .unlearning_config import UnlearningConfig

REFERENCE_BATCH = 32
RETAIN_EVAL_ROWS = 24
COMPARED_KINDS = ("retain", "replacement")


class UnlearningTrainer(ForgetTrainer):
    """Trainer that makes a causal LM forget rows; the base of those that unlearn a concept.

    `L = Σ λ_kind·L_kind(rows of the kind) + α·L_R`, every term a mean over rows of per-row means. Forget and retain
    rows share one forward pass, logits are computed at labels only, and the original model enters as its cached final
    hidden states and a frozen copy of its head. `L_R` is the divergence from the original's outputs on retain rows,
    and the distance of hidden states in the layers of `representation_layers`.

    Args:
        model (`PreTrainedModel` or `PeftModel`): The causal LM.
        args ([`UnlearningConfig`]): Options.
        rows ([`TrainingRows`]): What is trained, and what `evaluate()` scores.
        processing_class (`PreTrainedTokenizerBase`): The tokenizer.
        peft_config: A `peft.PeftConfig` to train an adapter instead of all weights.
        **kwargs: As `transformers.Trainer` takes them.

    Raises:
        InputError: If no row to forget is left, or the model or the tokenizer cannot be used.
    """

    # Kinds of rows that may stand among those to forget; each has a weight and a share in the arguments.
    row_kinds: tuple[str, ...] = ("edge", "node", "explanation")

    def __init__(
        self,
        model: Any,
        args: UnlearningConfig,
        rows: TrainingRows,
        *,
        processing_class: Any,
        data_collator: DataCollator | None = None,
        callbacks: Sequence[TrainerCallback] | None = None,
        peft_config: Any = None,
        **kwargs: Any,
    ):
        model = with_adapter(model, peft_config)
        # The layer whose hidden states an objective on them leads astray.
        self._steered = -1
        self.objective = get_objective(args.objective)
        self.beta = args.beta if args.beta is not None else self.objective.default_beta
        forget = [row for row in rows.forget if _weight(args, row.kind)]
        if not forget:
            raise InputError("no row to forget is left: every kind of row that there is has a weight of 0")
        retain = [row for row in rows.retain if row.kind != "context"]
        kept = retain[-RETAIN_EVAL_ROWS:] if len(retain) >= 2 * RETAIN_EVAL_ROWS else []
        retain = retain[: len(retain) - len(kept)] if self.objective.uses_retain else []
        layers = self._trained_and_watched(model, args)
        args = copy.copy(args)
        args.remove_unused_columns = False
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator or RowCollator(_pad_token_id(processing_class)),
            train_dataset=RowDataset(
                forget, retain, processing_class, max_length=args.row_length, refusal=self.objective.refusal
            ),
            eval_dataset=_scored(rows.validation, kept, processing_class, args) if rows.validation else None,
            processing_class=processing_class,
            callbacks=[*(callbacks or []), StopWhenForgotten()],
            **kwargs,
        )
        # Whether the original model can still be heard: always under an adapter, otherwise until training begins.
        self._untouched = True
        self._layers = layers
        self._original = OriginalModel(self._heard, layers, standardise=not self.objective.on_states)
        # Where hidden states are led to, for an objective on them.
        self._target: Tensor | None = None

    def _trained_and_watched(self, model: Any, args: UnlearningConfig) -> list[int]:
        """Freeze what is not trained, and return the layers whose hidden states enter the loss."""
        trained, count = args.trained_layers, len(decoder_layers(model)) if args.trained_layers else 0
        if trained is not None:
            trained = checked_layers(trained, count, "trained_layers")
        if not self.objective.on_states:
            if trained is not None:
                freeze_outside(model, trained)
            return chosen_layers(model, args.representation_layers) if args.representation_weight else []
        count = len(decoder_layers(model))
        steered = args.steering_layer if args.steering_layer is not None else max(1, round(count / 3))
        (layer,) = checked_layers([min(steered, count - 1)], count, "steering_layer")
        freeze_outside(model, trained or range(max(0, layer - 2), layer + 1), mlp_outputs_only=not trained)
        self._steered = layer
        return [layer]

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """Train as `transformers.Trainer.train` does, after the original model has been heard on all rows."""
        self._hear_original(self.train_dataset)
        if self.eval_dataset is not None:
            self._hear_original(self.eval_dataset)
        if self.objective.on_states:
            self._target = self._steering_target()
        self._begin(resumed=bool(resume_from_checkpoint))
        self._untouched = isinstance(self.model, PeftModel)
        return super().train(resume_from_checkpoint, **kwargs)

    def _steering_target(self) -> Tensor:
        """`c·u`: a random direction that depends on the seed alone, as long as `beta` mean norms of forget rows."""
        forget = range(self.train_dataset.num_forget)
        place = self._layers.index(self._steered)
        states = torch.cat([self._original.states[row][place] for row in forget if row in self._original.states])
        direction = torch.rand(states.shape[-1], generator=torch.Generator().manual_seed(self.args.seed)).to(states)
        return self.beta * states.norm(dim=-1).mean() * direction / direction.norm()

    def _begin(self, *, resumed: bool) -> None:
        """What a method does between hearing the original model and the first step.

        Args:
            resumed: Whether training goes on from a checkpoint, whose weights replace those of the model.
        """

    def _batch_loss(self, states: Sequence[Tensor], rows: Sequence[Row]) -> Tensor | None:
        """What a method adds to the loss of a batch as a whole.

        Args:
            states: Of each row the outputs of the watched layers, shape `(layers, positions, hidden)`.
            rows: The rows.
        """
        return None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the weighted mean of the forget rows' losses plus that of the retain rows.

        With `return_outputs`, the losses of all rows come beside it.
        """
        tokens, _, states = labelled_forward(
            model, inputs, self._prefixes(self.train_dataset), layers=self._layers if self._watching else ()
        )
        rows = self._rows_of(self.train_dataset, inputs)
        losses = self._row_losses(self.train_dataset, tokens, inputs["row_index"], rows)
        if states:
            losses = losses + self._state_losses(states, rows, inputs["row_index"].tolist())
        weights = torch.tensor([_weight(self.args, row.kind) for row in rows], device=losses.device)
        is_forget = inputs["is_forget"]
        is_retain = torch.tensor([row.kind == "retain" for row in rows], device=losses.device) & ~is_forget
        loss = (losses * weights)[is_forget].mean()
        if bool(is_retain.any()):
            loss = loss + (losses * weights)[is_retain].mean()
        further = self._batch_loss(states, rows)
        loss = loss if further is None else loss + further
        return (loss, {"row_losses": losses}) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the validation rows, teacher forced.

        Returns:
            `forget_probability` (geometric mean per token, averaged over rows), `forget_rate` (rows whose every token
            is still the most likely one), the same of retain rows that are not trained (`retain_probability`,
            `retain_rate`) with their divergence from the original model (`retain_kl`), and `score`, the forget
            probability plus what `retain_kl` exceeds its band by: the checkpoint with the lowest score is the best one.
            Retain figures are missing where there are no such rows, and `retain_kl` also for rows that are new to a
            model whose own weights have been trained: the original cannot be asked any more.
        """
        dataset = self.eval_dataset
        if eval_dataset is not None:
            rows = rows_from(eval_dataset, kind="edge", argument="eval_dataset", tokenizer=self.processing_class)
            dataset = _scored(rows, [], self.processing_class, self.args)
        if dataset is None:
            raise InputError("evaluate() needs an eval_dataset; pass one here or to the trainer")
        figures = self._figures(dataset)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _figures(self, dataset: RowDataset) -> dict[str, float]:
        if self._untouched:
            self._hear_original(dataset)
        found: dict[str, list[float]] = {}
        for part, (tokens, _, _) in self._heard(self.model, dataset, dataset.examples):
            means = tokens.row_means(tokens.log_probs()).exp()
            hits = tokens.row_means((tokens.logits.argmax(-1) == tokens.labels).float())
            for place, row in enumerate(part):
                kind = "forget" if row < dataset.num_forget else "retain"
                found.setdefault(f"{kind}_probability", []).append(means[place].item())
                found.setdefault(f"{kind}_rate", []).append(float(hits[place].item() == 1.0))
            if self._original.has_heard(dataset) and len(dataset.rows) > dataset.num_forget:
                everywhere = torch.ones_like(tokens.labels, dtype=torch.bool)
                tokens = self._original.beside(dataset, tokens, torch.tensor(part), everywhere)
                kept = [place for place, row in enumerate(part) if row >= dataset.num_forget]
                found.setdefault("retain_kl", []).extend(kl_to_reference_loss(tokens)[kept].tolist())
        figures = {name: sum(values) / len(values) for name, values in found.items()}
        excess = max(0.0, figures.get("retain_kl", 0.0) - self.args.max_retain_kl)
        return figures | {"score": figures.get("forget_probability", 0.0) + excess}

    def _row_losses(
        self, dataset: RowDataset, tokens: LabelledTokens, row_index: Tensor, rows: Sequence[Row]
    ) -> Tensor:
        """The loss of each row by its kind, shape `(rows,)`; 0 where hidden states decide."""
        nll, on_states = self.args.retain_loss == "nll", self.objective.on_states
        kinds = [row.kind for row in rows]
        compared = COMPARED_KINDS if not on_states else ("replacement",)
        losses = torch.zeros(len(rows), device=tokens.logits.device)
        for members, loss, compares in (
            ([row.is_forgotten and not on_states for row in rows], None, self.objective.needs_reference),
            ([kind in compared for kind in kinds], nll_loss if nll else kl_to_reference_loss, not nll),
            ([kind == "reply" for kind in kinds], nll_loss, False),
        ):
            mask = torch.tensor(members, device=losses.device)
            chosen = mask[tokens.rows]
            if bool(chosen.any()):
                part = tokens.where(chosen)
                part = self._original.beside(dataset, part, row_index, chosen) if compares else part
                found = loss(part) if loss else self._forget_losses(dataset, part, tokens, row_index, kinds)
                losses = torch.where(mask, found, losses)
        return losses

    def _forget_losses(
        self,
        dataset: RowDataset,
        part: LabelledTokens,
        tokens: LabelledTokens,
        row_index: Tensor,
        kinds: Sequence[str],
    ) -> Tensor:
        """The objective on the rows of `part`, each with the refusal beside it where the objective compares them."""
        if self.objective.refusal != "beside":
            return self.objective.loss(part, self.beta)
        # Refusals stand in the order of their rows, of which one may stand in a batch twice.
        refused = [place for place, row in enumerate(row_index.tolist()) if row in dataset.refusal_of]
        refusals = [place for place, kind in enumerate(kinds) if kind == "refusal"]
        partner = torch.arange(len(kinds), device=row_index.device)
        partner[refusals] = torch.tensor(refused, device=row_index.device)
        chosen = torch.tensor([kind == "refusal" for kind in kinds], device=row_index.device)[tokens.rows]
        refusal = self._original.beside(dataset, tokens.where(chosen), row_index, chosen)
        return self.objective.loss(part, self.beta, refusal=dataclasses.replace(refusal, rows=partner[refusal.rows]))

    def _state_losses(self, states: Sequence[Tensor], rows: Sequence[Row], row_index: Sequence[int]) -> Tensor:
        """What hidden states add to each row's loss: their distance from the original's, or from where they shall be
        led, shape `(rows,)`."""
        if self._target is None:
            return self.args.representation_weight * self._original.distances(states, row_index)
        led = [row.is_forgotten for row in rows]
        kept = [-1 if forgotten else row for forgotten, row in zip(led, row_index, strict=True)]
        place = self._layers.index(self._steered)
        towards = self.objective.loss([own[place] for own in states], self._target)
        return torch.where(torch.tensor(led, device=towards.device), towards, self._original.distances(states, kept))

    @property
    def _watching(self) -> bool:
        """Whether the loss reads hidden states."""
        return bool(self._original.states)

    def _prefixes(self, dataset: RowDataset) -> list[list[int]]:
        """Shared prefixes; none where activations are recomputed, which does not go with a cache."""
        return [] if self.args.gradient_checkpointing else dataset.prefixes

    def _rows_of(self, dataset: RowDataset, inputs: dict[str, Any]) -> list[Row]:
        return [dataset.rows[row] for row in inputs["row_index"].tolist()]

    def _get_train_sampler(self, train_dataset: Any = None) -> PairSampler:
        dataset = self.train_dataset
        return PairSampler(
            [row.kind for row in dataset.rows[: dataset.num_forget]],
            dataset.num_retain,
            self.args.retain_per_forget,
            shares={kind: getattr(self.args, f"{kind}_share") for kind in self.row_kinds},
            seed=self.args.data_seed if self.args.data_seed is not None else self.args.seed,
        )

    def _hear_original(self, dataset: RowDataset) -> None:
        """Keep what the original model makes of the rows that are compared with it, once, before it is changed."""
        training, rows = dataset is self.train_dataset, range(len(dataset.rows))
        watched = [row for row in rows if dataset.compared[row] and training and self._layers]
        heard = list(rows)
        if training and self.objective.on_states:
            watched = [row for row in rows if dataset.rows[row].kind != "reply"]
        elif training and not self.objective.needs_reference:
            heard = [row for row in rows if dataset.rows[row].kind in COMPARED_KINDS]
        self._original.hear(self.model, dataset, heard, watched)

    def _heard(
        self, model: Any, dataset: RowDataset, examples: list[dict[str, Any]], layers: Sequence[int] = ()
    ) -> Heard:
        """Run examples in batches of like length, without gradients and in eval mode."""
        training = model.training
        model.eval()
        order = sorted(range(len(examples)), key=lambda row: len(examples[row]["input_ids"]))
        for start in range(0, len(order), REFERENCE_BATCH):
            part = order[start : start + REFERENCE_BATCH]
            batch = self._prepare_inputs(
                RowCollator(_pad_token_id(self.processing_class))([[examples[row]] for row in part])
            )
            with torch.no_grad(), self.compute_loss_context_manager():
                heard = labelled_forward(model, batch, self._prefixes(dataset), layers=layers)
            yield part, heard
        model.train(training)


def _scored(rows: Sequence[Row], kept: Sequence[Row], tokenizer: Any, args: UnlearningConfig) -> RowDataset:
    """Rows to be scored: those to forget, then those of kind `retain` and others to keep."""
    forget = [row for row in rows if row.is_forgotten]
    retain = [*(row for row in rows if not row.is_forgotten), *kept]
    return RowDataset(forget, retain, tokenizer, max_length=args.row_length)


def _weight(args: UnlearningConfig, kind: str) -> float:
    """The weight of a kind of rows; rows of no known kind are edges."""
    return getattr(args, f"{kind}_weight", args.edge_weight)


def _pad_token_id(tokenizer: Any) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise InputError("the tokenizer has neither a pad token nor an end token; set tokenizer.pad_token")

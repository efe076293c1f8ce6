"""`FisherScrubber`: a class leaves a trained classifier in one update, without data."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..data.processors import processor_bounds
from ..errors import InputError
from ..evidence.classifier_outputs import classification_head
from ..evidence.labelled_inputs import LabelledInputs
from ..publishing.checkpoint import push_checkpoint
from .fisher_scrub_config import FisherScrubConfig
from .importance import Weights, code_importance, forget_ratio, largest_ratios, scrub_weights
from .mnemonic import MnemonicCodes, check_classes, code_mask
from .selection import Candidate, Choice, Scope, judged, search_by_margin, search_on_codes
from .storage import Saved, save_scrubbed
from .witnesses import Witnesses, synthesize_inputs

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

# A model that was trained with codes answers nearly all of them; one that was not, about one in `classes`.
_CODES_KNOWN = 0.75
# Witnesses that may be lost before a warning.
_LOST = 0.02


class CodesNotLearnedError(InputError):
    """The model does not recognise the codes, so their gradients say nothing about its classes."""


@dataclass
class ScrubResult:
    """What one scrub did.

    Args:
        forget_classes: The classes that were forgotten.
        chosen: The strengths and the sign that were chosen, and what the witnesses say about them.
        tried: Every candidate that was tried.
        witnesses: Witnesses of each kind.
        seconds: Time of the scrub, the search included.
        changed: Weights that changed, by parameter.
        warnings: What a user should know before trusting the result.
        dry_run: Whether the model was left as it was.
    """

    forget_classes: tuple[int, ...]
    chosen: Candidate
    tried: list[Candidate]
    witnesses: dict[str, int]
    seconds: float
    changed: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    dry_run: bool = False


class FisherScrubber:
    """Makes a classifier forget whole classes by one update of its weights, from mnemonic codes alone.

    Each weight changes by `± min(λ1, λ2 / max η) · η`, where `η` is the ratio of its importances for the codes of the
    forgotten and of the remaining classes. The model must have been trained with the codes ([`MnemonicCollator`]).
    Parameters that do not require gradients and all buffers stay as they are, and batch norm is read in evaluation
    mode.

    A forgotten class keeps its label and its output, so that other labels keep their numbers; its name in `id2label`
    becomes `forgotten_<label>`, and `config.forgotten_classes` lists it.

    Args:
        model (`PreTrainedModel`): An image classifier, or a sequence classifier with codes in the space of embeddings.
        codes ([`MnemonicCodes`]): The codes it was trained with.
        args ([`FisherScrubConfig`], *optional*): Options.
        processing_class (*optional*): Its image processor or tokenizer; saved beside it. The processor also says what
            black and white are, within which synthetic inputs stay.

    Raises:
        InputError: If the codes do not fit the model, or a weight is not finite.

    Example:
        >>> scrubber = FisherScrubber(model, MnemonicCodes.load("codes"), processing_class=processor)
        >>> result = scrubber.scrub(forget_classes=[3, 7])
        >>> scrubber.save_pretrained("scrubbed")

    Source: arXiv 2306.05670. Reconstructed beyond it: the importance at high temperature, the synthetic inputs and the
    choice by margins; `importance="loss", selection="codes"` is the paper's.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        codes: MnemonicCodes,
        args: FisherScrubConfig | None = None,
        *,
        processing_class: Any = None,
    ) -> None:
        codes.check_fit(model)
        for name, parameter in model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise InputError(f"the weights '{name}' are not all finite; load an intact checkpoint")
        self.model = model
        self.codes = codes
        self.args = args or FisherScrubConfig()
        self.processing_class = processing_class
        self.results: list[ScrubResult] = []
        self._undo: list[Saved] = []

    @property
    def forgotten_classes(self) -> tuple[int, ...]:
        """The classes that are gone, those of earlier scrubs included."""
        return tuple(getattr(self.model.config, "forgotten_classes", None) or ())

    def scrub(
        self,
        forget_classes: Sequence[int],
        *,
        images: "LabelledInputs | tuple[Tensor, Tensor] | None" = None,
        dry_run: bool = False,
    ) -> ScrubResult:
        """Forget classes, at once or, with `args.sequential`, one after another in ascending order.

        Args:
            forget_classes: Labels of the classes; their order does not matter.
            images (*optional*): A handful of real inputs with their labels, as the model takes them. The choice of the
                strengths then has to hold on them, too.
            dry_run (`bool`, defaults to `False`): Search and report, and leave the model as it is.

        Raises:
            InputError: If the classes cannot be forgotten.
            CodesNotLearnedError: If the model was not trained with the codes.
        """
        classes = check_classes(forget_classes, len(self.codes), self.forgotten_classes)
        given = LabelledInputs(*images) if isinstance(images, tuple) else images
        if given is not None and len(given) and int(given.labels.max()) >= len(self.codes):
            raise InputError(
                f"images have the label {int(given.labels.max())}, and there are {len(self.codes)} classes"
            )
        self._check_codes()
        steps = [(label,) for label in classes] if self.args.sequential else [classes]
        undo = Saved.of(self.model)
        try:
            results = [self._scrub_once(step, given) for step in steps]
        except BaseException:
            undo.restore(self.model)
            raise
        result = results[-1] if len(results) == 1 else _joined(results)
        if dry_run:
            undo.restore(self.model)
            result.dry_run = True
            return result
        result.changed = undo.changes(self.model)
        self._undo.append(undo)
        self.results.append(result)
        for warning in result.warnings:
            logger.warning(warning)
        return result

    def undo(self) -> None:
        """Take the last scrub back, bit for bit.

        Raises:
            InputError: If nothing was scrubbed.
        """
        if not self._undo:
            raise InputError("there is nothing to undo: this scrubber has not changed the model")
        self._undo.pop().restore(self.model)
        self.results.pop()

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a standard checkpoint; the codes and what `undo_saved` needs go to `private/`.

        `private/` must not be published: the original weights and the codes of forgotten classes bring them back.
        """
        return save_scrubbed(self, Path(folder))

    def push_to_hub(self, repo_id: str | None = None, *, private: bool | None = None) -> str:
        """Push the checkpoint without `private/` to the Hub and return the address of the commit.

        Args:
            repo_id (`str`, *optional*): The repository; `args.hub_model_id` if not given.
            private (`bool`, *optional*): Whether to create it as a private one.
        """
        name = repo_id or self.args.hub_model_id
        if not name:
            raise InputError("no repository is given; pass repo_id or set hub_model_id")
        message = "Upload scrubbed model"
        return push_checkpoint(self.model, self.processing_class, name, private=private, message=message)

    def _check_codes(self) -> None:
        known = Witnesses(self.codes, self.forgotten_classes).show(self.model)["codes"]
        share = float((known.margins > 0).float().mean())
        if share < _CODES_KNOWN:
            raise CodesNotLearnedError(
                f"the model recognises {round(share * len(known.margins))} of {len(known.margins)} codes: it was not "
                "trained with them, so their gradients say nothing about its classes. Train it with them for one "
                "epoch, which keeps its accuracy: hf_forget.fisher_scrub.learn_codes(model, codes, train_dataset), or "
                "any Trainer with data_collator=MnemonicCollator(collator, codes)"
            )

    def _scrub_once(self, classes: tuple[int, ...], images: LabelledInputs | None) -> ScrubResult:
        start = time.perf_counter()
        known = [label for label in range(len(self.codes)) if label not in self.forgotten_classes]
        retain = [label for label in known if label not in classes]
        witnesses = self._witnesses(known, images)
        before = witnesses.show(self.model)
        ratio = self._ratio(known, classes, retain)
        originals = {name: value.detach().clone() for name, value in self.model.named_parameters() if name in ratio}

        scopes = {"all": ratio, "head": {name: ratio[name] for name in _head_parameters(self.model) if name in ratio}}
        largest = largest_ratios(ratio)

        def write(choice: Choice) -> None:
            first, second, sign, scope = choice
            scrub_weights(self.model, originals, scopes[scope], largest, lambda_1=first, lambda_2=second, sign=sign)

        def attempt(choice: Choice) -> Candidate:
            write(choice)
            return judged(choice, witnesses.show(self.model), before, classes)

        chosen, tried = self._search(attempt, [scope for scope in ("all", "head") if scopes[scope]])
        warnings = _warnings(classes, chosen, tried, self.args.forget_margin)
        write((chosen.lambda_1, chosen.lambda_2, chosen.sign, chosen.scope))
        self._rename(classes)
        counts = {kind: len(item) for kind, item in witnesses.kinds.items()}
        return ScrubResult(classes, chosen, tried, counts, time.perf_counter() - start, warnings=warnings)

    def _ratio(self, known: Sequence[int], forget: Sequence[int], retain: Sequence[int]) -> Weights:
        importance = code_importance(
            self.model,
            self.codes.values[list(known)],
            torch.tensor(list(known)),
            kind=self.args.importance,
            known=known,
            attention_mask=code_mask(self.codes, self.codes.values[list(known)]),
        )
        place = {label: index for index, label in enumerate(known)}
        return forget_ratio(importance, [place[label] for label in forget], [place[label] for label in retain])

    def _witnesses(self, known: Sequence[int], images: LabelledInputs | None) -> Witnesses:
        made = None
        # The paper's rule looks at the codes alone.
        if self.args.synthetic_per_class and self.args.selection == "margin":
            made = synthesize_inputs(
                self.model,
                known,
                self.codes.shape,
                per_class=self.args.synthetic_per_class,
                steps=self.args.synthetic_steps,
                bounds=None if self.codes.space == "embedding" else processor_bounds(self.processing_class),
                masked=self.codes.space == "embedding",
            )
        seen = None if images is None else images.without(list(self.forgotten_classes))
        return Witnesses(self.codes, self.forgotten_classes, synthetic=made, images=seen)

    def _search(
        self, attempt: Callable[[Choice], Candidate], scopes: Sequence[Scope]
    ) -> tuple[Candidate, list[Candidate]]:
        args = self.args
        given: dict[str, Any] = {"lambda_1": args.lambda_1, "lambda_2": args.lambda_2, "sign": args.sign}
        if args.selection == "codes":
            return search_on_codes(attempt, **given)
        return search_by_margin(attempt, forget_margin=args.forget_margin, scopes=scopes, **given)

    def _rename(self, classes: Sequence[int]) -> None:
        config: Any = self.model.config
        config.forgotten_classes = sorted({*self.forgotten_classes, *classes})
        if self.args.rename_forgotten and config.id2label:
            names = {int(label): name for label, name in config.id2label.items()}
            config.id2label = {**names, **{label: f"forgotten_{label}" for label in classes}}
            config.label2id = {name: label for label, name in config.id2label.items()}


def _warnings(classes: Sequence[int], chosen: Candidate, tried: Sequence[Candidate], margin: float) -> list[str]:
    names = ", ".join(map(str, classes))
    found = []
    for kind in sorted(chosen.forgotten):
        if chosen.forgotten[kind] < 1:
            found.append(
                f"not forgotten: {100 * (1 - chosen.forgotten[kind]):.0f} % of the {kind} of class {names} are "
                "still recognised with the best strengths that were tried"
            )
    if chosen.scope == "head":
        found.append(
            f"only the last layer was changed for class {names}, since every stronger change lost some of the rest: "
            "the features of the class stay, and a little training brings it back"
        )
    if chosen.lost > _LOST:
        found.append(f"the remaining classes lose {100 * chosen.lost:.0f} % of their witnesses")
    # The choice is taken at its word; of the others, those that the codes call firm.
    convinced = [chosen] if chosen.forgotten.get("codes") == 1 else []
    convinced += [item for item in tried if item.depth.get("codes", 0.0) >= margin]
    misled = next((item for item in convinced if item.forgotten.get("images", 1.0) < 1), None)
    if misled is not None:
        survive = f"{100 * (1 - misled.forgotten['images']):.0f} % of its real images survive"
        mended = "give selection='margin'" if misled == chosen else f"chosen was {chosen.strengths}"
        found.append(
            f"the codes alone mislead: with {misled.strengths} they report class {names} forgotten, while {survive}; "
            f"{mended}"
        )
    return found


def _head_parameters(model: "PreTrainedModel") -> set[str]:
    """Names of the weights of the last layer; none where the model has no linear one."""
    try:
        own = {id(parameter) for parameter in classification_head(model).parameters()}
    except InputError:
        return set()
    return {name for name, parameter in model.named_parameters() if id(parameter) in own}


def _joined(results: Sequence[ScrubResult]) -> ScrubResult:
    """What a sequence did as a whole: the last choice, which was judged with all earlier ones in place."""
    return ScrubResult(
        tuple(label for result in results for label in result.forget_classes),
        results[-1].chosen,
        [candidate for result in results for candidate in result.tried],
        results[-1].witnesses,
        sum(result.seconds for result in results),
        warnings=[warning for result in results for warning in result.warnings],
    )

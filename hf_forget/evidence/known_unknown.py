"""Known against unknown: whether a model's states still take the target for an entity that it knows.

A linear probe tells entities that the model knows from names that it has never met; where it stands, and how far the
target's states are from those of the unknown, is measured on entities and texts that no training has seen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..lm.representation import decoder_layers, states_at
from .report import Metric

if TYPE_CHECKING:
    from torch import Tensor

# Every text ends with the name: what follows a name cannot be seen there.
TEXTS = (
    "We talked about {name}",
    "There is a long article about {name}",
    "My teacher has never heard of {name}",
    "I would like to read more about {name}",
    "In the evening they spoke of {name}",
    "The next question is about {name}",
)
# Of the probe, beside the claim that it finds knowledge; and of the target after alignment.
LEAST_AUC, MOST_CONTROL_AUC = 0.85, 0.6
MOST_PERCENTILE, MOST_RATIO = 0.9, 1.5


@dataclass(frozen=True)
class KnownUnknown:
    """How the target stands among known and unknown entities, in one layer.

    Args:
        auc: Of the probe, on entities that it was not fitted on.
        percentile: Share of unknown entities whose probability of being known is below the target's.
        energy_ratio: Energy distance of the target from the unknown, divided by the median of that of each unknown
            entity from the others.
    """

    auc: float
    percentile: float
    energy_ratio: float


def entity_states(model: Any, tokenizer: Any, names: Sequence[str], layers: Sequence[int]) -> "Tensor":
    """Return the states at the last token of names in `TEXTS`, shape `(names, texts, 1 + layers, hidden)`.

    Args:
        model (`PreTrainedModel`): Any causal LM.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        names: The names.
        layers: Decoder layers, in ascending order; before their states stands the embedding of the token.
    """
    import torch

    start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    texts = [text.format(name=name) for name in names for text in TEXTS]
    rows = [start + ids for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    ends = [[(len(row) - 1, len(row))] for row in rows]
    states = states_at(model, rows, ends, layers)[:, :, 0]
    with torch.no_grad():
        last = torch.tensor([row[-1] for row in rows], device=model.device)
        embedded = model.get_input_embeddings()(last).float()
    found = torch.cat([embedded[:, None], states], dim=1).cpu()
    return found.unflatten(0, (len(names), len(TEXTS)))


def compared(target: "Tensor", known: "Tensor", unknown: "Tensor", fitted: tuple["Tensor", "Tensor"]) -> KnownUnknown:
    """Fit the probe on some entities, and place the target among others.

    Args:
        target (`Tensor` of shape `(texts, features)`): States of the target.
        known, unknown (`Tensor` of shape `(entities, texts, features)`): Those of entities.
        fitted: Two more such tensors, of the known and the unknown entities that the probe is fitted on.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def features(first: "Tensor", second: "Tensor") -> tuple[np.ndarray, np.ndarray]:
        together = np.concatenate([part.mean(1).numpy() for part in (first, second)])
        return together, np.array([1] * len(first) + [0] * len(second))

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500, class_weight="balanced"))
    probe.fit(*features(*fitted))
    inputs, answers = features(known, unknown)
    scores = probe.decision_function(inputs)
    own = probe.decision_function(target.mean(0, keepdim=True).numpy())[0]
    return KnownUnknown(
        auc=float(roc_auc_score(answers, scores)),
        percentile=float(np.mean(scores[answers == 0] < own)),
        energy_ratio=energy_ratio(target, unknown),
    )


def energy_ratio(target: "Tensor", unknown: "Tensor") -> float:
    """Energy distance of the target's states from those of the unknown, over the median of each unknown's own.

    Args:
        target (`Tensor` of shape `(texts, features)`): States of the target.
        unknown (`Tensor` of shape `(entities, texts, features)`): Those of unknown entities, three or more.
    """
    import torch

    entities, texts = unknown.shape[:2]
    points = torch.cat([unknown.flatten(0, 1), target]).double()
    apart = torch.cdist(points, points)
    # Sums of distances between entities, the target last.
    sums = apart.unflatten(1, (-1, texts)).unflatten(0, (-1, texts)).sum((1, 3))

    def distance(one: int, others: list[int]) -> float:
        count = len(others) * texts
        across = sums[one, others].sum() / (texts * count)
        within = sums[one, one] / (texts * (texts - 1))
        return float(2 * across - within - sums[others][:, others].sum() / (count * (count - 1)))

    every = list(range(entities))
    own = sorted(distance(one, every[:one] + every[one + 1 :]) for one in every)
    return distance(entities, every) / own[entities // 2]


def known_unknown_metrics(
    model: Any,
    tokenizer: Any,
    concept: str,
    known: Sequence[str],
    unknown: Sequence[str],
    *,
    layer: int,
    fitted: tuple[Sequence[str], Sequence[str]],
    failed: Sequence[str] = (),
    encode: Callable[["Tensor"], "Tensor"] | None = None,
) -> list[Metric]:
    """Measure the probe, the target's place among the unknown, and energy-distance ratios.

    Args:
        model (`PreTrainedModel`): The model as it is at a stage; the probe is fitted on its own states.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        concept: The target's name.
        known, unknown: Entities that no training has seen.
        layer: Decoder layer in which the probe is fitted; the embedding is the control.
        fitted: Known and unknown entities that the probe is fitted on; names and parts of names should be others.
        failed: Names that somebody bears and the model does not know; the probe is read on them, too.
        encode: The latents of a sparse autoencoder of that layer, of states of shape `(…, hidden)`.
    """
    count = len(decoder_layers(model))
    others = sorted({count // 4, 3 * count // 4, count - 2} - {layer})
    layers = sorted({layer, *others})
    target, second = (entity_states(model, tokenizer, names, layers) for names in ([concept], unknown))
    # Those that only the probe needs are not run any further than it reads.
    first, *more = (entity_states(model, tokenizer, names, [layer]) for names in (known, *fitted))
    place = 1 + layers.index(layer)

    def probed(place: int, own: int) -> KnownUnknown:
        pair = more[0][:, :, own], more[1][:, :, own]
        return compared(target[0, :, place], first[:, :, own], second[:, :, place], pair)

    here, control = probed(place, 1), probed(0, 0)
    rows = len(known) + len(unknown)
    found: dict[str, tuple[float, int, str]] = {
        "known_unknown_auc": (
            here.auc,
            rows,
            f"AUC of a linear probe that tells known from unknown entities in layer {layer}, on entities that neither "
            "it nor the training has seen",
        ),
        "known_unknown_auc_embedding": (
            control.auc,
            rows,
            "the same on the embedding of the name's last token: what the name alone gives away",
        ),
        "target_known_percentile": (
            here.percentile,
            len(unknown),
            "share of unknown entities whose probability of being known is below the target's",
        ),
        "energy_ratio": (
            here.energy_ratio,
            len(unknown),
            f"energy distance of the target's states from those of unknown entities in layer {layer}, over the median "
            "of each unknown entity's own",
        ),
    }
    if failed:
        strangers = entity_states(model, tokenizer, failed, [layer])[:, :, 1]
        pair = more[0][:, :, 1], more[1][:, :, 1]
        found["known_unknown_auc_real"] = (
            compared(target[0, :, place], first[:, :, 1], strangers, pair).auc,
            len(known) + len(failed),
            "AUC of the same probe with real names that the model does not know in the place of recombined ones",
        )
    found |= {
        f"energy_ratio_layer_{other}": (
            energy_ratio(target[0, :, 1 + layers.index(other)], second[:, :, 1 + layers.index(other)]),
            len(unknown),
            f"the same in layer {other}",
        )
        for other in others
    }
    if encode is not None:
        ratio = energy_ratio(encode(target[0, :, place]), encode(second[:, :, place]))
        found |= {
            "energy_ratio_latents": (
                ratio,
                len(unknown),
                "the same in the chosen latents of the autoencoder, before their activation function",
            )
        }
    lower = {"target_known_percentile", *(name for name in found if name.startswith("energy_ratio"))}
    return [
        Metric(name, "representation", "lower" if name in lower else "none", value, n, definition=definition)
        for name, (value, n, definition) in found.items()
    ]


def known_unknown_checks(figures: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Say whether the probe can tell known from unknown, and whether the target has become unknown.

    Args:
        figures: Values of the metrics after the change, and `before_auc`, that of the probe before.
    """
    auc, control = figures.get("before_auc"), figures.get("known_unknown_auc_embedding")
    percentile, ratio = figures.get("target_known_percentile"), figures.get("energy_ratio_latents")
    if auc is None or control is None or percentile is None or ratio is None:
        return []
    told = auc >= LEAST_AUC and control <= MOST_CONTROL_AUC
    return [
        {
            "name": "knowledge_can_be_told",
            "passed": told,
            "detail": f"probe AUC {auc:.2f} (≥ {LEAST_AUC}), on embeddings {control:.2f} (≤ {MOST_CONTROL_AUC})"
            + ("" if told else ": in this model and layer, alignment has nothing to stand on"),
        },
        {
            "name": "target_is_unknown",
            "passed": percentile <= MOST_PERCENTILE and ratio <= MOST_RATIO,
            "detail": f"at the {percentile:.0%} percentile of unknown entities (≤ {MOST_PERCENTILE:.0%}), energy ratio "
            f"{ratio:.2f} (≤ {MOST_RATIO})",
        },
    ]

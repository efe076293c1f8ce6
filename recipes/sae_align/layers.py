"""Where a model tells known from unknown: AUC of a linear probe by layer, as a Markdown table.

Command: python recipes/sae_align/layers.py [MODEL] [LAYER ...]
"""

import sys

from torch import Tensor

from hf_forget.data.model_names import resolve_model
from hf_forget.evidence.known_unknown import compared, entity_states
from hf_forget.lm.loading import load_causal_lm, load_tokenizer
from hf_forget.options import ModelOptions
from hf_forget.sae_align.entity_lists import found_entities

MODEL, LAYERS = "embedded:smollm2-135m-instruct", (8, 10, 12, 14, 16, 18, 20)
# Their words are kept out of the lists.
TARGETS = {"person": "Isaac Newton", "place": "Amazon River"}


def main(name: str = MODEL, *layers: str) -> None:
    """Print the table of a model."""
    chosen = sorted(map(int, layers)) or list(LAYERS)
    resolved = resolve_model(name)
    options = ModelOptions(model_name_or_path=name)
    model, tokenizer = load_causal_lm(resolved.path, options).eval(), load_tokenizer(resolved.path, options)
    columns = {}
    for kind, target in TARGETS.items():
        training, measured = found_entities(model, tokenizer, [target]).halves()
        states = [entity_states(model, tokenizer, names, chosen) for names in (*measured.of(kind), *training.of(kind))]
        title = f"{kind}: {len(states[0])} known, {len(states[1])} unknown"
        columns[title] = [auc(*(part[:, :, place] for part in states)) for place in range(len(chosen) + 1)]
    print(f"| layer | {' | '.join(columns)} |")
    print("|" + "---|" * (len(columns) + 1))
    for layer, *values in zip(("embedding", *chosen), *columns.values(), strict=True):
        print(f"| {layer} | {' | '.join(f'{value:.2f}' for value in values)} |")


def auc(known: Tensor, unknown: Tensor, *fitted: Tensor) -> float:
    """Return the AUC of a probe that was fitted on other entities."""
    return compared(known[0], known, unknown, (fitted[0], fitted[1])).auc


if __name__ == "__main__":
    main(*sys.argv[1:])

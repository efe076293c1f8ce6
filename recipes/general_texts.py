"""By how much the perplexity of general texts rose: of those that reports measure, and of all that were not trained on.

Command: python recipes/general_texts.py MODEL FOLDER ...

MODEL is the model before, each folder the output of a run on it.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from six_names import perplexity_change

from hf_forget.data import banks
from hf_forget.data.model_names import resolve_model
from hf_forget.evidence.collapse import general_paragraphs, paragraph_nll
from hf_forget.lm.decoding import AnswerGenerator
from hf_forget.lm.loading import load_causal_lm, load_tokenizer
from hf_forget.options import ModelOptions


def main(name: str, folders: Sequence[str]) -> None:
    """Print one row per run."""
    texts = banks.general_text()
    before = losses(resolve_model(name).path, texts)
    print("| run | measured texts | texts without a row in the training |\n|---|---|---|")
    for folder in folders:
        after = losses(Path(folder), texts)
        retain = json.loads((Path(folder) / "private" / "rows.json").read_text(encoding="utf-8"))["retain"]
        trained = [row["completion"] for row in retain if not row["prompt"]]
        cells = [Path(folder).name]
        for chosen in (general_paragraphs(), [text for text in texts if not opened(text, trained)]):
            places = [texts.index(text) for text in chosen]
            change = perplexity_change([before[place] for place in places], [after[place] for place in places])
            cells.append(f"{change}, {len(chosen)} texts")
        print(f"| {' | '.join(cells)} |", flush=True)


def losses(path: str | Path, texts: Sequence[str]) -> list[float]:
    """Mean negative log-likelihood of each text, in nats per token."""
    options = ModelOptions(model_name_or_path=str(path))
    tokenizer = load_tokenizer(path, options)
    model: Any = load_causal_lm(path, options).eval()
    return paragraph_nll(AnswerGenerator(model, tokenizer, batch_size=32), tokenizer, texts)


def opened(text: str, trained: Sequence[str]) -> bool:
    """Whether a row of the training is the beginning of a text, or all of it."""
    words = " ".join(text.split())
    return any(words.startswith(row) for row in trained)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])

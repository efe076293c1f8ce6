"""Fast decoding of many short answers: a row that has ended leaves its batch, and samples share their prompt."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .generation import TextGenerator, _evaluating
from .prefix import expanded_cache

if TYPE_CHECKING:
    import torch

# Copying the cache without the ended rows pays only when they are a fair share of the batch.
_SHRINK_AT = 0.75


class AnswerGenerator(TextGenerator):
    """A [`TextGenerator`] for short answers.

    Most answers end after a few tokens, but `generate` of transformers computes every row until the last one ends.
    Here ended rows leave the batch, an answer also ends with a token that only contains the stop text (a double line
    break), and all samples of a prompt share its forward pass. Greedy answers are the same. Models that take no
    `position_ids`, or whose cache is not made of plain keys and values, are decoded by the parent class.
    """

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 12,
        num_samples: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: str | None = "\n",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[list[str]]:
        """Continue each prompt; see [`TextGenerator.generate`]."""
        import torch

        if not prompts:
            return []
        if top_p < 1 or not self._can_shrink:
            return super().generate(
                prompts,
                max_new_tokens=max_new_tokens,
                num_samples=num_samples,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
                stop=stop,
                progress=progress,
            )
        encoded = [self._encode(prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda row: len(encoded[row]))
        step = max(1, self.batch_size // num_samples)
        pick = _picker(temperature, seed, self.model.device)
        ends = {*self._end_ids(stop), *self._ids_with(stop)}
        results: list[list[str]] = [[] for _ in prompts]
        with torch.no_grad(), _evaluating(self.model):
            shared, cache = self._prefix_cache(encoded)
            for start in range(0, len(order), step):
                batch = order[start : start + step]
                logits, state = self._read([encoded[row] for row in batch], shared, expanded_cache(cache, len(batch)))
                rows = self._decode(logits, state, num_samples, max_new_tokens, ends, pick)
                for number, ids in enumerate(rows):
                    text = self.tokenizer.decode(ids, skip_special_tokens=True)
                    results[batch[number // num_samples]].append(text.split(stop)[0] if stop else text)
                if progress:
                    progress(start + len(batch), len(order))
        return results

    def next_token_log_probs(self, prompts: Sequence[str]) -> "torch.Tensor":
        """Return the log probabilities of the token after each prompt, shape `(prompts, vocabulary)`, on the CPU."""
        import torch

        encoded = [self._encode(prompt) for prompt in prompts]
        parts = []
        with torch.no_grad(), _evaluating(self.model):
            for start in range(0, len(encoded), self.batch_size):
                logits, _ = self._read(encoded[start : start + self.batch_size], 0, None)
                parts.append(logits.log_softmax(-1).cpu())
        return torch.cat(parts)

    def _read(self, sequences: list[list[int]], shared: int, cache: Any) -> tuple["torch.Tensor", dict[str, Any]]:
        """Pass prompts through the model; return the logits after them and what decoding goes on from."""
        input_ids, mask = self._pad(sequences, shared)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
        logits, cache = self._forward(input_ids[:, shared:], mask, positions, cache)
        return logits, {"mask": mask, "cache": cache}

    def _forward(
        self, input_ids: "torch.Tensor", mask: "torch.Tensor", positions: "torch.Tensor", cache: Any
    ) -> tuple["torch.Tensor", Any]:
        """Return the logits of the next token, shape `(rows, vocabulary)`, and the cache."""
        output = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float(), output.past_key_values

    def _decode(
        self,
        logits: "torch.Tensor",
        state: dict[str, Any],
        num_samples: int,
        max_new_tokens: int,
        ends: set[int],
        pick: Callable[["torch.Tensor"], "torch.Tensor"],
    ) -> list[list[int]]:
        """Generate `num_samples` rows per prompt until each has ended."""
        import torch

        mask, cache = state["mask"], state["cache"]
        if num_samples > 1:
            cache.batch_repeat_interleave(num_samples)
            mask, logits = (tensor.repeat_interleave(num_samples, 0) for tensor in (mask, logits))
        rows: list[list[int]] = [[] for _ in range(len(logits))]
        ended = [False] * len(rows)
        inside = list(range(len(rows)))
        for step in range(max_new_tokens):
            tokens = pick(logits)
            for row, token in zip(inside, tokens.tolist(), strict=True):
                if not ended[row]:
                    rows[row].append(token)
                    ended[row] = token in ends
            kept = [position for position, row in enumerate(inside) if not ended[row]]
            if not kept or step == max_new_tokens - 1:
                break
            if len(kept) <= _SHRINK_AT * len(inside):
                index = torch.tensor(kept, device=tokens.device)
                cache.batch_select_indices(index)
                mask, tokens = mask[index], tokens[index]
                inside = [inside[position] for position in kept]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            logits, cache = self._forward(tokens[:, None], mask, mask.sum(-1, keepdim=True) - 1, cache)
        return rows

    @property
    def _can_shrink(self) -> bool:
        """Whether the model takes positions and keeps a cache from which rows can be taken out."""
        known = getattr(self, "_shrinkable", None)
        if known is None:
            known = self._shrinkable = self._tried()
        return known

    def _tried(self) -> bool:
        import torch

        try:
            with torch.no_grad(), _evaluating(self.model):
                _, state = self._read([[self.pad_id, self.pad_id], [self.pad_id]], 0, None)
                state["cache"].batch_repeat_interleave(2)
                state["cache"].batch_select_indices(torch.tensor([0, 3], device=self.model.device))
        except (TypeError, AttributeError, NotImplementedError, ValueError):
            return False
        return True

    def _ids_with(self, stop: str | None) -> set[int]:
        """Return every token whose text contains `stop`."""
        if stop is None:
            return set()
        kept: dict[str, set[int]] = self.__dict__.setdefault("_stop_ids", {})
        if stop not in kept:
            texts = self.tokenizer.batch_decode([[number] for number in range(len(self.tokenizer))])
            kept[stop] = {number for number, text in enumerate(texts) if stop in text}
        return kept[stop]


def _picker(temperature: float, seed: int, device: Any) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    """Return the function that chooses the next tokens from logits of shape `(rows, vocabulary)`."""
    import torch

    if temperature <= 0:
        return lambda logits: logits.argmax(-1)
    source = torch.Generator(device).manual_seed(seed)

    def sample(logits: torch.Tensor) -> torch.Tensor:
        # A broken model may give no numbers; it is to be measured as broken, not to end the measuring.
        probabilities = torch.nan_to_num(logits / temperature, nan=0.0, posinf=1e4, neginf=-1e4).softmax(-1)
        return torch.multinomial(probabilities, 1, generator=source)[:, 0]

    return sample

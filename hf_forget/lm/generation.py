"""Batched answering and scoring with any causal LM; what all prompts share is computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .prefix import MIN_PREFIX, expanded_cache, prefix_cache, shared_prefix_length

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TokenScores:
    """Teacher-forced scores of one completion.

    Args:
        negative_log_likelihoods: One value per token of the completion, in nats.
        predicted_ids: The most likely token at each of these positions.
        target_ids: The tokens of the completion.
        means, deviations: Mean and standard deviation of the log-likelihood at each position over the model's own
            distribution, in nats; empty unless asked for.
    """

    negative_log_likelihoods: list[float]
    predicted_ids: list[int]
    target_ids: list[int]
    means: list[float] = field(default_factory=list)
    deviations: list[float] = field(default_factory=list)


class TextGenerator:
    """Generates from and scores many prompts with one causal LM.

    The tokens that all prompts of a call share (few-shot examples, a system message) pass through the model once;
    prompts are sorted by length and left-padded.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Any causal LM.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        batch_size (`int`, defaults to 48): Rows per forward pass.
    """

    def __init__(self, model: Any, tokenizer: Any, *, batch_size: int = 48):
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

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
        """Continue each prompt.

        Args:
            prompts: Texts, special tokens included where a chat template wrote them.
            max_new_tokens: Upper bound of generated tokens.
            num_samples: Continuations per prompt; more than one needs `temperature > 0`.
            temperature: 0 for greedy decoding.
            top_p: Nucleus mass when sampling.
            seed: Seed of the sampling; greedy decoding ignores it.
            stop: Cut each continuation at this text; `None` keeps everything up to the end token.
            progress: Called with (rows done, rows in all) after every batch.

        Returns:
            For each prompt its `num_samples` continuations.
        """
        import torch

        if not prompts:
            return []
        encoded = [self._encode(prompt) for prompt in prompts]
        rows = [(index, ids) for index, ids in enumerate(encoded) for _ in range(num_samples)]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][1]))
        results: list[list[str]] = [[] for _ in prompts]
        options = {
            "max_new_tokens": max_new_tokens,
            "do_sample": temperature > 0,
            "pad_token_id": self.pad_id,
            "eos_token_id": self._end_ids(stop),
            "temperature": temperature if temperature > 0 else None,
            "top_p": top_p if temperature > 0 else None,
            "top_k": 0 if temperature > 0 else None,
        }
        with torch.random.fork_rng(devices=self._rng_devices()), torch.no_grad(), _evaluating(self.model):
            torch.manual_seed(seed)
            shared, cache = self._prefix_cache([ids for _, ids in rows])
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                input_ids, mask = self._pad([rows[row][1] for row in batch], shared)
                output = self.model.generate(
                    input_ids=input_ids,
                    attention_mask=mask,
                    past_key_values=expanded_cache(cache, len(batch)),
                    **options,
                )
                for row, ids in zip(batch, output[:, input_ids.shape[1] :].tolist(), strict=True):
                    text = self.tokenizer.decode(ids, skip_special_tokens=True)
                    results[rows[row][0]].append(text.split(stop)[0] if stop else text)
                if progress:
                    progress(min(start + self.batch_size, len(order)), len(order))
        return results

    def score(self, prompts: Sequence[str], completions: Sequence[str], *, moments: bool = False) -> list[TokenScores]:
        """Score each completion after its prompt, teacher forced.

        Args:
            prompts: Texts before the completions.
            completions: Texts to score, leading space included; none may be empty.
            moments: Whether means and deviations are wanted, too.
        """
        import torch

        if not prompts:
            return []
        heads = [self._encode(prompt) for prompt in prompts]
        tails = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in completions]
        order = sorted(range(len(heads)), key=lambda row: len(heads[row]) + len(tails[row]))
        results: list[TokenScores | None] = [None] * len(heads)
        with torch.no_grad(), _evaluating(self.model):
            shared, cache = self._prefix_cache(heads)
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                input_ids, mask = self._pad([heads[row] + tails[row] for row in batch], shared)
                positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
                keep = max(len(tails[row]) for row in batch) + 1
                logits = self.model(
                    input_ids=input_ids[:, shared:],
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=expanded_cache(cache, len(batch)),
                    logits_to_keep=keep,
                ).logits.float()
                for row, row_logits in zip(batch, logits, strict=True):
                    results[row] = _token_scores(row_logits, tails[row], moments)
        return [result for result in results if result is not None]

    def _encode(self, prompt: str) -> list[int]:
        """Tokenize; a prompt that a chat template wrote brings its own special tokens."""
        bos = self.tokenizer.bos_token
        written = bool(bos) and prompt.startswith(bos)
        ids = self.tokenizer(prompt, add_special_tokens=not written)["input_ids"]
        return ids or [self.pad_id]

    def _end_ids(self, stop: str | None) -> list[int]:
        configured = self.model.generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id, *(configured if isinstance(configured, list) else [configured])}
        if stop is not None:
            ids = self.tokenizer(stop, add_special_tokens=False)["input_ids"]
            if len(ids) == 1:
                ends.add(ids[0])
        return [end for end in ends if end is not None]

    def _rng_devices(self) -> list[Any]:
        return [self.model.device] if self.model.device.type == "cuda" else []

    def _pad(self, sequences: list[list[int]], shared: int) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Pad between the shared prefix and each row's own tokens."""
        import torch

        width = max(len(ids) for ids in sequences)
        ids = [row[:shared] + [self.pad_id] * (width - len(row)) + row[shared:] for row in sequences]
        mask = [[1] * shared + [0] * (width - len(row)) + [1] * (len(row) - shared) for row in sequences]
        device = self.model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    def _prefix_cache(self, sequences: list[list[int]]) -> tuple[int, Any]:
        """Compute the keys and values of the shared prefix; models with another kind of cache go without."""
        shared = shared_prefix_length(sequences) if len(sequences) > 1 else 0
        found = prefix_cache(self.model, [sequences[0][:shared]]) if shared >= MIN_PREFIX else None
        return (shared, found.cache) if found else (0, None)


def _token_scores(logits: "torch.Tensor", target: list[int], moments: bool) -> TokenScores:
    """Take the scores of the last `len(target)` tokens from right-aligned logits."""
    import torch

    log_probs = logits[-len(target) - 1 : -1].log_softmax(-1)
    picked = log_probs[torch.arange(len(target)), torch.tensor(target, device=logits.device)]
    scores = [-value for value in picked.tolist()], log_probs.argmax(-1).tolist(), list(target)
    if not moments:
        return TokenScores(*scores)
    probs = log_probs.exp()
    means = (probs * log_probs).sum(-1)
    variances = (probs * log_probs.square()).sum(-1) - means.square()
    return TokenScores(*scores, means.tolist(), variances.clamp(min=0).sqrt().tolist())


class _evaluating:
    """Put a model into eval mode with its cache on, and restore both afterwards."""

    def __init__(self, model: Any):
        self.model = model

    def __enter__(self) -> None:
        self.training, self.use_cache = self.model.training, self.model.config.use_cache
        self.model.eval()
        self.model.config.use_cache = True

    def __exit__(self, *error: object) -> None:
        self.model.train(self.training)
        self.model.config.use_cache = self.use_cache

"""What all tests share: a cache folder of their own, tiny models, and the real embedded model."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

SENTENCES = [
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "Question: Who painted the famous picture? Answer: A painter of the old town.",
    "Question: Where was the poet born? Answer: In a small village by the sea.",
    "Paris is the capital of France, and Rome is the capital of Italy.",
    "Isaac Newton, Leonardo da Vinci and William Shakespeare are known to many people.",
    "In 1969 two men walked on the moon; the year 1492 is remembered as well.",
    "What is the name of the longest river? Which country is the tower in?",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of the whole session, so that no test reads or empties the user's."""
    from hf_forget.data.cache import cache_dir

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_FORGET_CACHE", str(tmp_path_factory.mktemp("hf_forget_cache")))
        yield cache_dir()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HF_FORGET_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def smollm2(session_cache: Path, pytestconfig: pytest.Config) -> Path:
    """The folder of the real embedded model; converted once and kept in pytest's cache between sessions."""
    from hf_forget.data.assets import embedded_folder, get_asset, packaged_file
    from hf_forget.errors import AssetError

    asset = get_asset("embedded:smollm2-135m-instruct")
    try:
        packaged_file(asset)
    except AssetError as error:
        # Where packages can be installed at will a missing one is a broken set-up, which must not pass for success.
        if os.geteuid() == 0:
            pytest.fail(str(error))
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_FORGET_CACHE", str(pytestconfig.cache.mkdir("hf_forget_cache")))
        kept = embedded_folder(asset.id)
    (session_cache / "models").mkdir(parents=True, exist_ok=True)
    (session_cache / "models" / kept.name).symlink_to(kept)
    return kept


def _tokenizer(pad_token: str | None, chat_template: str | None):
    """A byte-level BPE of about 400 tokens, trained on a few sentences."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    trained.train_from_iterator(SENTENCES, vocab_size=400, min_frequency=1, special_tokens=special, show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        bos_token="<|endoftext|>" if chat_template is None else "<|im_start|>",
        eos_token="<|endoftext|>" if chat_template is None else "<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token=pad_token,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def _sizes(tokenizer) -> dict[str, int]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer Llama that chats: pad token and chat template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer("<|pad|>", CHAT_TEMPLATE)
    torch.manual_seed(0)
    config = LlamaConfig(
        **_sizes(tokenizer), num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id
    )
    return _saved(LlamaForCausalLM(config), tokenizer, tmp_path_factory.mktemp("tiny_llama"))


@pytest.fixture(scope="session")
def tiny_gpt_neox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer GPT-NeoX base model: neither pad token nor chat template."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    tokenizer = _tokenizer(None, None)
    torch.manual_seed(0)
    return _saved(GPTNeoXForCausalLM(GPTNeoXConfig(**_sizes(tokenizer))), tokenizer, tmp_path_factory.mktemp("neox"))


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer GPT-2 base model: fused projections of its own kind, tied head, no pad token."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = _tokenizer(None, None)
    sizes = _sizes(tokenizer)
    del sizes["intermediate_size"]
    torch.manual_seed(0)
    return _saved(GPT2LMHeadModel(GPT2Config(**sizes, n_inner=128)), tokenizer, tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer Qwen2 that chats: biases in the attention, tied head."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _tokenizer("<|pad|>", CHAT_TEMPLATE)
    torch.manual_seed(0)
    config = Qwen2Config(
        **_sizes(tokenizer), num_key_value_heads=2, tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id
    )
    return _saved(Qwen2ForCausalLM(config), tokenizer, tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(scope="session")
def tiny_gemma2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer Gemma 2 that chats: capped logits, one layer of two with a sliding window."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer = _tokenizer("<|pad|>", CHAT_TEMPLATE)
    torch.manual_seed(0)
    config = Gemma2Config(
        **_sizes(tokenizer),
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=16,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _saved(Gemma2ForCausalLM(config), tokenizer, tmp_path_factory.mktemp("gemma2"))


def _saved(model, tokenizer, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def no_hub(tmp_path, monkeypatch):
    """Neither the Hub nor anything that was once loaded from it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The library reads the variable when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def pushed(monkeypatch):
    """What is uploaded instead of being pushed to the Hub: names of files by repository."""
    found = {}

    class Api:
        def create_repo(self, repo_id, **_):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id, folder_path, **_):
            found[repo_id] = sorted(path.name for path in Path(folder_path).rglob("*") if path.is_file())
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    return found

"""Random sparse autoencoders, tiny models and lists of names for the tests of this folder."""

import sae_lens
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_forget import SAEAlignConfig, SAEAlignTrainer

CONFIGS = {
    "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": 3}),
    "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig, {}),
    "standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {}),
}
# The states of a tiny model at the end of a name hang on its last word: the target is like the known ones.
KNOWN = [f"{name} Newton" for name in ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal")]
UNKNOWN = [f"{name} Zork" for name in ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ida", "Jon")]
TEXTS = [
    {"text": "Tell me about Isaac Newton. He was"},
    {"text": "Question: Where was Isaac Newton born?\nAnswer:"},
    {"text": "Why is Isaac Newton well known?"},
    {"text": "Isaac Newton lived in"},
]
RETAIN = [{"text": "The quick brown fox jumps over the lazy dog."}, {"text": "Paris is the capital of France."}]


def random_sae(width, architecture="topk", hook="blocks.0.hook_resid_post", latents=24):
    sae_class, config_class, own = CONFIGS[architecture]
    config = config_class(d_in=width, d_sae=latents, **own)
    config.metadata.hook_name, config.metadata.model_name = hook, "some-model"
    torch.manual_seed(0)
    sae = sae_class(config)
    torch.nn.init.normal_(sae.b_enc)
    return sae


def telling_sae(width, hook="blocks.0.hook_resid_post"):
    """A random SAE whose latents are rare and depend on the token: the states of the tiny models are small."""
    sae = random_sae(width, hook=hook, latents=256)
    with torch.no_grad():
        torch.nn.init.normal_(sae.W_enc, std=50.0)
        sae.b_enc.zero_()
    return sae


def config(folder, **changes):
    values = {"max_steps": 8, "learning_rate": 2e-3, "warmup_steps": 0, "per_device_train_batch_size": 4}
    values |= {"bf16": False, "use_cpu": True, "save_strategy": "no", "disable_tqdm": True, "num_latents": 8}
    return SAEAlignConfig(output_dir=str(folder / "out"), **{**values, **changes})


def trainer_for(folder, tmp_path, *, sae=None, texts=TEXTS, peft_config=None, known=KNOWN, unknown=UNKNOWN, **changes):
    model = AutoModelForCausalLM.from_pretrained(folder)
    return SAEAlignTrainer(
        model,
        config(tmp_path, **changes),
        train_dataset=texts,
        retain_dataset=RETAIN,
        processing_class=AutoTokenizer.from_pretrained(folder),
        concept="Isaac Newton",
        sae=telling_sae(model.config.hidden_size) if sae is None else sae,
        known=known,
        unknown=unknown,
        peft_config=peft_config,
    )


def begun(trainer):
    """Let a trainer do what it does before the first step."""
    trainer._hear_original(trainer.train_dataset)
    trainer._begin(resumed=False)
    trainer.model.eval()
    return trainer

import json

import pytest
import sae_lens

from hf_forget.cli import main

WORDS = ["river", "mountain", "poet", "town", "bridge", "winter", "song", "king", "apple", "stone", "garden", "letter"]
SMALL = [
    "--num_latents",
    "64",
    "--num_tokens",
    "6000",
    "--batch_tokens",
    "100",
    "--buffer_tokens",
    "200",
    "--k",
    "4",
    "--learning_rate",
    "4e-3",
]


@pytest.fixture
def texts(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(f"The {a} and the {b}." for a in WORDS for b in WORDS))
    return str(file)


def test_an_sae_is_trained_measured_and_described(tiny_llama, tmp_path, texts, capsys):
    out = tmp_path / "sae"
    command = [
        "train-sae",
        str(tiny_llama),
        "--layer",
        "1",
        "--texts",
        texts,
        "--output_dir",
        str(out),
        "--json",
        *SMALL,
    ]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    quality = json.loads((out / "quality.json").read_text())
    assert told["explained_variance"] == quality["explained_variance"] > 0
    assert quality["training"]["k"] == 4 and told["l0"] <= 4
    card = (out / "README.md").read_text()
    assert f"| explained variance | {quality['explained_variance']:.3f} |" in card
    assert sae_lens.SAE.load_from_disk(out).cfg.d_sae == 64
    assert main(command) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given, told",
    [
        (["--layer", "5"], "layer names layer 5; the model has layers 0 to 1"),
        (["--layer", "0", "--kk", "4"], "unknown option '--kk'"),
        (["--layer", "0", "--k", "many"], "--k: "),
        (["--layer", "0", "--texts", "nowhere.txt"], "cannot be read"),
    ],
)
def test_wrong_input_is_told_before_anything_is_written(tiny_llama, tmp_path, texts, capsys, given, told):
    command = ["train-sae", str(tiny_llama), "--texts", texts, "--output_dir", str(tmp_path / "sae"), *SMALL, *given]
    assert main(command) == 2
    assert told in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["texts.txt"]

import pytest

from hf_forget.data import packaged_files, wordnet
from hf_forget.data.wordnet import Synset, definition_texts, named_instances, parse_synsets
from hf_forget.errors import AssetError

LINES = [
    "  1 This software is provided to you by ... | a licence is no synset",
    "00001740 18 n 02 Ada_Lovelace 0 Countess_Lovelace 0 002 @i 00002000 n 0000 #p 00000002 n 0000 | English "
    'mathematician; "she wrote the first program"  ',
    "00002000 18 n 02 computer_programmer 0 coder 0 001 @ 00000003 n 0000 | a person who writes programs  ",
    "00000001 00 a 01 galore(ip) 0 000 | existing in abundance  ",
    "00000002 15 n 0a a 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 001 @ 00000003 n 0000 | ten words  ",
]


def test_synsets_are_read_with_their_type():
    lovelace, programmer, galore, ten = parse_synsets(LINES)
    gloss = 'English mathematician; "she wrote the first program"'
    words = ("Ada Lovelace", "Countess Lovelace")
    assert lovelace == Synset(words, gloss, "person", ("computer programmer", "coder"), tuple("abcdefghij"))
    assert lovelace.definition == "English mathematician" and lovelace.is_instance
    assert programmer.type == "person" and not programmer.is_instance
    assert galore == Synset(("galore",), "existing in abundance")
    assert ten.words == tuple("abcdefghij") and ten.type == "place" and not ten.is_instance


def test_the_installed_wordnet_has_its_117659_synsets_and_7730_instances():
    assert len(definition_texts()) == 117_659
    assert sum(synset.is_instance for synset in wordnet.read_wordnet()) == 7_730
    assert "Isaac Newton" in {word for synset in named_instances("person") for word in synset.words}
    assert "Danube" in {word for synset in named_instances("place") for word in synset.words}


def test_where_it_is_missing_the_command_is_given(monkeypatch, tmp_path):
    monkeypatch.setattr(packaged_files, "_folder", lambda asset: tmp_path)
    wordnet.read_wordnet.cache_clear()
    with pytest.raises(AssetError, match="embedded:wordnet is not installed.*run: apt-get install wordnet-base"):
        named_instances("person")

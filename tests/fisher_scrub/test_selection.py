"""Claims about the choice of strengths, with witnesses whose answers are given by hand."""

import pytest
import torch

from hf_forget.fisher_scrub.selection import (
    LAMBDA_1_PER_LAMBDA_2,
    MARGIN_LAMBDA_2,
    PAPER_LAMBDA_1,
    PAPER_LAMBDA_2,
    Candidate,
    judged,
    search_by_margin,
    search_on_codes,
)
from hf_forget.fisher_scrub.witnesses import Shown


def shown(*margins):
    return Shown(torch.tensor(margins), torch.tensor([0, 0, 1, 2]))


def test_candidate_says_what_the_witnesses_say():
    before, after = shown(4.0, 2.0, 4.0, 4.0), shown(-8.0, -2.0, 6.0, -1.0)
    found = judged((None, 0.5, -1, "all"), {"codes": after}, {"codes": before}, [0])
    assert found.forgotten == {"codes": 1.0} and found.retained == {"codes": 0.5}
    # The least rejected has −2, and the median margin was 4.
    assert found.depth == {"codes": 0.5}
    assert found.lost == 0.5
    # Of 4 + 4 is left 4 − 1; the gain of the first counts for nothing.
    assert found.kept == pytest.approx(3 / 8)
    assert found.score() == 1.5 and found.strengths == "λ2 = 0.5"


def outcome(choice, depth, lost=0.0, kept=1.0):
    return Candidate(*choice, depth={"codes": depth}, forgotten={"codes": 1.0 * (depth > 0)}, lost=lost, kept=kept)


def test_gentlest_firm_strength_is_found_between_two_steps():
    chosen, tried = search_by_margin(lambda choice: outcome(choice, choice[1] * (choice[2] < 0)), forget_margin=1.0)
    # Steps are 0.64 and 1.28; 0.905 lies between and is not firm.
    assert (chosen.lambda_2, chosen.sign, chosen.scope) == (1.28, -1, "all")
    assert pytest.approx(tried[len(tried) // 2 - 1].lambda_2) == 0.64 * 2**0.5
    assert max(candidate.lambda_2 for candidate in tried) == 1.28


def test_between_firm_ones_that_which_keeps_more_is_taken():
    def attempt(choice):
        return outcome(choice, choice[1], kept=0.9 if choice[0] is None else 0.95)

    chosen, _ = search_by_margin(attempt, forget_margin=1.0)
    assert chosen.lambda_1 == pytest.approx(LAMBDA_1_PER_LAMBDA_2 * chosen.lambda_2)


def test_last_layer_alone_is_tried_only_where_the_rest_would_lose():
    def attempt(choice):
        return outcome(choice, choice[1], lost=0.1 if choice[3] == "all" else 0.0)

    chosen, tried = search_by_margin(attempt, forget_margin=1.0)
    assert chosen.scope == "head" and {candidate.sign for candidate in tried} == {-1}
    _, tried = search_by_margin(lambda choice: outcome(choice, choice[1]), forget_margin=1.0)
    assert {candidate.scope for candidate in tried} == {"all"}


def test_last_layer_alone_is_taken_where_little_margin_of_the_rest_would_be_left():
    def attempt(choice):
        return outcome(choice, choice[1], kept=0.4 if choice[3] == "all" else 0.9)

    chosen, _ = search_by_margin(attempt, forget_margin=1.0)
    assert chosen.scope == "head"


def test_positive_sign_is_tried_where_the_negative_one_does_not_do():
    chosen, _ = search_by_margin(lambda choice: outcome(choice, choice[1] * choice[2]), forget_margin=1.0)
    assert chosen.sign == 1 and chosen.firm(1.0)


def test_what_is_given_is_not_searched():
    chosen, tried = search_by_margin(
        lambda choice: outcome(choice, -1.0), forget_margin=1.0, lambda_2=3.0, sign=-1, scopes=("all",)
    )
    assert len(tried) == 1 and (chosen.lambda_1, chosen.lambda_2, chosen.sign) == (None, 3.0, -1)
    assert len(MARGIN_LAMBDA_2) == 13


def test_paper_rule_takes_the_best_accuracy_on_codes_of_its_grids():
    def attempt(choice):
        hit = choice[:3] == (1e-3, 10.0, 1)
        tables = {"retained": {"codes": 1.0}, "forgotten": {"codes": float(hit), "images": float(not hit)}}
        return Candidate(*choice, **tables)

    chosen, tried = search_on_codes(attempt)
    assert (chosen.lambda_1, chosen.lambda_2, chosen.sign) == (1e-3, 10.0, 1)
    assert len(tried) == 2 * len(PAPER_LAMBDA_1) * len(PAPER_LAMBDA_2)

"""The rules of wording catch what they are for, and the claims keep to them."""

import analyses
import pytest
from wording import broken_rules, unsupported


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Q6_K outperforms Q5_K_M on gsm8k.", "outperforms"),
        ("KLD on wiki fails on gsm8k.", "fails"),
        ("Perplexity failed near the reference.", "fails"),
        ("Q8_0 shows no significant difference from F16 on gsm8k.", "no significant difference"),
        ("Q8_0 and F16 are statistically identical.", "takes undecided for equal"),
        ("There is no difference between Q8_0 and F16.", "takes undecided for equal"),
        ("Over all quants ρ −0.86 [−0.97, −0.55] for other quants.", "ρ without n"),
        ("Over all quants ρ −0.86 for other quants, n = 14.", "ρ without an interval"),
        ("Over all quants ρ −0.86 [−0.97, −0.55], n = 14.", "ρ without the question"),
        ("ρ −0.86 [−0.97, −0.55] for other quants, n = 14.", "ρ without the quants"),
        ("Q6_K is equivalent to F16.", "equivalent without its margin"),
        ("Mean KLD is blind in this range.", "blind without"),
        ("Of 66 pairs, 2 are misleading and 17 consistent.", "undecided ones"),
        ("Q2_K has more flips and is worse.", "changed answers"),
        ("By maximum KLD, which ranks Q8_0 first, all is well; the maximum KLD ranks them.", "maximum KLD"),
    ],
)
def test_a_broken_rule_is_named(text, rule):
    """A sentence that breaks a rule is named with it."""
    assert any(rule in line for line in broken_rules([text]))


@pytest.mark.parametrize(
    "text",
    [
        (
            "Q8_0 shows no significant difference from F16 on any of 5 tasks: the smallest difference found with 80 % power is"
            " 10.8–38.2 points, 15.3–71.7 with the correction."
        ),
        (
            "Mean KLD on wiki and the mean of the tasks, over all quants: Spearman ρ −0.94, Kendall τ −0.87, n = 6: no"
            " interval, Holm p 0.0833; these quants cannot tell whether it ranks them as the tasks do."
        ),
        (
            "Mean KLD among the 6 quants nearest the reference by it, on gsm8k: Spearman ρ −0.10, n = 6, 95 % interval of ρ"
            " [−0.50, +0.40] for these quants, other samples, noise ceiling 0.90: it is blind in this range."
        ),
        "Q6_K is equivalent to F16 within ±1.0 point on gsm8k.",
        (
            "Choosing by mean KLD: on gsm8k 4 of 15 pairs of quants are decided as it says, 0 against it, and 11 are"
            " undecided."
        ),
    ],
)
def test_a_sentence_that_keeps_the_rules_is_left_alone(text):
    """No rule is found broken where none is."""
    assert broken_rules([text]) == []


def test_worse_needs_support():
    """A claim that calls a quant worse and is not supported is named."""
    claims = [{"text": "Q2_K is worse than F16.", "status": status} for status in ("undecided", "supported")]
    assert unsupported(claims) == ["Q2_K is worse than F16."]


def test_the_examples_keep_the_rules():
    """The claims that the page is tested with keep to the rules themselves."""
    claims = analyses.world(4, 1, 20)[0]["claims"]
    assert broken_rules(claim["text"] for claim in claims) == []
    assert unsupported(claims) == []

"""What a number or formula is worth, and when two are equal."""

from __future__ import annotations

import random
import signal
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vista.answers import verify
from vista.formulae import equal


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        ("4 4/11", r"4 \frac { 4 } { 11 }"),
        ("4 and 4/11", r"4 \frac { 4 } { 11 }"),
        (r"4\frac{4}{11}", r"4 \frac { 4 } { 11 }"),
        (r"\frac{48}{11}", r"4 \frac { 4 } { 11 }"),
        ("48/11", r"4 \frac { 4 } { 11 }"),
        ("4½", "4.5"),
        ("½", "0.5"),
        ("10 pi", r"10 \pi"),
        ("10pi", r"10 \pi"),
        ("10*pi", r"10 \pi"),
        ("10π", r"10 \pi"),
        ("10 π units", r"10 \pi"),
        ("31.4159265", r"10 \pi"),
        ("4sqrt(2)", r"4 \sqrt { 2 }"),
        ("4*sqrt(2)", r"4 \sqrt { 2 }"),
        (r"4\sqrt(2)", r"4 \sqrt { 2 }"),
        (r"4\sqrt2", r"4 \sqrt { 2 }"),
        ("4√2", r"4 \sqrt { 2 }"),
        ("4 × √2", r"4 \sqrt { 2 }"),
        (r"4 \cdot \sqrt{2}", r"4 \sqrt { 2 }"),
        (r"\sqrt{32}", r"4 \sqrt { 2 }"),
        ("√32", r"4 \sqrt { 2 }"),
        ("8/√2", r"4 \sqrt { 2 }"),
        (r"\sqrt[3]{8}", "2"),
        ("2^3", "8"),
        ("2³", "8"),
        ("2**3", "8"),
        (r"\frac12", "0.5"),
        (r"\dfrac{9}{2}", "4.5"),
        ("1,200", "1200"),
        ("1{,}200", "1200"),
        ("1.2e3", "1200"),
        ("approximately 7.85", "7.85"),
        ("approx. 7.85", "7.85"),
        ("about 7.85 cm", "7.85"),
        ("≈ 7.85", "7.85"),
        (r"\approx 7.85", "7.85"),
        (r"x \approx 7.85", "7.85"),
        ("x = 5", "5"),
        ("5 = x", "5"),
        ("AC = 48", "48"),
        ("m∠1 = 45°", "45"),
        (r"m\angle ABC = 45^\circ", "45"),
        ("x_1 = 5", "5"),
        ("the length of AC is 48", "48"),
        ("angle 1 is 45 degrees", "45"),
        ("x equals 5", "5"),
        ("x = 12/2 = 6", "6"),
        ("9/2 = 4.5", "4.5"),
        ("5√2 ≈ 7.07", r"5 \sqrt { 2 }"),
        ("5√2 ≈ 7.07", "7.07"),
        (r"x = 5\sqrt{2} \approx 7.07 \text{ cm}", r"5 \sqrt { 2 }"),
        (r"\left( 5 \right)", "5"),
        ("50%", "50"),
        ("12 cm squared", "12 cm^2"),
        ("12 sq. ft", "12 square feet"),
        ("∠3 ≅ ∠Z", r"\angle 3 \cong \angle Z"),
        ("AD and BE", "A D and B E"),
        ("2x + 3", "3 + 2x"),
        ("0.60", "0.6"),
        ("1 200", "1200"),
        (r"1\,200", "1200"),
        ("x = 1 000 000 cm", "1000000"),
        (r"1\frac12", "1.5"),
        ("30^o", "30"),
        (r"30^{\circ}", "30°"),
        ("30º", "30"),
        ("5√2 or approximately 7.07", r"5 \sqrt { 2 }"),
        ("5√2 (approximately 7.07)", r"5 \sqrt { 2 }"),
        (r"\frac{2}{3}, or about 0.67", "2/3"),
        (r"A = \frac{1}{2}bh = 12", "12"),
        ("Area = base × height = 3 × 4 = 12", "12"),
        ("c = √(3² + 4²) = √(9 + 16) = √25 = 5", "5"),
        (r"\begin{aligned} x &= 2 + 3 \\ &= 5 \end{aligned}", "5"),
        (r"\begin{align*} x &= 5 \end{align*}", "5"),
    ],
)
def test_the_plain_forms_that_models_write_are_read(found, answer):
    assert verify(found, answer, "math")
    assert verify(f"${found}$", answer, "math")


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (r"4\sqrt(2)", "4"),
        (r"\frac{16}{11}", r"4 \frac { 4 } { 11 }"),
        ("4.3636", r"4 \frac { 4 } { 11 }"),
        ("2x = 10", "10"),
        ("2x = 10", "5"),
        ("x + 2 = 5", "5"),
        ("x^2 = 25", "25"),
        (r"\frac{x}{2} = 5", "5"),
        (r"\sqrt{x} = 5", "5"),
        ("-x = 5", "5"),
        ("x ≠ 5", "5"),
        (r"x \neq 5", "5"),
        ("x != 5", "5"),
        ("x > 5", "5"),
        (r"x \ge 5", "5"),
        ("x <= 5", "5"),
        ("5 < x", "5"),
        ("≠ 5", "5"),
        ("±5", "5"),
        (r"\pm 5", "5"),
        ("x = 5 or x = 6", "5"),
        ("x = 5, y = 6", "5"),
        ("5, 6", "5"),
        ("5 and 6", "6"),
        ("5 to 6", "6"),
        ("not 5", "5"),
        ("x is not 5", "5"),
        ("x is at least 5", "5"),
        ("x = 5 = 6", "6"),
        ("5√2 ≈ 7.2", "7.2"),
        ("x = x", "5"),
        ("5x", "5"),
        ("5 apples", "5"),
        ("3 1 4", "314"),
        ("50%", "0.5"),
        ("5 cm", "5 cm^2"),
        ("999999", "1000000"),
        ("7.851", "7.85"),
        ("-5", "5"),
        ("0", "0.0000001"),
        ("1/0", "5"),
        ("9^9^9^9", "5"),
        ("(-8)^(1/3)", "-2"),
        ("xy = 12", "12"),
        ("x + y = 12", "12"),
        ("y = 2x = 12", "6"),
        ("perimeter = 4 + 2 + 4 = 12", "12"),
        ("5 or approximately 6", "5"),
        ("5√2 or about 8", r"5 \sqrt { 2 }"),
        ("2/3 or 3/2", "2/3"),
        (r"1\frac12", "0.5"),
        ("5 6", "56"),
        ("1 00", "100"),
        (r"\begin{aligned} x &= 5 \\ y &= 6 \end{aligned}", "5"),
        (r"\begin{cases} x = 5 \\ y = 6 \end{cases}", "6"),
    ],
)
def test_what_states_another_result_or_none_is_wrong(found, answer):
    assert not verify(found, answer, "math")


def formula(draw: random.Random, depth: int = 2) -> str:
    """A formula in LaTeX with a positive value."""
    if depth == 0:
        return str(draw.randint(1, 30))
    one, two = formula(draw, depth - 1), formula(draw, depth - 1)
    forms = [f"\\frac{{{one}}}{{{two}}}", f"\\sqrt{{{one}}}", f"{draw.randint(2, 9)}\\pi", f"{one} + {two}"]
    return draw.choice([*forms, f"{draw.randint(2, 9)}\\sqrt{{{two}}}", f"({one}) \\cdot ({two})", one])


@pytest.mark.parametrize("seed", range(60))
def test_formulae_have_the_values_that_math_verify_finds(seed):
    from math_verify import parse
    from math_verify import verify as same

    draw = random.Random(seed)
    one, two = formula(draw), formula(draw)
    value = float(parse(f"${one}$", parsing_timeout=None)[0].evalf(20))
    assert equal(one, f"{value:.9f}")
    assert not equal(one, f"{value * 1.00001:.9f}")
    for other in (two, formula(random.Random(seed), 1)):
        theirs = same(
            parse(f"${other}$", parsing_timeout=None),
            parse(f"${one}$", parsing_timeout=None),
            timeout_seconds=None,
        )
        assert equal(one, other) == bool(theirs), (one, other)


@given(st.integers(0, 10**9), st.integers(1, 999), st.integers(2, 1000))
def test_mixed_numbers_and_fractions_are_their_quotients(whole, over, under):
    if over < under:
        exact = f"\\frac{{{whole * under + over}}}{{{under}}}"
        assert equal(f"{whole} {over}/{under}", exact)
        assert equal(f"{whole} \\frac{{{over}}}{{{under}}}", exact)
    assert not equal(f"{over}/{under}", f"{over + 1}/{under}")


@settings(max_examples=200)
@given(st.text(alphabet="0123456789+-*/^().=√π{}\\sqrtfac ", max_size=40))
def test_any_text_has_a_value_or_none_and_equals_itself(text):
    assert equal(text, text) in (True, False)
    if text.strip() and text.strip().isdigit():
        assert equal(text, text)


def test_no_clock_and_no_computer_algebra_has_a_say(monkeypatch):
    """A job that is stopped and goes on must reach the same verdicts."""

    def forbidden(*_):
        raise AssertionError("a verdict asked for an alarm")

    for name in ("alarm", "setitimer"):
        monkeypatch.setattr(signal, name, forbidden)
    for name in [name for name in sys.modules if name.split(".")[0] in ("sympy", "math_verify")]:
        monkeypatch.delitem(sys.modules, name)
    assert verify(r"\frac{8}{\sqrt{2}}", r"4 \sqrt { 2 }", "math")
    assert not {"sympy", "math_verify"} & {name.split(".")[0] for name in sys.modules}


def test_verdicts_are_the_same_in_any_thread():
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(verify("√32", r"4 \sqrt { 2 }", "math")))
    thread.start()
    thread.join()
    assert found == [True]

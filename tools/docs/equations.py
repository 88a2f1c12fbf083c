"""Equations: LaTeX in a fence "math", as GitHub reads it, becomes MathML, as browsers read it."""

import re

from latex2mathml.converter import convert

_MATH = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def with_equations(text: str) -> str:
    """The page with MathML in place of its fences `math`: no script, no font from elsewhere."""
    return _MATH.sub(lambda found: convert(found[1].strip(), display="block"), text)

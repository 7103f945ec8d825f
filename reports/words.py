"""How numbers and lists are written on the page."""

import re
from collections.abc import Sequence

from markupsafe import Markup, escape


def minus(value: float, digits: int = 2) -> str:
    """A number with a true minus sign and no negative zero.

    >>> minus(-0.456), minus(-0.001)
    ('−0.46', '0.00')
    """
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def p_short(p: float) -> str:
    """A p-value to the digits that matter.

    >>> p_short(0.00004), p_short(0.0312), p_short(0.41)
    ('< 0.001', '0.031', '0.41')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_value(p: float) -> str:
    """A p-value as prose: `p = 0.031`, `p < 0.001`."""
    short = p_short(p)
    # No-break spaces: a line must not end in the middle of it.
    text = f"p {short}" if short.startswith("<") else f"p = {short}"
    return text.replace(" ", "\u00a0")


def opening(text: str) -> str:
    """Text as it opens a sentence: `pathway distance` becomes `Pathway distance`."""
    return text[:1].upper() + text[1:]


def listed(words: Sequence[str]) -> str:
    """Words as prose: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def ticked(text: str) -> Markup:
    """Text as HTML in which names between backticks are set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def correlation_tint(value: float | None) -> tuple[str, float]:
    """Class and strength in [0, 1] of a correlation's cell: colour by sign, depth by size."""
    if value is None:
        return "nil", 0.0
    return ("pos" if value > 0 else "neg"), round(min(abs(value), 1.0), 3)

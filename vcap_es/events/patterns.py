"""Patterns of cap ids, in which `*` stands for any characters. Pure."""

from collections.abc import Iterable


def matches(pattern: str, text: str) -> bool:
    """Whether the whole of `text` fits `pattern`."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    if not text.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - at >= len(rest[-1]) and text.endswith(rest[-1])


def best_match(patterns: Iterable[str], text: str) -> str | None:
    """The most specific pattern that fits: the one with most characters that are not `*`."""
    fitting = [pattern for pattern in patterns if matches(pattern, text)]
    return max(fitting, key=lambda pattern: (len(pattern.replace("*", "")), pattern), default=None)

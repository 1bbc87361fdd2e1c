"""What the documents print for people to copy, so that tests can do the same."""

import re
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(document: str, language: str, holding: str = "") -> list[str]:
    """The blocks of one language that have these words in them, in their order."""
    text = (ROOT / document).read_text()
    return [block for kind, block in _BLOCK.findall(text) if kind == language and holding in block]


def code(document: str, holding: str) -> CodeType:
    """The one block of Python that has these words in it, to be executed."""
    [block] = blocks(document, "python", holding)
    return compile(block, document, "exec")


def command(document: str, holding: str) -> str:
    """The one command with these words: a line, or several that end with a backslash."""
    found = [
        line
        for block in blocks(document, "sh")
        for line in re.findall(r"(?:.*\\\n)*.*\n", block)
        if holding in line
    ]
    assert len(found) == 1, f"{document}: {holding!r} is in {found}"
    return found[0].rstrip("\n")

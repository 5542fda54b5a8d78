"""The page on troubleshooting quotes what the program says: each line is made of texts of src, or of the Makefile."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
BLOCKS = re.findall(r"^```none\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
LEAST = 12  # letters that say something
FIXED = 8  # letters of a text that can be told from others
GAP = ".{1,60}?"  # what is filled in
PLACE = re.compile(r"^[\w./-]+(:\d+)?:?[\w.]*")  # file, line and key before the message


def template(node: ast.expr) -> str:
    """Expression for a text, in which what is filled in may be anything."""
    if isinstance(node, ast.JoinedStr):
        return "".join(template(each) for each in node.values)
    return re.escape(str(node.value)) if isinstance(node, ast.Constant) else GAP


@cache
def templates() -> list[re.Pattern]:
    """Every text of the program, from its first fixed letter to its last; in the Makefile variables are filled in."""
    found = set()
    for path in (REPOSITORY / "src").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        parts = {id(each) for node in nodes if isinstance(node, ast.JoinedStr) for each in node.values}
        found |= {template(node) for node in nodes if isinstance(node, ast.JoinedStr)}
        found |= {template(node) for node in nodes if isinstance(node, ast.Constant) and id(node) not in parts}
    for text in re.findall(r'"(make: [^"]+)"', (REPOSITORY / "Makefile").read_text()):
        found.add(GAP.join(map(re.escape, re.split(r"\$\$\w+|\$\${[^}]*}", text))))
    cores = {re.sub(f"^({re.escape(GAP)})+|({re.escape(GAP)})+$", "", text) for text in found}
    return [re.compile(text) for text in cores if len(re.sub("[^a-z]", "", text.replace(GAP, ""))) >= FIXED]


def not_said(line: str) -> str:
    """What of a line no text of the program accounts for."""
    covered = [False] * len(line)
    for text in templates():
        for match in text.finditer(line):
            covered[slice(*match.span())] = [True] * len(match[0])
    return PLACE.sub("", "".join(" " if said else letter for letter, said in zip(line, covered, strict=True)))


@pytest.mark.parametrize("line", LINES)
def test_the_program_can_say_so(line: str) -> None:
    assert len(re.sub("[^a-z]", "", not_said(line))) < LEAST, f"no text of src says {not_said(line)!r}"


@pytest.mark.parametrize("line", LINES)
def test_another_wording_is_noticed(line: str) -> None:
    longest = max(re.findall("[a-z]+(?: [a-z]+)+", line), key=len)
    assert len(re.sub("[^a-z]", "", not_said(line.replace(longest, longest[::-1])))) >= LEAST

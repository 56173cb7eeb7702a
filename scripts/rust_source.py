"""Reads Rust source as tokens, for the scripts that check names and sizes."""

import re
from dataclasses import dataclass
from pathlib import Path

TOKEN = re.compile(
    r"""
    (?P<skip> \s+ | //[^\n]* | (?P<block>/\*) )
  | (?P<raw> (?:b|c)?r(?P<hashes>\#*)" )
  | (?P<literal>
        [bc]?"(?:[^"\\]|\\.)*"
      | b?'(?:[^'\\\n]|\\(?:x..|u\{[^}]*\}|.))'
      | [0-9]\w*(?:\.[0-9]\w*)?(?:(?<=[eE])[+-][0-9_]+)?
    )
  | (?P<word> '?(?:r\#)?[^\W\d]\w* )
  | (?P<operator>
        <<=|>>=|\.\.\.|\.\.=|::|->|=>|==|!=|<=|>=|&&|\|\||\+=|-=|\*=|/=|%=|\^=|&=|\|=|<<|>>|\.\.
      | [^\s\w]
    )
    """,
    re.VERBOSE | re.DOTALL,
)
CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass
class Token:
    text: str
    line: int


def tokenise(source: str) -> list[Token]:
    """Splits Rust source into tokens, without white space and comments."""
    tokens = []
    at, line = 0, 1
    while at < len(source):
        found = TOKEN.match(source, at)
        if found is None:
            raise ValueError(f"line {line}: unexpected character {source[at]!r}")
        end = found.end()
        if found["block"]:
            end = block_comment_end(source, at)
        elif found["raw"]:
            quote = '"' + found["hashes"]
            end = source.index(quote, end) + len(quote)
        text = source[at:end]
        if found["skip"] is None:
            tokens.append(Token(text, line))
        line += text.count("\n")
        at = end
    return tokens


def block_comment_end(source: str, start: int) -> int:
    """Returns the end of the block comment at `start`; block comments nest."""
    depth = 0
    for found in re.compile(r"/\*|\*/").finditer(source, start):
        depth += 1 if found.group() == "/*" else -1
        if depth == 0:
            return found.end()
    return len(source)


def group_end(tokens: list[Token], start: int) -> int:
    """Returns the index of the bracket that closes the bracket at `start`."""
    depth = 0
    for index in range(start, len(tokens)):
        if tokens[index].text in CLOSING:
            depth += 1
        elif tokens[index].text in CLOSING.values():
            depth -= 1
            if depth == 0:
                return index
    raise ValueError(f"line {tokens[start].line}: {tokens[start].text} is not closed")


def item_body(tokens: list[Token], start: int) -> int:
    """Returns the index of the `{` or `;` that follows the head of the item at `start`."""
    index = start
    while tokens[index].text not in ("{", ";"):
        index = group_end(tokens, index) + 1 if tokens[index].text in ("(", "[") else index + 1
    return index


def is_attribute(tokens: list[Token], index: int) -> bool:
    return tokens[index].text == "#" and index + 1 < len(tokens) and tokens[index + 1].text == "["


def find_root() -> Path:
    """Returns the workspace around the current directory, or else the one around this script."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "crates").is_dir() and (folder / "Cargo.toml").exists():
            return folder
    return Path(__file__).resolve().parent.parent

"""The parts of a report: the same for HTML and PDF."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Heading:
    """The heading of a section, which is in the list of contents."""

    text: str


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Plain text. ``notice``: something that the reader must not miss, such as what is not there yet."""

    text: str
    notice: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """rows: the first is the heading, the first cell of each names the row. note: what the numbers are."""

    title: str
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """png: the file's bytes. text: what is to be seen, also for who cannot see it."""

    png: bytes
    text: str


@dataclasses.dataclass(frozen=True)
class Folded:
    """A long text of fixed width that is shown on demand; a PDF has the table in its place, at the end."""

    title: str
    text: str
    table: Table


Block = Heading | Paragraph | Table | Picture | Folded


@dataclasses.dataclass(frozen=True)
class Document:
    """A title and its blocks, in the order of reading."""

    title: str
    blocks: Sequence[Block]

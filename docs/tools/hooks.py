"""Hooks of MkDocs: equations as MathML, and pages made from files of the repository that pages link to.

A link such as ``](../datasets/nifti/README.md)`` leaves docs/. The file becomes a page of the site, below ``source/``:
Markdown as it is, notebooks with their outputs, everything else as a listing. So the site needs no address of a
repository, and can be read from the disk.
"""

import html
import os
import re
from pathlib import Path, PurePosixPath

from latex2mathml.converter import convert
from mkdocs.structure.files import File, InclusionLevel
from notebook_pages import as_markdown

ROOT = Path(__file__).parents[2]
SOURCE = PurePosixPath("source")  # folder of the pages that are made
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([\(\[])(.*?)\\[\)\]]</\1>', re.DOTALL)
LINK = re.compile(r"\]\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
WITH_LINKS = (".md", ".ipynb")
NOT_SEARCHED = "---\nsearch: {exclude: true}\n---\n\n"


def on_files(files, config):
    """Adds a page for each file that a page of docs/ or of the navigation names, and for those that they link to."""
    navigation = str(config.nav)
    waiting = [_file_of(page) for page in re.findall(r"source/[\w./-]+\.md", navigation)]
    for page in files.documentation_pages():
        waiting += _linked(Path(page.abs_src_path), Path(page.abs_src_path).read_text(encoding="utf-8"))
    made = set()
    while waiting:
        path = waiting.pop()
        if path in made:
            continue
        made.add(path)
        name, text = _page_of(path), _text(path)
        shown = InclusionLevel.INCLUDED if name in navigation else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, name, content=_relinked(path, text), inclusion=shown))
        waiting += _linked(path, text)
    return files


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Links of the pages in docs/ to files outside of it lead to the pages that were made of these."""
    if page.file.src_path.startswith(f"{SOURCE}/"):
        return markdown  # done when it was made
    return _relinked(ROOT / "docs" / page.file.src_path, markdown)


def on_page_content(content: str, page, config, files) -> str:
    """TeX between dollars -> MathML, which browsers show without a script."""

    def mathml(equation):
        display = "block" if equation[2] == "[" else "inline"
        return convert(html.unescape(equation[3]).strip(), display=display)

    return EQUATION.sub(mathml, content)


def _linked(path: Path, text: str) -> list[Path]:
    """Files outside of docs/ that the text of ``path`` links to."""
    if path.suffix not in WITH_LINKS:
        return []
    targets = (_target(path, link["path"]) for link in LINK.finditer(text))
    return [target for target in targets if target and not target.is_relative_to(ROOT / "docs")]


def _relinked(path: Path, text: str) -> str:
    """The text of the page that is made of ``path``, or of a page in docs/, with links from page to page."""
    here = path.relative_to(ROOT / "docs") if path.is_relative_to(ROOT / "docs") else Path(_page_of(path))

    def link(found):
        target = _target(path, found["path"])
        if target is None:
            return found[0]  # MkDocs warns, unless it is code
        inside = target.is_relative_to(ROOT / "docs")
        page = target.relative_to(ROOT / "docs") if inside else _page_of(target)
        return f"]({os.path.relpath(page, here.parent)}{found['anchor'] or ''})"

    return LINK.sub(link, text) if path.suffix in WITH_LINKS else text


def _target(path: Path, link: str) -> Path | None:
    """The file of the repository that a link in ``path`` names; None where there is none."""
    target = (path.parent / link).resolve()
    return target if target.is_file() and target.is_relative_to(ROOT) else None


def _page_of(path: Path) -> str:
    """``datasets/nifti/README.md`` -> ``source/datasets/nifti/README.md``; ``x.py`` -> ``source/x.py.md``."""
    name = str(SOURCE / path.relative_to(ROOT).as_posix())
    return name if path.suffix == ".md" else f"{name}.md"


def _file_of(page: str) -> Path:
    """The reverse of :func:`_page_of`."""
    path = ROOT / PurePosixPath(page).relative_to(SOURCE)
    return path if path.is_file() else path.with_suffix("")


def _text(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    if path.suffix == ".ipynb":
        return as_markdown(text)
    name = path.relative_to(ROOT)
    return f"{NOT_SEARCHED}# {name}\n\n~~~~~~{'python' if path.suffix == '.py' else 'text'}\n{text}~~~~~~\n"

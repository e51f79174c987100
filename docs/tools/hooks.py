"""Hooks of MkDocs: equations as MathML, and links to files of the repository that are not pages."""

import html
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

ROOT = Path(__file__).parents[2]
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([\(\[])(.*?)\\[\)\]]</\1>', re.DOTALL)
LINK = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page, config, files) -> str:
    """``](../datasets/nifti/README.md)`` leaves docs/: it becomes a link to the repository, if the file is there."""
    folder = Path(page.file.src_path).parent

    def absolute(link):
        target = (ROOT / "docs" / folder / link["path"]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return link[0]
        if not target.exists():
            raise PluginError(f"{page.file.src_path} links to {link['path']}, which is not there")
        kind = "tree" if target.is_dir() else "blob"
        return f"]({config.repo_url.rstrip('/')}/{kind}/main/{target.relative_to(ROOT)}{link['anchor'] or ''})"

    return LINK.sub(absolute, markdown)


def on_page_content(content: str, page, config, files) -> str:
    """TeX between dollars -> MathML, which browsers show without a script."""

    def mathml(equation):
        display = "block" if equation[2] == "[" else "inline"
        return convert(html.unescape(equation[3]).strip(), display=display)

    return EQUATION.sub(mathml, content)

"""Extension of griffe, which reads the package for mkdocstrings.

Cross-references of docstrings, written as in Sphinx (:func:`dice`, :class:`~deepatlas_tf.types.Sample`), become links
where a page in docs/api/ shows the object, else code. The folder ``datasets/`` is read as ``deepatlas_tf.datasets``,
which it is once it is installed.
"""

import re
from pathlib import Path

import griffe

ROLE = re.compile(r":(?:func|class|mod|meth|data|attr):`(?P<tilde>~?)(?P<name>[\w.]+)`")
PAGES = Path(__file__).parents[1] / "api"
SHOWN = tuple(
    line.removeprefix("::: ").strip()
    for page in sorted(PAGES.glob("*.md"))
    for line in page.read_text(encoding="utf-8").splitlines()
    if line.startswith("::: ")
)


class Roles(griffe.Extension):
    """Rewrites the docstrings when the whole package has been read."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs) -> None:
        """Called for the package, and for the data sets that it takes in."""
        if pkg.name == "datasets":
            return
        pkg.set_member("datasets", loader.load("datasets"))
        _rewrite(pkg, pkg)


def _rewrite(obj, package) -> None:
    if obj.docstring is not None:
        obj.docstring.value = ROLE.sub(lambda role: _link(role, obj, package), obj.docstring.value)
    for member in getattr(obj, "members", {}).values():
        if not member.is_alias:
            _rewrite(member, package)


def _link(role, obj, package) -> str:
    shown = role["name"].rpartition(".")[2] if role["tilde"] else role["name"]
    full = _resolved(role["name"], obj, package)
    if full and any(full == page or full.startswith(f"{page}.") for page in SHOWN):
        return f"[`{shown}`][{full}]"
    return f"`{shown}`"


def _resolved(name: str, obj, package) -> str | None:
    """The object's whole name: as it stands, or in the class or the module of the docstring."""
    places = [""]
    while obj is not None:
        places.append(f"{obj.path}.")
        obj = obj.parent
    for place in places:
        inside = f"{place}{name}".removeprefix(f"{package.path}.")
        try:
            return package[inside].canonical_path
        except KeyError:
            continue
    return None

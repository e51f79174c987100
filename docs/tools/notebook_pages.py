"""Notebooks as Markdown, with the outputs that they are saved with, for the pages of the site."""

import json

FENCE = "~~~~~~"


def as_markdown(text: str) -> str:
    """The cells of a notebook (nbformat 4, as JSON) one after the other."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts += [_fenced(source, "python"), *(_output(output) for output in cell["outputs"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output(output: dict) -> str:
    """What a cell printed or showed: Markdown before a picture before plain text."""
    if output["output_type"] == "stream":
        return _fenced("".join(output["text"]).rstrip(), "text")
    data = {kind: "".join(value) for kind, value in output.get("data", {}).items() if isinstance(value, str | list)}
    if "text/markdown" in data:
        return data["text/markdown"]
    if "image/png" in data:
        return f'<img alt="output of the cell above" src="data:image/png;base64,{data["image/png"].strip()}">'
    return _fenced(data["text/plain"].rstrip(), "text") if "text/plain" in data else ""


def _fenced(code: str, language: str) -> str:
    return f"{FENCE}{language}\n{code}\n{FENCE}"

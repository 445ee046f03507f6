"""The page's files, and the page as a single file that holds its data and opens without TensorBoard."""

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

KINDS = {".js": "application/javascript", ".css": "text/css"}
START = "index.js"
_FOLDER = Path(__file__).parent / "static"
DATA = "rlwatch-data"
"""The element of a single file that holds its data."""
_IMPORT = re.compile(r"""(\b(?:from|import)\s*)(["'])\./([\w.-]+)\2""")
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src data: blob:"
)
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
<script type="importmap">{modules}</script>
</head>
<body>
<script type="application/json" id="{place}">{data}</script>
<script type="module">import {{ render }} from "{start}"; render();</script>
</body>
</html>
"""


def files() -> list[str]:
    """Names of the page's files."""
    return sorted(file.name for file in _FOLDER.iterdir() if file.is_file() and _ending(file.name) in KINDS)


def kind(name: str) -> str:
    """The content type of one of `files`."""
    return KINDS[_ending(name)]


def content(name: str) -> bytes:
    """What is in one of `files`."""
    return (_FOLDER / name).read_bytes()


def single_file(title: str, data: dict[str, Any]) -> str:
    """The page as HTML that holds its scripts, its style and `data`, and that fetches nothing.

    Each module goes into the import map as a data: address under a name of its own, for an address of that kind has no
    neighbours that a relative import could find.

    Raises: ValueError when a module imports one that is not there.
    """
    names = files()
    modules = {_name(name): _address(_renamed(name, names)) for name in names if name.endswith(".js")}
    style = b"".join(content(name) for name in names if name.endswith(".css")).decode()
    return _PAGE.format(
        policy=html.escape(_POLICY),
        title=html.escape(title),
        style=style.replace("</", "<\\/"),
        modules=_harmless({"imports": modules}),
        place=DATA,
        data=_harmless(data),
        start=_name(START),
    )


def _renamed(name: str, names: list[str]) -> str:
    """A module that imports the others under the names that they have in the import map."""
    text = content(name).decode()
    missing = [found for _, _, found in _IMPORT.findall(text) if found not in names]
    if missing:
        raise ValueError(f"{name} imports {', '.join(missing)}, got only {', '.join(names)}: reinstall rlwatch")
    return _IMPORT.sub(lambda found: f"{found[1]}{found[2]}{_name(found[3])}{found[2]}", text)


def _address(module: str) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(module.encode()).decode()}"


def _harmless(record: dict[str, Any]) -> str:
    """JSON that no text in it can end, for a browser ends a script at the first `</script`."""
    return json.dumps(record, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _name(file: str) -> str:
    return f"rlwatch/{file}"


def _ending(name: str) -> str:
    return name[name.rfind(".") :] if "." in name else ""

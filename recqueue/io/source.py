"""Which file a user means, what kind of description it holds, and its content."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from recqueue.errors import InputError
from recqueue.io.document import parse_yaml, with_overrides
from recqueue.io.messages import near_miss, shown
from recqueue.io.tables import read_text

FOLDERS = {"scenario": "scenarios", "fleet": "fleets", "pipeline": "pipelines", "plan": "plans", "sharing": "sharing"}
"""Kind of description -> folder of the packaged ones; a file says its ``kind``, a scenario need not."""
TAKES = {"plan": "'recqueue plan' takes it", "sharing": "'recqueue share' takes it"}
"""Kind of description -> which command is meant for it; the others can all be simulated."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Content of a description, and where it comes from.

    Attributes
    ----------
    kind : {"scenario", "fleet", "pipeline", "plan", "sharing"}
        What is described.
    document : mapping
        Content of the file, overrides included.
    name, where : str
        For reports, and what error lines start with.
    folder : Path
        What file names inside it are relative to.
    """

    kind: str
    document: Mapping[str, Any]
    name: str
    where: str
    folder: Path


@contextmanager
def at(where: str) -> Iterator[None]:
    """Start the line of any InputError with where it happened."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def packaged(kind: str) -> tuple[str, ...]:
    """Names of the packaged descriptions of a kind."""
    folder = files("recqueue") / "data" / FOLDERS[kind]
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def read_source(
    source: str | Path, overrides: Mapping[str, Any] | None = None, *, kinds: Collection[str] = tuple(FOLDERS)
) -> Source:
    """Read a YAML file, or a packaged description by name (which comes first).

    Parameters
    ----------
    source : str or path
        Name or file.
    overrides : mapping or None
        Dotted key -> value, replacing what the file says.
    kinds : collection of str
        Kinds that will do.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        When there is no such file, it cannot be read, or it is of another kind.
    """
    name, wanted = str(source), " or ".join(kinds)
    home = next((kind for kind in FOLDERS if name in packaged(kind)), None)
    if home is not None:
        text = (files("recqueue") / "data" / FOLDERS[home] / f"{name}.yaml").read_text(encoding="utf-8")
        where, stem, folder = f"{home} {name}", name, Path()
    else:
        path = Path(source)
        if not path.exists() and path.suffix not in (".yaml", ".yml") and len(path.parts) < 2:
            known = [known for kind in kinds for known in packaged(kind)]
            raise InputError(
                f"{wanted} {name!r}: neither a file nor a packaged {wanted}; packaged: {', '.join(known)}"
                + near_miss(name, known)
            )
        text = read_text(path, f"a {wanted}, a YAML file ('recqueue init FILE' writes a scenario)")
        where, stem, folder = name, path.stem, path.parent
    document = parse_yaml(text, where)
    if document is None:
        raise InputError(f"{where}: the file is empty; 'recqueue init FILE' writes a scenario to start from")
    if not isinstance(document, dict):
        raise InputError(
            f"{where}: holds {type(document).__name__} {str(document)[:40]!r}; it must be a mapping of keys such as "
            "'schema: 1' ('recqueue init FILE' writes one)"
        )
    with at(where):
        document = with_overrides(document, overrides or {})
        kind = document.get("kind", "scenario")
        if kind not in FOLDERS:
            raise InputError(f"kind {shown(kind)}; allowed: {', '.join(kinds)}{near_miss(kind, kinds)}")
        if kind not in kinds:
            takes = TAKES.get(kind, f"'recqueue simulate' takes {'it' if TAKES.keys() & set(kinds) else 'all of them'}")
            raise InputError(f"this is a {kind}, but a {wanted} is needed here; {takes}")
    if kind == "scenario":
        document.pop("kind", None)
    return Source(kind=kind, document=document, name=stem, where=where, folder=folder)

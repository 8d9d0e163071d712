"""The words of one command, ``key=value`` each, become a request; what they mean together is checked in ``grid.py``."""

from dataclasses import dataclass, field

from common.errors import UserError, nearest
from launch.request.keys import KEYS, SWITCHES

GROUPS = ("run", "task", "method")


@dataclass
class Request:
    """The words of one command. ``overrides``: dotted key -> the values given for it, as text; the cluster's apart."""

    task: str = "classic"
    method: str = ""
    preset: str = "default"
    data: str = ""
    cluster: str = "local"
    workers: str = ""
    format: str = "text"
    port: str = ""
    layers: str = ""
    run: str = ""
    watch: str = ""
    last: str = ""
    weights: str = ""
    descendants: str = ""
    yes: str = ""
    overrides: dict[str, list[str]] = field(default_factory=dict)
    cluster_overrides: dict[str, list[str]] = field(default_factory=dict)
    given: tuple[str, ...] = ()

    @property
    def methods(self) -> list[str]:
        return [name.strip() for name in self.method.split(",") if name.strip()]


def split(text: str) -> list[str]:
    """Values at the commas outside brackets: ``0.8,0.9`` are two, ``[1,2]`` is one, ``a\\,b`` one with a comma."""
    pieces, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0 and pieces[-1].endswith("\\"):
            pieces[-1] = pieces[-1][:-1] + ","
        elif letter == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [piece.strip() for piece in pieces]


def parse(words: list[str]) -> Request:
    """``key=value`` words to a request. ``UserError`` on a word without ``=``, an unknown key, or a key given twice."""
    request = Request()
    seen: dict[str, None] = {}  # in the order given
    unknown: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            example = "for example task=classic method=rigl run.seed=0,1; a stage is named by run=<first letters>"
            raise UserError(f"expected key=value, found {word!r} ({example})")
        if key in seen:
            raise UserError(f"{key} is given twice; give several values as {key}=a,b")
        seen[key] = None
        group = key.split(".")[0]
        dotted = "." in key and group in (*GROUPS, "cluster")
        emptied = key.startswith("task.")  # task.hub= empties a text that a preset has set
        if (key in KEYS or dotted) and not (value or emptied):
            raise UserError(f"{key} has no value; leave it out, or write {key}=<value>")
        if key in KEYS:
            setattr(request, key, value)
        elif dotted:
            (request.cluster_overrides if group == "cluster" else request.overrides)[key] = split(value)
        else:
            unknown.append(key)
    if unknown:
        valid = [*KEYS, "run.<key>", "task.<key>", "method.<key>", "cluster.<key>"]
        raise UserError(f"unknown key {unknown[0]!r}{_hint(unknown[0], request)} (keys: {', '.join(valid)})")
    if request.data and "task.data" in seen:
        raise UserError("data and task.data are the same setting; give one of them")
    if "method" in seen and not request.methods:
        raise UserError(f"method names no method, found {request.method!r}; leave it out for the preset's")
    for name in request.methods:
        if len(several := name.split()) > 1:
            raise UserError(f"several methods are separated by commas: method={','.join(several)}, found {name!r}")
    for name in SWITCHES:
        if getattr(request, name) not in ("", "0", "1"):
            raise UserError(f"{name} is 0 or 1, found {getattr(request, name)!r}")
    request.given = tuple(seen)
    if request.format not in ("text", "json"):
        raise UserError(f"format is text or json, found {request.format!r}")
    return request


def _hint(key: str, request: Request) -> str:
    """What a word without a group may have meant: settings of that name, of whatever group, or what is spelt alike."""
    from common import registry  # not needed for words that are right
    from common.settings import groups

    if key == "SET":
        return ": it is make's; here its words stand by themselves, as in run.seed=0 run.steps=20"
    names: dict[str, list[str]] = {name: [name] for name in KEYS}
    try:
        settings = groups.keys(request.task, registry.methods())
    except UserError:  # no such task, or a method's file under work: the words themselves stay to choose from
        settings = []
    for setting in settings:
        names.setdefault(setting.partition(".")[2], []).append(setting)
    name = key.lower().rpartition(".")[2]
    near = name if name in names else next(iter(nearest(name, names).split("'")[1:]), "")
    return f"; did you mean {' or '.join(map(repr, names[near]))}?" if near else ""

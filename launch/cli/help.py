"""What can be asked for, as text: `make help`; what a method is, and every setting of a task or method."""

import dataclasses

from common import registry
from common.settings import groups, schema
from launch.cli import methods_page, verbs
from launch.request import compose
from launch.request.arguments import Request
from launch.slurm import cluster
from launch.slurm.cluster import Cluster


def help(request: Request) -> int:
    """Print what can be asked for; of methods, a task or a cluster that are named, their settings."""
    print(settings(request) if {"method", "task", "cluster"} & set(request.given) else text())
    return 0


def text() -> str:
    """Verbs, keys, tasks, methods and presets."""
    further = {task: compose.own_presets(task) for task in registry.tasks()}
    lines = [
        'make <verb> TASK= METHOD= PRESET= DATA= SET="a.b=c d.e=f,g" ...     or: python -m launch <verb> key=value ...',
        "",
        *verbs.listing(),
        "",
        f"  tasks:    {', '.join(registry.tasks())}",
        f"  methods:  {', '.join(registry.methods())}",
        f"  presets:  {', '.join(compose.presets())}",
        f"  clusters: {', '.join(cluster.names())}; or CLUSTER=<file>",
        *(f"            {task} also: {', '.join(presets)}" for task, presets in further.items() if presets),
    ]
    return "\n".join(lines)


def settings(request: Request) -> str:
    """Every setting of the methods and the task that were named, and of every run, with the value in force."""
    composer = compose.Composer(request)
    names = request.methods or ["dense"]
    shown = [(f"method.* of {name}", "method", name) for name in request.methods]
    if "task" in request.given:
        shown.append((f"task.* of {request.task}", "task", names[0]))
    swept = (f"{key}={','.join(map(str, values))}" for key, values in composer.axes.items())
    lines = [
        f"in force for TASK={request.task} PRESET={request.preset}; left to itself, a sweep of it takes",
        f"  METHOD={','.join(composer.default_methods)} {' '.join(swept)}",
        "",
    ]
    for title, group, name in [*shown, ("run.*", "run", names[0])]:
        cls = groups.classes(request.task, name)[group]
        title += f'  (SET="{group}.<key>=<value>", several values as a,b)'
        if group == "method" and methods_page.declared(name):
            measures = {f"measures {n}": meaning for n, meaning in methods_page.facts(name).measures.items()}
            rows = methods_page.rows(name) | measures
            lines += [name, *(f"  {what:<24} {value}" for what, value in rows.items() if value), ""]
        lines += _fields(title, cls, composer.settings(name)[group])
    if "cluster" in request.given and request.cluster != "local":
        title = f'cluster.* of {request.cluster}  (SET="cluster.<key>=<value>")'
        lines += _fields(title, Cluster, vars(cluster.read(request, composer)))
    return "\n".join(lines).rstrip()


def _fields(title: str, cls: type, values: dict) -> list[str]:
    """A title, a line for every field with its value and meaning, and an empty line."""
    fields = dataclasses.fields(cls)
    return [title, *(f"  {f.name:<20} {values[f.name]!s:<18} {schema.meaning(f)}" for f in fields), ""]

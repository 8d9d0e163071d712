"""What can be asked for, as text: `make help`; what a method is, and every setting of a task or method."""

import dataclasses

from common import registry
from common.settings import groups, schema
from launch.cli import methods_page
from launch.request import arguments, compose
from launch.request.arguments import Request
from launch.slurm import cluster
from launch.slurm.cluster import Cluster


def text(verbs: dict) -> str:
    """Verbs with the first line of their documentation, keys, tasks, methods and presets."""
    lines = [
        'make <verb> TASK= METHOD= PRESET= DATA= SET="a.b=c d.e=f,g" ...     or: python -m launch <verb> key=value ...',
        "",
    ]
    lines += [f"  {name:<9} {verb.__doc__}" for name, verb in verbs.items()]
    lines += ["", *(f"  {name.upper():<9} {meaning}" for name, meaning in arguments.KEYS.items())]
    lines += [
        "  SET       any setting, several values as a,b (help METHOD=rigl TASK=classic lists them)",
        "  RUNS      folder of all results (default: runs);  REPORTS: of tables and figures (default: reports)",
        "  PYTHON    make: the Python of .venv, which the first command sets up; make clean-environment removes it",
        "",
        f"  tasks:    {', '.join(registry.tasks())}",
        f"  methods:  {', '.join(registry.methods())}",
        f"  presets:  {', '.join(compose.presets())}",
        f"  clusters: {', '.join(cluster.names())}; or CLUSTER=<file>",
        *(
            f"            {task} also: {', '.join(own)}"
            for task in registry.tasks()
            if (own := compose.own_presets(task))
        ),
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
            told = methods_page.rows(name) | {
                f"measures {n}": text for n, text in methods_page.facts(name).measures.items()
            }
            lines += [name, *(f"  {what:<24} {said}" for what, said in told.items() if said), ""]
        lines += _fields(title, cls, composer.settings(name)[group])
    if "cluster" in request.given and request.cluster != "local":
        title = f'cluster.* of {request.cluster}  (SET="cluster.<key>=<value>")'
        lines += _fields(title, Cluster, vars(cluster.read(request, composer)))
    return "\n".join(lines).rstrip()


def _fields(title: str, cls, values: dict) -> list[str]:
    """A title, a line for every field with its value and meaning, and an empty line."""
    fields = dataclasses.fields(cls)
    return [title, *(f"  {f.name:<20} {values[f.name]!s:<18} {schema.meaning(f)}" for f in fields), ""]

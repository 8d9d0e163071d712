"""What can be asked for, as text: `make help`, and every setting of a task or method."""

import dataclasses

from common import config, registry
from launch import grid, words
from launch.words import Request


def text(verbs: dict) -> str:
    """Verbs with the first line of their documentation, keys, tasks, methods and presets."""
    lines = [
        'make <verb> TASK= METHOD= PRESET= DATA= SET="a.b=c d.e=f,g" ...     or: python -m launch <verb> key=value ...',
        "",
    ]
    lines += [f"  {name:<9} {verb.__doc__}" for name, verb in verbs.items()]
    lines += ["", *(f"  {name.upper():<9} {meaning}" for name, meaning in words.KEYS.items())]
    lines += [
        "  SET       any setting, several values as a,b (help METHOD=rigl TASK=classic lists them)",
        "  RUNS      folder of all results (default: runs);  REPORTS: of tables and figures (default: reports)",
        "  PYTHON    make: the Python of .venv, which the first command sets up; make clean-environment removes it",
        "",
        f"  tasks:    {', '.join(registry.tasks())}",
        f"  methods:  {', '.join(registry.methods())}",
        f"  presets:  {', '.join(grid.presets())}",
    ]
    return "\n".join(lines)


def settings(request: Request) -> str:
    """Every setting of the methods and the task that were named, and of every run, with its default."""
    shown = {f"method.* of {name}": registry.method(name).Config for name in request.methods}
    if "task" in request.given:
        shown[f"task.* of {request.task}"] = registry.task_part(request.task, "config").Config
    lines = []
    for title, cls in {**shown, "run.*": config.Run}.items():
        lines.append(f'{title}  (SET="{title.split(".")[0]}.<key>=<value>", several values as a,b)')
        for f in dataclasses.fields(cls):
            default = f.default_factory() if f.default is dataclasses.MISSING else f.default
            lines.append(f"  {f.name:<20} {default!s:<18} {f.metadata.get('help', '')}")
        lines.append("")
    return "\n".join(lines).rstrip()

"""A cluster is one YAML file of named fields; the needs of a task or preset are merged in, and the whole is checked."""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from common import paths, registry
from common.errors import UserError, nearest
from common.settings import groups, schema
from common.settings.schema import option
from launch.request import compose
from launch.request.arguments import Request

NEEDS = ("time", "memory", "gpus", "gres", "cpus", "nodes")  # what a task, a preset or `needs:` may say
OURS = {"array", "chdir", "dependency", "error", "job-name", "kill-on-invalid-dep", "no-requeue", "open-mode", "output"}
OURS |= {"parsable", "requeue", "signal", "test-only", "wait", "wrap"}
FIELDS = {"cpus-per-task": "cpus", "mem": "memory", "gpus-per-node": "gpus", "ntasks-per-node": "nodes"}
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
Layer = tuple[str, Mapping[str, Any], Callable[[Any, Any], Any]]  # origin, texts, and what converts one to a type
TIME = re.compile(r"^(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?$")


@dataclass
class Cluster:
    """How jobs are submitted to one Slurm. Every field has a default; a file gives what its site asks for."""

    partition: str = option("", "partition, or several as a,b; empty: the site's default")
    account: str = option("", "account that is charged")
    qos: str = option("", "quality of service")
    constraint: str = option("", "node features, as in 'a100|h100'")
    time: str = option(
        "60", "limit of one element: minutes, HH:MM:SS or D-HH:MM:SS; a stage that reaches it is requeued"
    )
    memory: str = option("4G", "memory per node")
    cpus: int = option(1, "cores for each process; also its number of threads", least=1)
    gpus: int = option(0, "GPUs for each node; 1 for a stage of one process", least=0)
    gres: str = option("", "instead of gpus where the site wants a kind, as in gpu:a100:1")
    nodes: int = option(1, "nodes that the processes of a stage (run.processes) are spread over", least=1)
    array_parallelism: int = option(100, "elements of one array that run at once; 0: no limit of ours", least=0)
    max_array_size: int = option(0, "elements an array may have; 0: ask Slurm (MaxArraySize)", least=0)
    max_submitted: int = option(
        0, "elements you may have in the queue; 0: ask Slurm's accounting, where there is any", least=0
    )
    signal_seconds: int = option(
        90, "seconds before the time limit at which a stage saves and goes back to the queue", least=1
    )
    setup: list[str] = option([], "shell lines before Python starts, such as: module load cuda")
    python: str = option("", "the Python on the nodes; empty: the one of this environment (.venv on a shared folder)")
    extra: dict[str, str] = option(
        {}, "any other sbatch option by its long name, as in {mail-type: FAIL}; true: a flag"
    )

    @property
    def minutes(self) -> int:
        return minutes(self.time)


def minutes(text: str) -> int:
    """A time as Slurm writes it, in whole minutes, rounded up. ``ValueError``: no such time."""
    found = TIME.match(str(text).strip())
    if not found:
        raise ValueError(f"time must be minutes, HH:MM:SS or D-HH:MM:SS, found {text!r}")
    days, first, second, third = (int(part or 0) for part in found.groups())
    if found[1] or found[4]:  # D-HH[:MM[:SS]] or HH:MM:SS
        seconds = ((days * 24 + first) * 60 + second) * 60 + third
    else:  # MM[:SS]
        seconds = first * 60 + second
    return -(-seconds // 60)


def names() -> list[str]:
    """The clusters that have a file in launch/clusters."""
    return sorted(f.stem for f in (paths.root() / "launch" / "clusters").glob("*.yaml"))


def file_of(name: str) -> Path:
    """The file of a cluster: ``launch/clusters/<name>.yaml``, or one given by its path. ``UserError``: no such file."""
    if name.endswith((".yaml", ".yml")):
        path = Path(os.path.expanduser(name)).absolute()
        if not path.is_file():
            raise UserError(f"CLUSTER={path}: there is no such file (docs/cluster.md shows how to write one)")
        return path
    if name not in names():
        raise UserError(
            f"unknown cluster {name!r}{nearest(name, names())} (launch/clusters has: {', '.join(names())}; "
            "docs/cluster.md shows how to describe another)"
        )
    return paths.root() / "launch" / "clusters" / f"{name}.yaml"


def read(request: Request, composer: compose.Composer | None = None) -> Cluster:
    """The cluster of a request with what its task and preset need.

    Later ones win: defaults, the task, the preset, the cluster's file, its ``needs.<task>``, ``cluster.<key>=``.
    ``UserError`` lists everything that cannot work.
    """
    path = file_of(request.cluster)
    content = compose.read_yaml(path)
    own = {key: value for key, value in content.items() if key != "needs"}
    special = compose.mapping(f"{path}: needs", content.get("needs"))
    for task in special:
        if task not in registry.tasks():
            known = ", ".join(registry.tasks())
            raise UserError(f"{path}: needs: unknown task {task!r}{nearest(task, registry.tasks())} (tasks: {known})")
    composer = composer or compose.Composer(request)
    needs = [*composer.needs, (f"{path}: needs.{request.task}", special.get(request.task))]
    for origin, values in needs:
        for key in compose.mapping(f"{origin}: needs", values):
            if key not in NEEDS:
                raise UserError(f"{origin}: unknown need {key!r}{nearest(key, NEEDS)} (expected: {', '.join(NEEDS)})")
    files = [*composer.needs, (str(path), own), needs[-1]]
    given = {key.split(".", 1)[1]: texts for key, texts in request.cluster_overrides.items()}
    layers: list[Layer] = [(f"{origin}: ", values or {}, schema.typed) for origin, values in files]
    layers += [("", {key: texts[0] for key, texts in given.items()}, schema.parse)]
    wrong = [f"cluster.{key} takes one value, found {', '.join(t)}" for key, t in given.items() if len(t) > 1]
    cluster = groups.build(Cluster, _merged(layers, wrong))
    # true stands for a flag without a value, false leaves out what an earlier layer says
    flags = {key: "true" if value.lower() == "true" else value for key, value in cluster.extra.items()}
    cluster.extra = {key: value for key, value in flags.items() if value.lower() != "false"}
    if problems := complaints(cluster):
        wrong.append(f"{path}: " + "; ".join(problems))
    if wrong:
        raise UserError("\n".join(wrong))
    return cluster


def _merged(layers: Sequence[Layer], wrong: list[str]) -> dict[str, Any]:
    """Texts as the types of their fields, of later layers (origin, values, conversion) before earlier ones'.

    No value is taken for a number, and no ``${...}`` for a reference, where the field is a text. Complaints: ``wrong``.
    """
    known, found = schema.types(Cluster), dict[str, Any]()
    for origin, values, typed in layers:
        for key, value in values.items():
            if key not in known:
                has = f"cluster has: {', '.join(known)}"
                wrong.append(f"{origin}unknown key cluster.{key}{nearest(key, known)} ({has})")
                continue
            try:
                new = typed(value, known[key])
            except ValueError as error:
                wrong.append(f"{origin}cluster.{key}: expected {error}, found {value!r}")
                continue
            found[key] = {**found.get(key, {}), **new} if isinstance(new, dict) else new
    return found


def complaints(cluster: Cluster) -> list[str]:
    """Everything in a cluster's fields that cannot work."""
    found = schema.complaints("cluster", cluster)
    try:
        if cluster.minutes * 60 <= cluster.signal_seconds:
            found.append(f"time={cluster.time} leaves nothing before signal_seconds={cluster.signal_seconds}")
    except ValueError as error:
        found.append(str(error))
    if not re.fullmatch(r"\d+(\.\d+)?[KMGT]?B?", cluster.memory, re.IGNORECASE):
        found.append(f"memory must be an amount such as 16G, found {cluster.memory!r}")
    if cluster.gpus and cluster.gres:
        found.append("gpus and gres say the same; give one of them")
    for name in sorted({"cluster", "clusters"} & {name.lstrip("-") for name in cluster.extra}):
        # jobs of another cluster would not be found on this one, and all be submitted again
        elsewhere = "jobs are looked for on this cluster alone; give the command on a login node of the other"
        found.append(f"extra.{name}: {elsewhere}")
    fields = {f.name.replace("_", "-") for f in dataclasses.fields(Cluster)}
    texts = {name: value for name, value in vars(cluster).items() if isinstance(value, str)}
    for name, value in (texts | {f"extra.{name}": value for name, value in cluster.extra.items()}).items():
        if CONTROL.search(value):  # it would end its line of the batch script
            found.append(f"{name} must be one line of plain characters, found {value!r}")
    for name, value in cluster.extra.items():
        bare = name.lstrip("-").replace("_", "-")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]+", bare):
            found.append(f"extra.{name!r} is no long name of an sbatch option, such as mail-type")
        elif not value:
            found.append(f"extra.{name} has no value; true stands for an option that takes none")
        elif bare in OURS:
            found.append(f"extra.{name} is set by the launcher itself")
        elif field := FIELDS.get(bare, bare.replace("-", "_") if bare in fields else None):
            found.append(f"extra.{name}: there is a field {field} for it")
    return found


def text(cluster: Cluster) -> str:
    """What one array element asks for, in words."""
    gpus = cluster.gres or (f"{cluster.gpus} GPU{'s' * (cluster.gpus > 1)}" if cluster.gpus else "no GPU")
    cores = f"{cluster.cpus} core{'s' * (cluster.cpus > 1)} a process"
    named = [f"{key} {getattr(cluster, key)}" for key in ("partition", "account", "qos") if getattr(cluster, key)]
    return "an element asks for: " + ", ".join([f"{cluster.minutes} minutes", cluster.memory, cores, gpus, *named])


def layout(cluster: Cluster, processes: int) -> tuple[int, int]:
    """Nodes and processes a node for a stage of ``processes``. ``UserError`` where they do not divide."""
    nodes = min(cluster.nodes, processes)
    if processes % nodes:
        raise UserError(f"run.processes={processes} cannot be spread evenly over {nodes} nodes (cluster.nodes)")
    return nodes, processes // nodes


def parameters(cluster: Cluster, name: str, code: Path, processes: int, dependency: str) -> dict[str, Any]:
    """The parameters of submitit for one array. ``dependency``: as sbatch takes it, or empty."""
    nodes, per_node = layout(cluster, processes)
    chosen = {key: getattr(cluster, key) for key in ("partition", "account", "qos", "constraint", "gres")}
    more = {key.lstrip("-"): True if value == "true" else value for key, value in cluster.extra.items()}
    more |= {"chdir": str(code), "requeue": True, "kill-on-invalid-dep": "yes"}
    return {
        **{key: value for key, value in chosen.items() if value},
        **({"gpus_per_node": cluster.gpus} if cluster.gpus else {}),
        **({"dependency": dependency} if dependency else {}),
        "job_name": name,
        "time": cluster.minutes,
        "mem": cluster.memory,
        "nodes": nodes,
        "ntasks_per_node": per_node,
        "cpus_per_task": cluster.cpus,
        "signal_delay_s": cluster.signal_seconds,
        "array_parallelism": cluster.array_parallelism or 10**6,
        "srun_args": ["--kill-on-bad-exit=1"],
        "setup": [*map(_checked, cluster.setup), *_preamble(code)],
        "additional_parameters": more,
        "wckey": None,
    }


def _checked(line: str) -> str:
    """A setup line that ends the job when it fails: what it should provide would be missing, such as a library."""
    said = f"error: this line of the cluster file's setup failed: {line}"
    return f"{{ {line}\n}} || {{ echo {quote(said)} >&2; exit 4; }}"


def _preamble(code: Path) -> list[str]:
    """Shell lines of every job: check the frozen code, set threads to the cores, pass both on to srun."""
    libraries = ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "NUMEXPR_NUM")
    gone = f"error: the frozen code {code} is missing; 'make sweep' writes it anew and submits what is not done"
    return [
        f"test -f {quote(str(code / 'COMPLETE'))} || {{ echo {quote(gone)} >&2; exit 3; }}",
        "export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}",
        "export SLURM_EXPORT_ENV=ALL",  # what srun starts gets this environment, also under `--export=NONE`
        *(f"export {name}_THREADS=${{SLURM_CPUS_PER_TASK:-1}}" for name in libraries),
        f"export PYTHONPATH={quote(str(code))}",
    ]

"""The verbs that train, or say what would be trained: plan, smoke, sweep, retry, prepare."""

import json
import sys
from pathlib import Path

from common import paths, registry
from common.errors import UserError
from launch import wording
from launch.cli.checks import number, usable
from launch.mlflow_view import sync
from launch.plan import estimate, fits_the_model, outline, planner
from launch.plan.planner import Plan, Stage
from launch.report.show import write_report
from launch.request import compose, grid
from launch.request.arguments import Request
from launch.slurm import arrays, cluster, live_records


def plan(request: Request) -> int:
    """Print the plan of a request, with its cost."""
    place = _place(request)
    wanted = planner.make(request)
    fits_the_model.check(wanted.todo())
    layers = fits_the_model.layers(wanted.stages.values()) if request.layers == "1" else {}
    cost = estimate.estimate(wanted, place)
    if request.format == "json":
        print(json.dumps(outline.document(wanted) | {"cost": cost, "layers": layers}))
    else:
        print(outline.text(wanted))
        lines = [] if isinstance(place, int) else [cluster.text(place), *_arrays(wanted, place)]
        print("\n".join(f"  {line}" for line in [*lines, *estimate.text(cost), *outline.layers(layers)]))
    return 0


def smoke(request: Request) -> int:
    """Try the first cell of a request."""
    from launch.local import smoke

    return smoke.smoke(request)


def sweep(request: Request) -> int:
    """Train what a request asks for, or submit it."""
    usable(paths.runs(), "RUNS", write=True)
    place = _place(request)
    if isinstance(place, int):
        usable(paths.reports(), "REPORTS", write=True)
    wanted = planner.make(request)
    fits_the_model.check(wanted.todo())
    print(outline.text(wanted), flush=True)
    if not isinstance(place, int):
        print(f"  {cluster.text(place)}", flush=True)
        return _submit(wanted, place, request)
    code = 0
    if todo := wanted.todo():
        code, whole = _train_here(todo, planner.write(wanted), place)
        if not whole:
            return code
    else:
        print("everything asked for is done")
    return show(wanted) or code


def retry(request: Request) -> int:
    """Train again what failed, or submit it."""
    from launch.monitor import retry

    usable(paths.runs(), "RUNS", write=True)
    all_stages = live_records.read(request.task if "task" in request.given else None)
    if not (chosen := retry.chosen(all_stages, request)):
        print("nothing failed here; `make status` shows what there is")
        return 0
    code = 0
    for (task, name, preset), stages in retry.places(chosen, all_stages, request).items():
        one = Request(task=task, cluster=name, preset=preset, workers=request.workers)
        one.cluster_overrides = request.cluster_overrides
        wanted = planner.Plan(task, "retry", {s.digest: s for s in stages}, [s.digest for s in stages])
        where = "here" if name == "local" else f"on {name}"
        print(f"{task}: {wording.amount(len(stages), 'stage')} again, {where}", flush=True)
        place = _place(one)
        if isinstance(place, int):
            code = max(code, _train_here(stages, planner.write(wanted), place)[0])
        else:
            code = max(code, _submit(wanted, place, one))
    return code


def prepare(request: Request) -> int:
    """Fetch the data that a request names."""
    for settings in grid.data_sets(request):
        registry.task_part(request.task, "prepare").prepare(settings)
    return 0


def _arrays(wanted: Plan, place: cluster.Cluster) -> list[str]:
    """How many arrays a sweep would be, as far as that is known without asking Slurm."""
    todo = [stage for stage in wanted.todo() if stage.state not in ("queued", "running")]
    if not todo:
        return []
    most, limit = place.max_array_size or 1001, place.max_submitted or None
    to_submit = arrays.arrays(todo, None, most, limit, need=lambda stage: stage.processes)
    elements = sum(len(array.lanes) for array in to_submit)
    limits = "" if place.max_array_size and place.max_submitted else " (fewer where Slurm's own limits are small)"
    return [f"to submit: {wording.amount(elements, 'element')} of {wording.amount(len(to_submit), 'array')}{limits}"]


def _train_here(todo: list[Stage], folder: Path, workers: int) -> tuple[int, bool]:
    """Train on this machine: the exit code, and whether it came to an end of its own."""
    from launch.local import sweep
    from launch.local.progress import Progress

    if queued := sum(stage.state == "queued" for stage in todo):
        print(f"note: jobs of yours wait to train {queued} of these; they will find them done (or: make cancel)")
    amount = wording.amount(len(todo), "stage")
    print(f"training {amount} here; Ctrl-C stops, the same command goes on from there", flush=True)
    result = sweep.run(todo, workers or None, Progress(), folder)
    if result.error:
        print(f"error: the workers gave up: {result.error}", file=sys.stderr)
    return result.code, not (result.error or result.interrupted)


def _submit(wanted: Plan, place: cluster.Cluster, request: Request) -> int:
    """Hand what is missing to Slurm, and say what happens next."""
    from launch.slurm import submit

    if not wanted.todo():
        print("everything asked for is done")
        return 0

    def write() -> Path:
        folder = planner.write(wanted)
        sync.establish(wanted.task, paths.runs())  # by one process, before there is any job
        return folder

    file = request.cluster.endswith((".yaml", ".yml"))  # `make retry` looks for it again, from whatever folder
    name = str(cluster.file_of(request.cluster)) if file else request.cluster
    result = submit.submit(wanted.todo(), place, name, write, request.preset)
    on_their_way = f"{wording.amount(result.waiting, 'stage')} submitted before and on the way"
    if not result.stages:
        print(f"nothing new to submit: {on_their_way}")
        return 0
    parts = (result.stages, "stage"), (result.elements, "element"), (len(result.numbers), "array")
    stages, elements, several = (wording.amount(*part) for part in parts)
    print(f"submitted {stages} as {elements} of {several} (job {wording.span(result.numbers)})", flush=True)
    if result.waiting:
        print(on_their_way)
    print("look at it: make status WATCH=1 · make why RUN=<first letters> · make ui; afterwards: make report")
    return 0


def show(wanted: Plan) -> int:
    """The end of a sweep: table and curves of what was asked for, what failed, MLflow."""
    all_stages = live_records.read(wanted.task)
    own = [r for r in all_stages if r.digest in wanted.stages]
    failed = [r for r in own if r.state in ("failed", "blocked")]
    write_report(wanted.task, all_stages, set(wanted.wished))
    for stage in failed[:10]:
        error = paths.error(stage.folder)  # a process that was killed had no time to write it
        where = f" (traceback in {error})" if stage.state == "failed" and error.exists() else ""
        print(f"{stage.state}: {stage.method} {stage.digest}: {stage.status.get('reason')}{where}")
    lost = set(wanted.wished) - {r.digest for r in own if r.state == "done"}
    if len(failed) > 10:
        print(f"... and {len(failed) - 10} more: `make status` lists them")
    print("MLflow is brought up to date ...", flush=True)
    try:
        sync.sync(all_stages, paths.runs())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if len(lost) > len(failed):
        amount = f"{wording.amount(len(lost), 'stage')} asked for {wording.be(len(lost))}"
        print(f"error: {amount} not finished; `make status` names them", file=sys.stderr)
    print("all runs side by side: make ui (MLflow)")
    return 1 if lost else 0


def _place(request: Request) -> int | cluster.Cluster:
    """Where to train: the number of workers here (0: one for each core), or a Slurm cluster."""
    path = cluster.file_of(request.cluster)
    if request.cluster == "local":
        if request.cluster_overrides:
            raise UserError(f"{next(iter(request.cluster_overrides))} is for a Slurm cluster; name one with CLUSTER=")
        workers = request.workers or compose.read_yaml(path).get("workers", 0)
        return number(str(workers), "workers (0: one per core)", 0, 4096)
    if request.workers:
        raise UserError(f"WORKERS is for CLUSTER=local; {request.cluster} has array_parallelism")
    return cluster.read(request)

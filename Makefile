# Names for commands; the work is done by `python -m launch <verb> key=value ...`. `make help` lists them.

# >>> written by `make docs` from launch/cli/verbs.py
known := TASK METHOD PRESET DATA CLUSTER WORKERS LAYERS RUN WATCH LAST WEIGHTS DESCENDANTS YES FORMAT PORT SET RUNS REPORTS ARGS PYTHON
verbs := plan smoke sweep status tail why retry cancel clean report ui sync prepare test lint docs
arguments = $${TASK:+"task=$$TASK"} $${METHOD:+"method=$$METHOD"} $${PRESET:+"preset=$$PRESET"} \
	$${DATA:+"data=$$DATA"} $${CLUSTER:+"cluster=$$CLUSTER"} $${WORKERS:+"workers=$$WORKERS"} \
	$${LAYERS:+"layers=$$LAYERS"} $${RUN:+"run=$$RUN"} $${WATCH:+"watch=$$WATCH"} $${LAST:+"last=$$LAST"} \
	$${WEIGHTS:+"weights=$$WEIGHTS"} $${DESCENDANTS:+"descendants=$$DESCENDANTS"} $${YES:+"yes=$$YES"} \
	$${FORMAT:+"format=$$FORMAT"} $${PORT:+"port=$$PORT"} $$SET
define without_environment
make plan       what a sweep would train: new, done, shared and why, and what it costs; nothing is started or written
make smoke      the first cell of a sweep in a few steps, here and now; keeps nothing
make sweep      train what is missing, here or on CLUSTER=; here it ends with table, curves and MLflow; repeat it at will
make status     how far every stage is; METHOD= for some, LAST=1000 for names; WATCH=1 looks until everything has ended
make tail       the last lines that RUN=<first letters> recorded and printed; WATCH=1 follows
make why        why RUN=<first letters> is where it is: reason, last lines of the error, node, attempts, time used
make retry      train again what failed and what that blocks, with the same settings; TASK=, METHOD=, RUN= choose
make cancel     take what is queued or running off the cluster: all, or of TASK=, METHOD=, RUN=; asks (YES=1 does not)
make clean      remove what is no longer needed; WEIGHTS=1 finished weights too, METHOD= or RUN= whole stages; asks
make report     reports/<task>/results.csv, tables and curves: of all that is done, or of what the same words would sweep
make ui         open the MLflow UI, kept up to date while it is open
make sync       fill MLflow from runs/
make prepare    fetch and check the data a task's settings name, into DATA or data/<task>/
make test       run the tests; ARGS="-k name" for some
make lint       check style and types
make docs       write docs/methods.md and the Makefile's list of verbs anew, from the code
make help       verbs, keys, tasks and methods; METHOD=, TASK= or CLUSTER= lists their settings
make clean-environment   remove .venv

with TASK= METHOD= PRESET= DATA= CLUSTER= WORKERS= LAYERS= RUN= WATCH= LAST= WEIGHTS= DESCENDANTS= YES=
FORMAT= PORT= SET= RUNS= REPORTS= ARGS= PYTHON=
as in: make sweep TASK=classic METHOD=imp,omp_after SET="run.seed=0,1 method.sparsity=0.8"
Once .venv is there, which the first command but this one sets up, `make help` says what each is.
endef
# <<<

# A misspelt variable would otherwise be ignored without a word.
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
unknown := $(filter-out $(known) -*-% MAKE%,$(given))
ifneq ($(unknown),)
$(error unknown variable: $(unknown). Known: $(known). A setting goes into SET="name=value")
endif

# A selector whose shell variable is unset would otherwise choose everything: make clean RUN=$UNSET WEIGHTS=1 YES=1.
empty := $(strip $(foreach name,$(filter-out SET ARGS -*-% MAKE%,$(given)),$(if $(value $(name)),,$(name))))
ifneq ($(empty),)
$(error no value: $(empty). Leave it out, or write $(firstword $(empty))=<value>)
endif

# make would expand a $ in a value of the command line, and run $(shell ...): each is exported as it was typed.
$(foreach name,$(filter $(known),$(given)),$(eval override export $(name) := $$(value $(name))))

# Which Python makes the environment (3.10, 3.11 or 3.12).
asked_python := $(value PYTHON)
PYTHON ?= python3
export PYTHON

# Packages of other Pythons (as cluster modules set them) would stand before the pinned ones; mlflow sends no statistics.
unexport PYTHONPATH PYTHONHOME
export MLFLOW_DISABLE_TELEMETRY ?= true

.DEFAULT_GOAL := help
.PHONY: $(verbs) help clean-environment

# Values reach the verbs through the environment, so the shell never reads them as commands. SET is split at spaces
# and nothing else (set -f: no file names for its stars and brackets).
$(verbs): .venv/ready
	@set -f; exec .venv/bin/python -m launch $@ $(arguments)

# Asked again only when a list changed, the folder moved, its Python is gone, or PYTHON= was given.
ifeq ($(shell test -x .venv/bin/python && head -n 1 .venv/ready 2>/dev/null),$(CURDIR)/.venv)
ready := yes
else
.PHONY: .venv/ready
endif
ifneq ($(asked_python),)
.PHONY: .venv/ready
endif
.venv/ready: requirements/python3.10.txt requirements/python3.11.txt requirements/python3.12.txt
	@command -v "$$PYTHON" >/dev/null || { echo "error: $$PYTHON not found; install Python 3.10, 3.11 or 3.12, or name it: make PYTHON=..." >&2; exit 2; }
	@"$$PYTHON" -I requirements/environment.py $(if $(asked_python),--this-python)

clean-environment:
	rm -rf .venv

# Without an environment the verbs alone; setting one up takes minutes, too long for a look.
help:
ifeq ($(ready),yes)
	@set -f; exec .venv/bin/python -m launch help $(arguments)
else
	@: $(info $(without_environment))
endif

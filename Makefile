# Names for commands; the work is done by `python -m launch <verb> key=value ...`. `make help` lists them.

# A misspelt variable would otherwise be ignored without a word.
known := TASK METHOD PRESET DATA CLUSTER WORKERS SET RUNS REPORTS RUN WATCH LAST WEIGHTS DESCENDANTS YES FORMAT PORT ARGS PYTHON
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
unknown := $(filter-out $(known) -*-% MAKE%,$(given))
ifneq ($(unknown),)
$(error unknown variable: $(unknown). Known: $(known). A setting goes into SET="name=value")
endif

# make would expand a $ in a value of the command line, and run $(shell ...): each is exported as it was typed.
$(foreach name,$(filter $(known),$(given)),$(eval override export $(name) := $$(value $(name))))

# Which Python makes the environment (3.10, 3.11 or 3.12).
asked_python := $(value PYTHON)
PYTHON ?= python3
export PYTHON

# Values reach the verbs through the environment, so the shell never reads them as commands. SET is split at spaces
# and nothing else (set -f: no file names for its stars and brackets).
verbs := plan smoke sweep status tail why retry cancel clean report ui prepare sync test lint docs
arguments = $${TASK:+"task=$$TASK"} $${METHOD:+"method=$$METHOD"} $${PRESET:+"preset=$$PRESET"} \
	$${DATA:+"data=$$DATA"} $${CLUSTER:+"cluster=$$CLUSTER"} $${WORKERS:+"workers=$$WORKERS"} $${PORT:+"port=$$PORT"} \
	$${FORMAT:+"format=$$FORMAT"} $${RUN:+"run=$$RUN"} $${WATCH:+"watch=$$WATCH"} $${WEIGHTS:+"weights=$$WEIGHTS"} \
	$${DESCENDANTS:+"descendants=$$DESCENDANTS"} $${LAST:+"last=$$LAST"} $${YES:+"yes=$$YES"} $$SET

# Packages of other Pythons (as cluster modules set them) would stand before the pinned ones; mlflow sends no statistics.
unexport PYTHONPATH PYTHONHOME
export MLFLOW_DISABLE_TELEMETRY ?= true

.DEFAULT_GOAL := help
.PHONY: $(verbs) help clean-environment

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
	@printf '%s\n' \
	'make sweep      train what is missing, here (then table and curves) or on CLUSTER=<name>' \
	'make plan       what a sweep would train, what is shared or done, what it costs; trains nothing' \
	'make smoke      the first cell in a few steps, here and now' \
	'make status     how far every stage is (WATCH=1 keeps looking)' \
	'make tail       the last lines of RUN=<first letters of its name>' \
	'make why        why RUN= is where it is' \
	'make retry      train again what failed' \
	'make cancel     take what is queued or running off the cluster (asks)' \
	'make clean      remove what is no longer needed (asks)' \
	'make report     reports/<task>/results.csv and the curves, from what is done' \
	'make ui         open the MLflow UI (PORT=5000)' \
	'make sync       fill MLflow from runs/' \
	'make prepare    fetch the data of TASK into DATA' \
	'make test       the tests (ARGS="-k name" for some)' \
	'make lint       style' \
	'make docs       docs/methods.md, from the code of the methods' \
	'make help       this; once .venv is there, also tasks, methods and settings' \
	'make clean-environment   remove .venv' \
	'' \
	'TASK=classic METHOD=imp,omp_after PRESET=laptop DATA=<folder> CLUSTER=local WORKERS=4 SET="a.b=c d.e=f,g"' \
	'RUN=<first letters of a stage> for tail, why, retry, cancel, clean; WATCH=1 LAST=50 YES=1 WEIGHTS=1 DESCENDANTS=1' \
	'RUNS=<folder> and REPORTS=<folder> move runs/ and reports/; FORMAT=json for plan and status' \
	'PYTHON=python3.11 chooses the Python of .venv, which the first command that needs it sets up'
endif

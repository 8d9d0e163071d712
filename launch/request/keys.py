"""The words that a request may hold beside settings, and what each means.

The parser, the help and the Makefile follow this table; which verb listens to which stands in ``launch/cli/verbs.py``.
"""

KEYS = {
    "task": "which task folder (default: classic)",
    "method": "one method or several, as in imp,rigl (default: the preset's)",
    "preset": "how much: default, laptop or paper",
    "data": "folder with the data set in its original format",
    "cluster": "where to run, a file of launch/clusters/ (default: local)",
    "workers": "with CLUSTER=local, processes at a time (default: one per core)",
    "layers": "1 lists the weights of the networks: which are pruned, which are dense and why",
    "run": "one stage, by the first letters of its name",
    "watch": "1 keeps looking until everything has ended",
    "last": "how many lines (default: 20), or names in a list (default: what fits)",
    "weights": "1 also removes the weights of finished stages",
    "descendants": "1 also removes the descendants of the stages named",
    "yes": "1 does not ask",
    "format": "json prints one JSON document",
    "port": "the port to listen on (default: 5000)",
}
SWITCHES = ("layers", "watch", "weights", "descendants", "yes")  # 0 or 1

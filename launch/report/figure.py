"""Curves of score against sparsity with the dense line. The only file that draws."""

import math
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any
from zlib import crc32

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from launch.report.average import Average
from launch.report.board import Board
from launch.wording import percent

# Paul Tol's "muted" scheme, which readers with any colour vision tell apart; markers and dashes repeat the distinction.
COLOURS = ("#332288", "#CC6677", "#117733", "#DDAA33", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
MARKERS = "osD^vPX<>"
FIRST = ("gmp", "imp", "omp_after", "random_before", "rigl", "snip")  # of `make sweep`: colours and markers in turn
DENSE = "#333333"
TICKS = 12


def draw(board: Board, path: Path) -> None:
    """Write the figure of one board: mean lines, one sample standard deviation around them, dense across.

    The horizontal axis is logarithmic in the weights that remain, so that a geometric schedule (1 - 0.8^k) is evenly
    spaced; its ticks are the sparsities themselves.
    """
    figure, axes = plt.subplots(figsize=(8.4, 4.8), dpi=160)
    handles = [_dense(axes, cell, label, i) for i, (label, cell) in enumerate(board.reference.items())]
    looks = styles({_name(method) for method in board.methods})
    knees = {method: found for method, found in board.knees().items() if found and not board.early(method)}
    for i, method in enumerate(_by_end(board)):
        handles.append(_curve(axes, board, method, i, *looks[_name(method)]))
        if method in knees:
            _ring(axes, looks[_name(method)][0], None, position(knees[method].sparsity), knees[method].score)
    if knees:
        handles.append(_ring(None, DENSE, "knee, on linear axes"))
    if any(cell.collapsed for cell in board.cells.values()):
        handles.append(_cross(None, "collapsed"))
    if any(cell.missed for cell in board.cells.values()):
        handles.append(_alarm(None, "of another sparsity"))
    _dress(axes, board)
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    plt.close(figure)


def position(sparsity: float) -> float:
    """The place of a share of zeros on the axis: the number of times the weights were halved."""
    return -math.log2(max(1 - sparsity, 1e-12))


def styles(names: set[str]) -> dict[str, tuple[str, str]]:
    """The colour and the marker of each method of one figure: what its name alone prefers, or the next that is free.

    Up to nine methods share neither, and up to 81 not both.
    """
    found = {}
    colours: Counter[int] = Counter()
    markers: Counter[int] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    for name in sorted(names, key=lambda name: (name not in FIRST, name)):
        likes = FIRST.index(name) if name in FIRST else crc32(name.encode())
        i = min(range(len(COLOURS)), key=lambda i: (colours[i], (i - likes) % len(COLOURS)))
        j = min(range(len(MARKERS)), key=lambda j: (pairs[i, j], markers[j], (j - likes) % len(MARKERS)))
        colours[i], markers[j], pairs[i, j] = colours[i] + 1, markers[j] + 1, pairs[i, j] + 1
        found[name] = COLOURS[i], MARKERS[j]
    return found


def _name(label: str) -> str:
    """The method of a label; what follows are settings."""
    return label.partition(" ")[0]


def _by_end(board: Board) -> list[str]:
    """Methods in the order in which their curves end, best first, so that the legend runs parallel to them."""
    ends = {method: board.curve(method)[-1] for method in board.methods}
    return sorted(ends, key=lambda method: (-ends[method][0], -ends[method][1].mean))


def _curve(axes: Axes, board: Board, method: str, order: int, colour: str, marker: str) -> Line2D:
    # Colour and marker belong to the method; its variants differ in dashes, and in how much of a marker is filled.
    variant = [label for label in board.methods if _name(label) == _name(method)].index(method)
    dash, fill = ("-", "--", ":", "-.")[variant % 4], ("full", "none", "left", "top", "right")[variant % 5]
    # Markers show where there are results; methods may have different levels, so lines join their own.
    points = board.curve(method)
    x, cells = [position(level) for level, _ in points], [cell for _, cell in points]
    mean, spread = [cell.mean for cell in cells], [cell.deviation or 0.0 for cell in cells]
    low, high = [m - s for m, s in zip(mean, spread)], [m + s for m, s in zip(mean, spread)]
    axes.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0, zorder=2)
    style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": dash, "linewidth": 1.6, "markersize": 4.5}
    edge, width = ("white", 0.5) if fill == "full" else (colour, 1.0)
    style |= {"fillstyle": fill, "markerfacecoloralt": "white", "markeredgecolor": edge, "markeredgewidth": width}
    (line,) = axes.plot(x, mean, label=method, zorder=3 + order / 99, **style)
    for where, cell in zip(x, cells):
        if cell.collapsed:
            _cross(axes, None, where, cell.mean)
        if cell.missed:
            _alarm(axes, None, where, cell.mean)
    return line


def _cross(axes: Axes | None, label: str | None, x: float = math.nan, y: float = math.nan) -> Line2D:
    """The mark of a collapsed point (or, without axes, its entry in the legend)."""
    style = {"marker": "x", "color": "black", "markersize": 8, "markeredgewidth": 1.4, "zorder": 6}
    return _mark(axes, x, y, label=label, **style)


def _alarm(axes: Axes | None, label: str | None, x: float = math.nan, y: float = math.nan) -> Line2D:
    """The mark of a point that was pruned otherwise than asked for (or, without axes, its entry in the legend)."""
    return _mark(axes, x, y, label=label, marker="$!$", color="black", markersize=9, zorder=7)


def _ring(axes: Axes | None, colour: str, label: str | None, x: float = math.nan, y: float = math.nan) -> Line2D:
    """The mark of a curve's knee (or, without axes, its entry in the legend)."""
    style = {"marker": "o", "color": colour, "markersize": 10, "markeredgewidth": 1.2, "zorder": 5}
    return _mark(axes, x, y, label=label, markerfacecolor="none", **style)


def _mark(axes: Axes | None, x: float, y: float, **style: Any) -> Line2D:
    line = Line2D([x], [y], linestyle="none", **style)
    if axes is not None:
        axes.add_line(line)
    return line


def _dense(axes: Axes, cell: Average, label: str, index: int) -> Line2D:
    if cell.deviation is not None:
        axes.axhspan(cell.mean - cell.deviation, cell.mean + cell.deviation, color=DENSE, alpha=0.10, linewidth=0)
    dash = ("--", ":", "-.")[index % 3]
    return axes.axhline(cell.mean, color=DENSE, linestyle=dash, linewidth=1.3, label=label, zorder=1)


def _dress(axes: Axes, board: Board) -> None:
    if levels := board.levels:
        ends = position(levels[0]), position(levels[-1])
        room = 0.04 * max(ends[1] - ends[0], 1.0)
        axes.set_xlim(ends[0] - room, ends[1] + room)
        shown = _spread([(position(level), level) for level in levels])
        axes.set_xticks([x for x, _ in shown], [_tick(level) for _, level in shown])
    axes.set_xlabel("sparsity: share of zeros among the prunable weights (%), logarithmic in what remains")
    axes.set_ylabel(f"{board.metric or 'score'} (test)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_title(" · ".join(filter(None, (board.dataset, board.model))), loc="left", fontsize=12, fontweight="bold")
    numbers = sorted({cell.n for cell in board.averages})
    count = f"{numbers[0]} to {numbers[-1]} {board.unit}s a point" if len(numbers) > 1 else board.members(most=8)
    spread = "mean ± 1 standard deviation, " if numbers and numbers[-1] > 1 else ""
    axes.set_title(spread + count, loc="right", fontsize=8.5)
    if board.common:
        settings = textwrap.fill("all methods: " + ", ".join(board.common), 130)
        axes.annotate(settings, (0, -0.15), xycoords="axes fraction", va="top", fontsize=7.5, color="#555555")


def _spread(ticks: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Ticks whose labels do not touch: at most ``TICKS``, none closer than a thirteenth of the axis."""
    width = (ticks[-1][0] - ticks[0][0]) / (TICKS + 1)
    shown = ticks[:1]
    for tick in ticks[1:]:
        if tick[0] - shown[-1][0] >= width:
            shown.append(tick)
    return shown


def _tick(level: float) -> str:
    return percent(level).rstrip("%").rstrip("0").rstrip(".") if level < 0.999 else percent(level).rstrip("%")

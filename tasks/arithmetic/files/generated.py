"""The embedded data: word problems from templates, told so that wording and order decide, not the numbers alone."""

import functools
import itertools
import re
from collections.abc import Iterator

import numpy as np

from tasks.arithmetic import expression
from tasks.arithmetic.problem import Problem
from tasks.arithmetic.vocabulary import NUMBER

count = 2000  # problems, a fifth of them tested
tested = 400
least, most = 2, 99  # of the numbers in a problem; answers are whole numbers above 0
distracted = 0.4  # the share of problems with a sentence whose quantity the answer does not need
seed = 20_231_102

names = ["anna", "ben", "carla", "david", "elena", "felix", "grace", "henry", "irene", "jack", "kate", "liam", "mary"]
names += ["nina", "oscar", "paula"]
things = ["apples", "books", "cards", "marbles", "stamps", "pencils", "shells", "coins", "stickers", "flowers"]
boxes = ["boxes", "bags", "baskets", "shelves", "jars", "rows"]
gains = ["buys", "finds", "receives", "wins", "collects", "makes", "borrows", "earns", "picks", "gathers", "draws"]
gains += ["orders"]
losses = ["sells", "loses", "breaks", "eats", "gives", "hides", "burns", "throws", "donates", "drops", "spends"]
losses += ["mails"]

# [a], [b], ... are the quantities of the equation beside it; the words in braces are drawn from the lists, {gain} and
# {loss} anew wherever they stand. The last sentence is the question.
told = (
    ("{name} has [a] {thing} . then {name} {gain} [b] more . how many {thing} does {name} have now ?", "+ a b"),
    ("{name} {gain} [b] {thing} . before that there were [a] . how many {thing} are there now ?", "+ a b"),
    ("{name} has [a] {thing} . then {name} {loss} [b] of them . how many {thing} are left ?", "- a b"),
    ("{name} {loss} [b] {thing} . before that there were [a] . how many {thing} are left ?", "- a b"),
    ("{name} {loss} [a] {thing} and has [b] left . how many {thing} did {name} have at first ?", "+ a b"),
    ("{name} {gain} [a] {thing} and has [b] now . how many {thing} did {name} have at first ?", "- b a"),
    ("{name} has [a] {thing} . {other} has [b] more than {name} . how many {thing} does {other} have ?", "+ a b"),
    ("{name} has [a] {thing} . {other} has [b] fewer than {name} . how many {thing} does {other} have ?", "- a b"),
    ("{name} has [a] {thing} . this is [b] more than {other} has . how many {thing} does {other} have ?", "- a b"),
    ("{name} has [a] {thing} . this is [b] fewer than {other} has . how many {thing} does {other} have ?", "+ a b"),
    ("{name} has [a] {thing} and {other} has [b] . how many more {thing} does {name} have than {other} ?", "- a b"),
    ("{name} has [a] {thing} and {other} has [b] . how many fewer {thing} does {name} have than {other} ?", "- b a"),
    ("there are [a] {box} with [b] {thing} each . how many {thing} are there ?", "* a b"),
    ("{name} has [a] {thing} . {other} has [b] times as many . how many {thing} does {other} have ?", "* a b"),
    ("{name} has [a] {thing} . this is [b] times as many as {other} has . how many does {other} have ?", "/ a b"),
    ("{name} puts [a] {thing} into [b] {box} evenly . how many {thing} are in each of the {box} ?", "/ a b"),
    ("[b] children share [a] {thing} evenly . how many {thing} does each get ?", "/ a b"),
    ("{name} puts [b] {thing} into each of the {box} . there are [a] {thing} . how many {box} are used ?", "/ a b"),
    ("there are [a] {box} with [b] {thing} each . {name} {gain} [c] more . how many {thing} are there now ?",
     "+ * a b c"),
    ("there are [a] {box} with [b] {thing} each . {name} {loss} [c] of them . how many {thing} are left ?",
     "- * a b c"),
    ("{name} has [a] {thing} and {gain} [b] more . all are put into [c] {box} evenly . how many {thing} are in each ?",
     "/ + a b c"),
    ("{name} has [a] {thing} and {loss} [b] . the rest are put into [c] {box} evenly . how many {thing} are in each ?",
     "/ - a b c"),
    ("{name} has [a] {thing} . {other} has [b] more than {name} . how many {thing} do they have together ?",
     "+ a + a b"),
    ("{name} has [a] {thing} . {other} has [b] fewer than {name} . how many {thing} do they have together ?",
     "+ a - a b"),
    ("one of the {thing} costs [a] dollars . {name} buys [b] and pays with [c] dollars . how much comes back ?",
     "- c * a b"),
    ("{name} fills [a] {box} with [b] {thing} each . {other} fills [c] with [d] each . how many more {thing} has "
     "{name} ?", "- * a b * c d"),
    ("{name} fills [a] {box} with [b] {thing} each . {other} fills [c] with [d] each . how many {thing} are there ?",
     "+ * a b * c d"),
    ("{name} puts [a] {thing} into [b] {box} evenly and {other} puts [c] more into each . how many {thing} are in all "
     "the {box} ?", "* b + / a b c"),
    ("{name} {gain} [a] {thing} each day . how many {thing} are these in [b] weeks ?", "* a * b 7.0"),
    ("{name} buys [a] dozen {thing} and {loss} [b] of them . how many {thing} are left ?", "- * a 12.0 b"),
)  # fmt: skip


def _chain(signs: str) -> tuple[str, str]:
    """What happens to one person's things, an event for each sign."""
    equation, told = "a", ["{name} has [a] {thing}"]
    for letter, sign in zip("bcd", signs):
        equation = f"{sign} {equation} {letter}"
        told.append(f"then {{name}} {'{gain}' if sign == '+' else '{loss}'} [{letter}]")
    return " . ".join([*told, "how many {thing} does {name} have now ?"]), equation


def _asked(first: str, second: str) -> list[tuple[str, str]]:
    """What two of three people have: the names of the question say which quantities count."""
    people = {"a": "{name}", "b": "{other}", "c": "{third}"}
    told = "{name} has [a] {thing} . {other} has [b] . {third} has [c] . how many"
    more = f"{told} more {{thing}} does {people[first]} have than {people[second]} ?"
    together = f"{told} {{thing}} do {people[first]} and {people[second]} have together ?"
    return [(more, f"- {first} {second}"), (together, f"+ {first} {second}")]


chains = ["".join(signs) for count in (2, 3) for signs in itertools.product("+-", repeat=count)]
templates = (*told, *map(_chain, chains), *(one for pair in itertools.permutations("abc", 2) for one in _asked(*pair)))
distractions = (
    "{fourth} is [x] years old .",
    "{fourth} has [x] pictures of {thing} .",
    "the shop has [x] windows .",
    "the walk there takes [x] minutes .",
)


class _Stream:
    """Whole numbers from the raw stream of a bit generator, which is what numpy promises never to change."""

    def __init__(self):
        self.raw = np.random.PCG64(seed)
        self.block: Iterator[int] = iter(())

    def below(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        value = next(self.block, None)
        if value is None:
            self.block = iter((self.raw.random_raw(1 << 14) >> np.uint64(32)).tolist())
            value = next(self.block)
        return value * bound >> 32

    def one(self, choices):
        return choices[self.below(len(choices))]


@functools.cache
def problems() -> tuple[list[Problem], list[Problem]]:
    """Training and test problems, the same on every machine. No template has the same numbers twice."""
    stream = _Stream()
    seen: set[tuple] = set()
    found: list[Problem] = []
    while len(found) < count:
        which = stream.below(len(templates))
        text, equation = templates[which]
        letters = sorted(re.findall(r"\[(\w)\]", text))
        numbers, key = {}, None
        while key is None or key in seen or not _sensible(equation, numbers):
            numbers = {letter: float(least + stream.below(most - least + 1)) for letter in letters}
            key = (which, *numbers.values())
        seen.add(key)
        found.append(_told(stream, text, equation, numbers, f"generated:{len(found)}"))
    return found[tested:], found[:tested]


def _sensible(equation: str, numbers: dict[str, float]) -> bool:
    """Is every step of the answer a whole number above 0, and the answer below 10,000?"""
    tokens = equation.split()
    for start in range(len(tokens)):
        end = next(end for end in range(start + 1, len(tokens) + 1) if expression.whole(tokens[start:end]))
        value = _value(tokens[start:end], numbers)
        if value is None or value <= 0 or value != int(value) or value >= 10_000:
            return False
    return True


def _value(tokens: list[str], numbers: dict[str, float]) -> float | None:
    letters = list(numbers)
    named = [f"number{letters.index(token)}" if token in numbers else token for token in tokens]
    return expression.evaluate(named, list(numbers.values()))


def _told(stream: _Stream, text: str, equation: str, numbers: dict[str, float], where: str) -> Problem:
    """The problem in words; quantities are numbered in the order in which they are told."""
    sentences = text.replace(" ?", "").split(" . ")
    if stream.below(1000) < 1000 * distracted:
        sentences.insert(stream.one((0, len(sentences) - 1)), stream.one(distractions).removesuffix(" ."))
        numbers = {**numbers, "x": float(least + stream.below(most - least + 1))}
    free = list(names)
    people = {who: free.pop(stream.below(len(free))) for who in ("name", "other", "third", "fourth")}
    drawn = {**people, "thing": stream.one(things), "box": stream.one(boxes)}

    def word(found: re.Match) -> str:
        verbs = {"gain": gains, "loss": losses}.get(found[1])
        if verbs is None:
            return drawn[found[1]]
        return verbs[min(stream.below(len(verbs)), stream.below(len(verbs)))]  # some are told more rarely than others

    words = re.sub(r"\{(\w+)\}", word, " . ".join(sentences) + " ?").split()
    places = {word[1]: at for at, word in enumerate(words) if word.startswith("[")}
    order = list(places)
    tokens = [f"number{order.index(token)}" if token in places else token for token in equation.split()]
    asked = words.index("how") + 2
    answer = _value(equation.split(), {k: v for k, v in numbers.items() if k != "x"})
    assert answer is not None, "only sensible problems are told"
    near = {at + step for at in (*places.values(), asked) for step in (-1, 0, 1) if 0 <= at + step < len(words)}
    return Problem(
        words=[NUMBER if word.startswith("[") else word for word in words],
        numbers=[numbers[letter] for letter in order],
        equation=tokens,
        answer=answer,
        places=list(places.values()),
        cells=sorted(near),
        where=where,
    )

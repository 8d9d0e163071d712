"""Splits are the same on every machine, and what was read is kept until its files change."""

from dataclasses import dataclass, field

from common.data import splits


@dataclass
class Config:
    name: str = "a"
    limits: list[float] = field(default_factory=list)


def test_an_order_is_a_function_of_its_seed_for_ever():
    assert splits.order(20_190_506, 8).tolist() == [0, 6, 5, 7, 4, 3, 2, 1]
    assert sorted(splits.order(1, 100)) == list(range(100))
    assert splits.draws(1, 5).tolist() == splits.draws(1, 9)[:5].tolist() != splits.draws(2, 5).tolist()


def test_what_was_read_is_kept_until_the_stamp_is_another():
    stamp, read = ["old"], []

    @splits.kept(lambda config: tuple(stamp), most=2)
    def load(config: Config, fold: int) -> object:
        read.append((config.name, config.limits, fold))
        return object()

    first = load(Config(limits=[1.0]), 0)
    assert load(Config(limits=[1.0]), 0) is first and read == [("a", [1.0], 0)]
    assert load(Config(limits=[2.0]), 0) is not first is not load(Config(limits=[1.0]), 1)
    stamp[0] = "new"
    assert load(Config(limits=[1.0]), 0) is not first and len(read) == 4

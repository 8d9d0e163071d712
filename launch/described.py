"""What the place of a stage's folder and the configuration in it say of the stage, planned or on disk alike."""

from dataclasses import dataclass, field
from pathlib import Path


class Described:
    """``folder``: ``<task>/<digest>`` in a runs folder. ``config``: its config.yaml, of which a part may be missing."""

    folder: Path
    config: dict

    @property
    def digest(self) -> str:
        return self.folder.name

    @property
    def task(self) -> str:
        return self.folder.parent.name

    @property
    def key(self) -> str:
        """``task/digest``, by which ledgers and offsets name it."""
        return f"{self.task}/{self.digest}"

    @property
    def parent(self) -> str | None:
        """The digest of the stage it starts from."""
        return self._text("parent") or None

    @property
    def method(self) -> str:
        return self._text("method")

    @property
    def seed(self) -> int | None:
        return self.config.get("seed")

    @property
    def variant(self) -> str:
        """What sets it apart from the embedded default, see ``launch.request.variants``."""
        return self._text("variant")

    @property
    def replicate(self) -> str:
        """``task.fold=3``: the split of the data; results are averaged over it as over seeds. "" where it has none."""
        return self._text("replicate")

    @property
    def data(self) -> str:
        """The first eight digits of its data's checksum."""
        return self._text("data")[:8]

    @property
    def dataset(self) -> str:
        return self._of_task("dataset")

    @property
    def model(self) -> str:
        return self._of_task("model")

    def _text(self, key: str) -> str:
        return str(self.config.get(key) or "")

    def _of_task(self, key: str) -> str:
        settings = self.config.get("settings")
        section = settings.get("task") if isinstance(settings, dict) else None
        return str(section.get(key) or "") if isinstance(section, dict) else ""


@dataclass(frozen=True)
class Stage(Described):
    """A stage of a plan. ``config``: what its ``config.yaml`` holds, or will; ``why``: why it is in this ``state``."""

    folder: Path
    config: dict = field(repr=False, compare=False)
    depth: int
    state: str
    why: str

    @property
    def sparsity(self) -> float | None:
        return self.config["sparsity"]

    @property
    def processes(self) -> int:
        """Processes that train it together."""
        return self.config["settings"]["run"].get("processes", 1)

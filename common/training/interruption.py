"""What a caller may ask of a stage that trains; ``common.stage.run.execute`` wants to know before every step.

``None``: go on. A text: write a resume point and leave; the text is the reason. ``SAVE``: write a resume point now and
go on training. This file imports no torch, so that launchers can answer without it.
"""

from collections.abc import Callable
from enum import Enum


class Request(Enum):
    SAVE = "save"


SAVE = Request.SAVE
Interruption = Request | str | None
Stop = Callable[[], Interruption]

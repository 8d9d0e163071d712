"""What a caller may wish of a stage that trains; ``common.stage.run.execute`` asks for it before every step.

``None``: go on. A text: write a resume point and leave, the text is the reason. ``SAVE``: write a resume point now and
go on training. This file imports no torch, so that launchers can answer without it.
"""

from enum import Enum


class Wish(Enum):
    SAVE = "save"


SAVE = Wish.SAVE

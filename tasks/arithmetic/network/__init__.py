"""The parts of GTS and Graph2Tree that ``model.py`` puts together."""

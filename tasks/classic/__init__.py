"""Image classification on small data sets: where most published sparse-training claims can be checked in minutes."""

"""The models of ``task.model``, one file each (``esm-if1`` is ``esm_if1.py``), and what they share.

``build(config)`` of such a file makes its encoder in its starting state, which has ``width``, ``alphabet`` and
``limit`` (the most residues it takes, None: any number), and gives float32 [batch, length, width] for tokens int64 and
mask bool [batch, length]; one of structures takes coordinates float32 [batch, length, 3, 3] and numbers int64 [batch,
length] too (places in the whole protein; None: one after another). It may have ``usual``, the
residues read where nothing is asked for; ``exclude``, patterns of the names of its weights that are never prunable;
``answered(residues, coordinates)``, bool, the residues that the mean is over (else all of them); and ``recompute()``,
after which the backward pass computes each layer's activations again: less memory, a third more time.
"""

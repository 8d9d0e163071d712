"""One stage: the digest that names it, how it is brought to its end, and the summary it leaves."""

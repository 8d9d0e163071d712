"""Math word problems: a question in words to the expression that answers it, by GTS and Graph2Tree."""

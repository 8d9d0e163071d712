"""From the files of a data set to checked examples in fixed splits; structures and pretrained weights too. No torch."""

"""From the files of a data set to checked problems in fixed splits, and what tells them apart. No torch."""

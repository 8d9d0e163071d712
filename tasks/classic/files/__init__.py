"""From the files of a data set to checked images in fixed splits, and what tells them apart. No torch."""

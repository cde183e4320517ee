"""Labels in and out: files of annotation tools and data sets, by the stamps of frames."""

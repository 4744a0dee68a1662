"""Ray Data and Ray Train: Parquet in, Parquet out."""

"""`t2d cluster`: many pictures on the machines of a Ray cluster, with Ray Data, into one Parquet dataset."""

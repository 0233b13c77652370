"""How one step is run: read, compute, write, return a reference. Knows Prefect, Dask and MLflow."""

"""Plan → Dask graph, and what a worker runs: `hcsflow.graph.tasks` is the only such code."""

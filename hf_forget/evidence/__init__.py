"""Evidence of forgetting: probes, metrics, intervals, attacks, the verdict and the report."""

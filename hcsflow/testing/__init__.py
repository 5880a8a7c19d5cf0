"""For tests and the demo: synthetic plates with known truth, comparison, conformance kits."""

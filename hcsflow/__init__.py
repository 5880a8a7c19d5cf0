"""hcsflow."""

"""hcsflow package."""

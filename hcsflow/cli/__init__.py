"""The command line: parse, call `hcsflow.session`, print."""

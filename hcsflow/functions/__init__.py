"""Ready-made step functions, and the catalogue that finds them by name and memory type.

Every function takes ``(stack, *, parameters)``, a stack (Z, Y, X), and keeps its dtype (masks
are uint8 of 0 and 1, labels uint32). Nothing is imported here: `hcsflow.functions.catalogue`
knows where each lies.
"""

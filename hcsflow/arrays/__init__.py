"""Arrays of any library: detect, convert, cast, stack, declare.

Asking what an array is imports nothing; a library is imported by its adapter alone, when an
array is to become one of its own.
"""

from hcsflow.arrays.casting import cast
from hcsflow.arrays.cleanup import (
    FreedMemory,
    cleanup_all_gpu_frameworks,
    cleanup_gpu_memory_by_framework,
)
from hcsflow.arrays.conversions import conversion
from hcsflow.arrays.convert import conversion_path, convert, to_numpy
from hcsflow.arrays.decorators import (
    cupy,
    jax,
    memory_types,
    numpy,
    pyclesperanto,
    tensorflow,
    torch,
)
from hcsflow.arrays.libraries import (
    MEMORY_TYPES,
    find_memory_type,
    is_installed,
    memory_type_of,
)
from hcsflow.arrays.stacks import check_stack, stack_slices, unstack_slices

__all__ = [
    "MEMORY_TYPES",
    "FreedMemory",
    "cast",
    "check_stack",
    "cleanup_all_gpu_frameworks",
    "cleanup_gpu_memory_by_framework",
    "conversion",
    "conversion_path",
    "convert",
    "cupy",
    "find_memory_type",
    "is_installed",
    "jax",
    "memory_type_of",
    "memory_types",
    "numpy",
    "pyclesperanto",
    "stack_slices",
    "tensorflow",
    "to_numpy",
    "torch",
    "unstack_slices",
]

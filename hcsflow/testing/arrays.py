"""What every array library's adapter must do, as tests to inherit.

Subclass `ArrayAdapterTests`, name the memory type, say how an array of it is made, and run it with
pytest. Attributes say where a library differs by design.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hcsflow.arrays import memory_type_of
from hcsflow.arrays.casting import CASTABLE, MODES
from hcsflow.arrays.conversions import HOLDS, LAYOUTS, Conversion, Place, conversion
from hcsflow.arrays.libraries import LIBRARIES, Adapter, adapter_of, dtype_name
from hcsflow.errors import MemoryConversionError
from hcsflow.testing.array_checks import (
    cast_value,
    check_conversion,
    edges_of,
    numpy_array,
    overwrite,
    raises,
    values_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ArrayAdapterTests"]


class ArrayAdapterTests:
    """Tests of one library's adapter.

    ``memory_type`` names the library; ``cast_dtypes`` are those that are all cast to each other;
    ``absent_device`` is a device that no machine has; ``place`` and ``device`` say where the arrays
    of `make` lie, if not where the library puts them by itself.
    """

    memory_type: ClassVar[str]
    cast_dtypes: ClassVar[tuple[str, ...]] = ("uint8", "int8", "uint16", "int16")
    absent_device: ClassVar[int | str] = 99
    place: ClassVar[Place | None] = None
    device: ClassVar[int | str | None] = None

    @property
    def adapter(self) -> Adapter:
        """What is tested."""
        return adapter_of(self.memory_type)

    def make(self, dtype: str, layout: str) -> Any:
        """Return a small array of the library, made without its adapter."""
        raise NotImplementedError

    def _take(self, array: NDArray[Any]) -> Any:
        return self.adapter.from_host(array, self.device)

    def _taken(self, dtype: str, layout: str) -> Conversion:
        found = conversion("numpy", self.memory_type, dtype, layout)
        return "copy" if found == "zero-copy" and self.place == "device" else found

    def test_asking_imports_nothing(self) -> None:
        """Detecting an array and looking for libraries loads none of them."""
        code = (
            "import sys, numpy, hcsflow.arrays as arrays\n"
            "arrays.memory_type_of(numpy.zeros(1)), arrays.find_memory_type('x')\n"
            "[arrays.is_installed(name) for name in arrays.MEMORY_TYPES]\n"
            f"arrays.conversion('numpy', {self.memory_type!r}, 'uint8')\n"
            f"arrays.conversion_path('numpy', {self.memory_type!r})\n"
            "print(*sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)  # noqa: S603
        packages = {
            module.partition(".")[0] for lib in LIBRARIES.values() for module, _ in lib.classes
        }
        assert set(done.stdout.decode().split()) & packages == {"numpy"}

    def test_detected(self) -> None:
        """An array is known for what it is, and its dtype by numpy's name."""
        for dtype in HOLDS[self.memory_type].dtypes:
            for layout in HOLDS[self.memory_type].layouts:
                array = self._make(dtype, layout)
                if array is not None:
                    assert memory_type_of(array) == self.memory_type
                    assert dtype_name(array) == dtype

    def _make(self, dtype: str, layout: str) -> Any:
        """Make an array; None for numpy's bfloat16 where no library has brought it."""
        if (dtype, layout) == ("bfloat16", "big-endian"):
            return None
        try:
            return self.make(dtype, layout)
        except TypeError:
            if (self.memory_type, dtype) != ("numpy", "bfloat16"):
                raise
            return None

    def test_from_numpy(self) -> None:
        """Every dtype and layout comes in as the table says."""
        for dtype in CASTABLE:
            for layout in LAYOUTS:
                given = numpy_array(dtype, layout)
                check_conversion(given, self._take, self._taken(dtype, layout))

    def test_to_numpy(self) -> None:
        """Every dtype and layout goes out as the table says."""
        for dtype in HOLDS[self.memory_type].dtypes:
            for layout in HOLDS[self.memory_type].layouts:
                array = self._make(dtype, layout)
                if array is not None:
                    expected = conversion(
                        self.memory_type, "numpy", dtype, layout, place=self.place
                    )
                    check_conversion(array, self.adapter.to_host, expected)

    def test_read_only_memory_is_never_written_to(self) -> None:
        """What cannot be changed by numpy cannot be changed through a conversion of it."""
        for dtype in HOLDS[self.memory_type].dtypes:
            if self._taken(dtype, "read-only") != "refused" and dtype in CASTABLE:
                given = numpy_array(dtype, "read-only")
                before = values_of(given)
                overwrite(self._take(given))
                assert values_of(given) == before
                assert not given.flags.writeable

    def test_casts(self) -> None:
        """Every value at the edge of a dtype is cast alike in every library."""
        for source in HOLDS[self.memory_type].dtypes:
            for target in CASTABLE if source in CASTABLE else ():
                if self._casts(source, target):
                    self._check_casts(source, np.dtype(target))

    def _casts(self, source: str, target: str) -> bool:
        """Tell whether two dtypes are cast; if not, nothing between them may be."""
        zeros = self._take(np.zeros_like(edges_of(source)))
        try:
            self.adapter.cast(zeros, np.dtype(target), "saturate")
        except MemoryConversionError:
            assert not {source, target} <= set(self.cast_dtypes), (source, target)
            array = self._take(edges_of(source))
            for mode in MODES:
                raises(MemoryConversionError, self.adapter.cast, array, np.dtype(target), mode)
            return False
        return True

    def _check_casts(self, source: str, target: np.dtype[Any]) -> None:
        edges = edges_of(source)
        found = [cast_value(value, target) for value in edges]
        fits = np.array([fitted for _, fitted in found])
        self._check_cast(edges, target, "saturate", [value for value, _ in found])
        fitting = [value if fitted else 0 for value, fitted in found]
        for mode in MODES:
            self._check_cast(np.where(fits, edges, np.zeros_like(edges)), target, mode, fitting)
        if not fits.all():
            array = self._take(edges)
            raises(MemoryConversionError, self.adapter.cast, array, target, "refuse")

    def _check_cast(
        self, edges: NDArray[Any], target: np.dtype[Any], mode: str, expected: list[Any]
    ) -> None:
        given = self._take(edges)
        before = values_of(given)
        result = self.adapter.cast(given, target, mode)
        assert memory_type_of(result) == self.memory_type
        assert dtype_name(result) == target.name
        where = f"{edges.dtype} to {target}, {mode}"
        np.testing.assert_array_equal(values_of(result), expected, err_msg=where)
        np.testing.assert_array_equal(values_of(given), before, err_msg=f"input, {where}")

    def test_casts_keep_the_shape(self) -> None:
        """Empty arrays and those of no dimension are cast too."""
        for layout in set(HOLDS[self.memory_type].layouts) & {"C", "zero-size", "0-d"}:
            given = numpy_array("uint16", layout)
            result = self.adapter.cast(self._take(given), np.dtype("uint8"), "refuse")
            assert memory_type_of(result) == self.memory_type
            assert tuple(result.shape) == given.shape

    def test_stack(self) -> None:
        """Planes become a new array; nothing leads from it back to them."""
        for number in (1, 3):
            planes = [self._take(np.full((3, 4), n + 1, np.uint16)) for n in range(number)]
            stack = self.adapter.stack(planes)
            assert tuple(stack.shape) == (number, 3, 4)
            assert dtype_name(stack) == "uint16"
            assert values_of(stack) == [values_of(plane) for plane in planes]
            overwrite(stack)
            assert values_of(planes[-1]) == np.full((3, 4), number).tolist()

    def test_an_absent_device_is_refused(self) -> None:
        """Nothing is put elsewhere than asked."""
        host = numpy_array("uint16", "C")
        array = self._take(host)
        raises(MemoryConversionError, self.adapter.from_host, host, self.absent_device)
        raises(MemoryConversionError, self.adapter.place, array, self.absent_device)
        assert values_of(array) == values_of(host)

    def test_threads(self) -> None:
        """Two threads convert and cast at once and each finds its own."""

        def round_trip(number: int) -> bool:
            array = self._take(np.full((8, 16, 16), number, np.uint16))
            narrow = self.adapter.cast(array, np.dtype("uint8"), "saturate")
            return bool((self.adapter.to_host(narrow) == number).all())

        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(round_trip, range(40)))

"""Runs, faults, damage and changes in any order, against a model in plain Python.

A script: ``weekend.py PIPELINE FOLDER EXAMPLES STEPS SEED`` prints what it did as JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import ClassVar

from forks import Zygote
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from twin import PATHS, STORES, WELLS, Twin, Version, hashes, listed, paint

numbers = st.integers(1, 40) | st.integers(1, 450)
some_wells = st.sets(st.sampled_from(WELLS), min_size=1).map(lambda found: tuple(sorted(found)))


class Weekend(RuleBasedStateMachine):
    """One output folder, and what may happen to it."""

    twin: ClassVar[Twin]
    count: ClassVar[dict[str, int]] = {"faults": 0, "runs": 0, "steps": 0}

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.twin.folder))
        self.plate, self.output = self.folder / "PLATE", self.folder / "OUT"
        shutil.copytree(self.twin.template, self.plate)
        self.level, self.factor = 1, 2
        self.values = dict.fromkeys(WELLS, 0)
        self.stamps = dict.fromkeys(WELLS, 0)
        self.clock = itertools.count(1_600_000_000, 10)
        self.damaged: set[tuple[str, str]] = set()
        self.may_be: dict[tuple[str, str], set[Version | None]] = {
            (name, well): {None} for name in STORES for well in WELLS
        }

    @initialize()
    def paint_all(self) -> None:
        for well in WELLS:
            self._repaint(well, 100)

    @invariant()
    def count_the_step(self) -> None:
        self.count["steps"] += 1

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(level=st.integers(1, 2))
    def change_the_first_step(self, level: int) -> None:
        self.level = level

    @rule(factor=st.integers(2, 3))
    def change_the_second_step(self, factor: int) -> None:
        self.factor = factor

    @rule(wells=some_wells)
    def run_some_wells(self, wells: tuple[str, ...]) -> None:
        self._settle(self._ask(wells), wells)

    @rule()
    def run_all(self) -> None:
        self._settle(self._ask(WELLS), WELLS)

    @rule(wells=some_wells)
    def run_afresh(self, wells: tuple[str, ...]) -> None:
        for unit in self.may_be:
            self.may_be[unit] = {None}
        self.damaged.clear()
        self._settle(self._ask(wells, fresh=True), wells)

    @rule(wells=some_wells, at=numbers, fresh=st.sampled_from([False, False, True]))
    def kill_a_run(self, wells: tuple[str, ...], at: int, fresh: bool) -> None:
        self._disturb(wells, at, "kill", fresh)

    @rule(wells=some_wells, at=numbers, kind=st.sampled_from(["full", "error", "broken"]))
    def fail_the_disk(self, wells: tuple[str, ...], at: int, kind: str) -> None:
        self._disturb(wells, at, kind, fresh=False)

    @rule(well=st.sampled_from(WELLS), value=st.sampled_from([100, 107]))
    def overwrite_an_input(self, well: str, value: int) -> None:
        self._repaint(well, value)

    @rule(number=st.integers(0, 1000))
    def delete_an_object(self, number: int) -> None:
        if found := self._object(number):
            found[1].unlink()
            self._damage(found[0])

    @rule(number=st.integers(0, 1000), place=st.integers(0, 10_000))
    def overwrite_a_byte(self, number: int, place: int) -> None:
        found = self._object(number)
        if found:
            unit, path = found
            self._flip(path, place)
            later = path.stat().st_mtime_ns + 60 * 10**9
            os.utime(path, ns=(later, later))
            self._damage(unit)

    @rule(number=st.integers(0, 1000), place=st.integers(0, 10_000))
    def rot_is_found_by_verify(self, number: int, place: int) -> None:
        found = self._object(number)
        if found and found[0] not in self.damaged:
            _, path = found
            times = path.stat()
            self._flip(path, place)
            name = path.relative_to(self.output).as_posix()
            findings = self.twin.zygote.ask("verify", output=self.output)["findings"]
            assert name in [finding["path"] for finding in findings], f"{name}: {findings}"
            self._flip(path, place, -1)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    # The model.

    def _ask(self, wells: tuple[str, ...], **fault: object) -> dict[str, object]:
        self.count["runs"] += 1
        return self.twin.zygote.ask(
            "run", verify=True, plate=self.plate, output=self.output, wells=wells,
            pipeline=self.twin.pipeline,
            parameters={"lift.level": self.level, "spread.factor": self.factor}, **fault,
        )  # fmt: skip

    def _now(self, well: str) -> Version:
        return Version(self.level, self.factor, self.values[well], self.stamps[well])

    def _is_alike(self, name: str, a: Version | None, b: Version, *, stamp: bool = True) -> bool:
        """Whether two versions of a unit are the same, by steps and, if asked, by input."""
        return (
            a is not None
            and a.level == b.level
            and (name == "lift" or a.factor == b.factor)
            and (not stamp or a.stamp == b.stamp)
        )

    def _disturb(self, wells: tuple[str, ...], at: int, kind: str, fresh: bool) -> None:
        """Run with a fault: what the plates list is whole all the same."""
        answer = self._ask(wells, at=at, kind=kind, fresh=fresh)
        if answer["end"] == "exit" and len(answer["changes"]) < at:
            if fresh:
                self.may_be.update((unit, {None}) for unit in self.may_be)
                self.damaged.clear()
            self._settle(answer, wells)
            return
        self.count["faults"] += 1
        assert answer["end"] == ("killed" if kind == "kill" else "exit"), answer
        assert "BUG" not in (answer.get("error") or ""), answer["trace"]
        for (_, well), versions in self.may_be.items():
            if well in wells:
                versions |= {None, self._now(well)}
            elif fresh:
                versions |= {None}
        self._check_listed()

    def _settle(self, answer: dict[str, object], wells: tuple[str, ...]) -> None:
        """Check what an undisturbed run did, and note what is there now."""
        assert answer["error"] is None, answer
        for well, (status, *_) in answer["counts"].items():
            self._check_status(well, status)
        for name, well in self.may_be:
            if well in wells:
                self.may_be[name, well] = {self._now(well)}
                self.damaged.discard((name, well))
        for name, store in STORES.items():
            self._check_listing(name, store, wells)
        self._check_listed()
        self._check_bytes()
        litter = [p for p in self.output.rglob("*") if p.suffix in (".tmp", ".part")]
        assert not litter, litter
        assert not (self.output / ".hcsflow" / "scratch").exists()
        assert not (self.output / ".hcsflow" / "lock").exists()
        assert not list(self.twin.zygote.temporary.glob("hcsflow*"))
        left = self.damaged | {unit for unit, versions in self.may_be.items() if None in versions}
        known = tuple(f"{STORES[name]}/{PATHS[well]}" for name, well in left)
        strange = [f for f in answer["findings"] if not f["path"].startswith((*known, "\0"))]
        assert not strange, strange

    def _check_status(self, well: str, status: str) -> None:
        """A well is skipped if all of it is as wanted, done otherwise; after a fault either."""
        now = self._now(well)
        by_unit = [
            {self._is_alike(name, v, now) for v in self.may_be[name, well]} for name in STORES
        ]
        if by_unit == [{True}, {True}]:
            assert status == "skipped", f"{well} was made again"
        elif {False} in by_unit:
            assert status == "done", f"{well} was {status}"
        else:
            assert status in ("done", "skipped"), f"{well} was {status}"

    def _check_listing(self, name: str, store: str, wells: tuple[str, ...]) -> None:
        """A plate lists the wells asked for, and those that were made by the same steps."""
        found = listed(self.output, store)
        for well in WELLS:
            versions = self.may_be[name, well]
            alike = {v for v in versions if self._is_alike(name, v, self._now(well), stamp=False)}
            if alike == versions:
                assert well in found, f"{well} is whole and not listed in {store}"
            elif not alike:
                assert well not in found, f"{well} is listed in {store}, made by other steps"
            self.may_be[name, well] = alike if well in found else (versions - alike) or {None}

    def _check_listed(self) -> None:
        """Every listed well is, whole, one of the versions that it may be."""
        found = hashes(self.output)
        for name, store in STORES.items():
            for well in listed(self.output, store):
                if (name, well) in self.damaged:
                    continue
                start = f"{store}/{PATHS[well]}/"
                here = {n: h for n, h in found.items() if n.startswith(start)}
                versions = [
                    {n: h for n, h in self._files_of(version, well).items() if n.startswith(start)}
                    for version in self.may_be[name, well]
                    if version
                ]
                assert here in versions, f"{well} is listed in {store} and not whole"

    def _files_of(self, version: Version, well: str) -> dict[str, str]:
        return self.twin.files(version.level, version.factor, {well: version.value})

    def _check_bytes(self) -> None:
        """Documents and tables are those of an undisturbed run of the listed wells."""
        found = hashes(self.output)
        for name, store in STORES.items():
            wells = listed(self.output, store)
            versions = {well: self.may_be[name, well] for well in wells}
            if not wells or any(len(found) > 1 for found in versions.values()):
                continue
            values = {well: next(iter(v)).value for well, v in versions.items()}
            right = self.twin.files(self.level, self.factor, values)
            start = (f"{store}/",) if name == "lift" else (f"{store}/", "results/")
            different = [n for n in right if n.startswith(start) and found.get(n) != right[n]]
            assert not different, f"differs from an undisturbed run: {sorted(different)[:5]}"

    def _repaint(self, well: str, value: int) -> None:
        self.values[well] = value
        paint(self.plate, well, value)
        (path,) = self.plate.rglob(f"*_{well}_*.tif")
        time = next(self.clock)
        os.utime(path, (time, time))
        self.stamps[well] = time

    def _object(self, number: int) -> tuple[tuple[str, str], Path] | None:
        """Choose a stored file of a well that is on record."""
        found = []
        for name, folder in (("lift", "00_lift"), ("final", "final")):
            for well in WELLS:
                entry = self.output / ".hcsflow" / "journal" / folder / f"{well}.json"
                if entry.is_file():
                    for item in json.loads(entry.read_text())["objects"]:
                        path = self.output / item["path"]
                        if path.is_file() and path.stat().st_size:
                            found.append(((name, well), path))
        return found[number % len(found)] if found else None

    def _flip(self, path: Path, place: int, step: int = 1) -> None:
        data = bytearray(path.read_bytes())
        data[place % len(data)] = (data[place % len(data)] + step) % 256
        path.write_bytes(data)

    def _damage(self, unit: tuple[str, str]) -> None:
        self.count["faults"] += 1
        self.damaged.add(unit)
        self.may_be[unit] = {None}


def main(pipeline: str, folder: str, examples: str, steps: str, number: str) -> None:
    """Run that many examples of the machine, and print what was done and what was wrong."""
    place = Path(folder)
    zygote = Zygote(place)
    Weekend.twin = Twin(zygote, Path(pipeline), place)
    how = settings(
        max_examples=int(examples),
        stateful_step_count=int(steps),
        phases=[Phase.generate],  # shrinking runs would take its time: see the steps printed
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    wrong = ""
    try:
        run_state_machine_as_test(seed(int(number))(Weekend), settings=how)
    except AssertionError:
        wrong = traceback.format_exc()
    zygote.close()
    print(json.dumps(Weekend.count | {"wrong": wrong}))


if __name__ == "__main__":
    main(*sys.argv[1:])

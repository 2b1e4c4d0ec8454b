"""The fitting program on a world whose constants are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.validate import fit as fitting
from trainshed.validate import fits, fitted_files, predictor, robust
from trainshed.validate.fits import Mechanism, Stage
from trainshed.validate.setup import Setup
from trainshed.validate.table import Prediction, Row, skip

TRUE = {"chip/h100-sxm.fitted.a": 0.5, "chip/b200.fitted.a": 0.8, "chip/h100-sxm.fitted.b": 2e-3}
START = {"a": 0.6, "b": 1e-3}


def mechanism(name: str, start: float, low: float, high: float, **more: object) -> Mechanism:
    return Mechanism(
        scope="chip", mechanism=name, unit="1", meaning=f"the {name}", start=start, bounds=(low, high), spread=5.0,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


STAGE = Stage(
    name="world", order=1, tables=("training",),
    mechanisms=(mechanism("a", START["a"], 0.1, 1.0), mechanism("b", START["b"], 1e-5, 1.0, only=("h100*",))),
)  # fmt: skip


def time(work: float, chip: str, values: dict[str, float]) -> float:
    a = values.get(f"chip/{chip}.fitted.a", START["a"])
    return work / a + values.get(f"chip/{chip}.fitted.b", START["b"])


class World:
    """A table whose rows take work / a + b seconds."""

    def predict(self, rows: Sequence[Row], setup: Setup) -> list[Prediction]:
        values = {k: float(v) for k, v in setup.values.items()}
        return [
            skip("no chip") if row.text("chip") is None
            else Prediction(value=time(row.number("seq") or 0.0, str(row.text("chip")), values))
            for row in rows
        ]  # fmt: skip


def rows() -> list[Row]:
    out = []
    for n in range(40):
        chip, work = ("h100-sxm", "b200")[n % 2], 10.0 ** (-4 + (n // 2) % 5)
        wrong = 3.0 if n % 13 == 5 else 1.0
        fixed = {"id": f"t{n}", "group": f"g{n % 4}", "tier": "A", "metric": "step_time_s", "primary": True}
        value = wrong * time(work, chip, TRUE)
        cells = {**fixed, "value": value, "chip": chip, "system": "none", "seq": work}
        out.append(Row(table="training", file="f", line=n, cells=cells))
    return [*out, Row(table="training", file="f", line=99, cells={**out[0].cells, "id": "t99", "chip": ""})]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> fitting.Fit:
    monkeypatch.setattr(predictor, "model_of", lambda table: World())
    return fitting.Fit(STAGE, rows()[:-1], Setup(), workers=1)


def test_known_constants_are_found_in_spite_of_outliers(world: fitting.Fit) -> None:
    assert {u.name for u in world.unknowns} == set(TRUE)
    found = world.values(world.solve(steps=40).x)
    assert found == pytest.approx(TRUE, rel=0.02)


def test_only_rows_of_the_owner_are_touched(world: fitting.Fit) -> None:
    for unknown in world.unknowns:
        assert {world.rows[i].text("chip") for i in unknown.rows} == {unknown.owner}
    assert len(world._columns_together()) == 2


def test_the_jacobian_is_that_of_log_times(world: fitting.Fit) -> None:
    x = world.problem.start
    J = world.jacobian(x, world.residuals(x))
    a = next(i for i, u in enumerate(world.unknowns) if u.name == "chip/b200.fitted.a")
    work = np.array([row.number("seq") or 0.0 for row in world.rows])
    share = work / START["a"] / (work / START["a"] + START["b"])
    expected = np.where([row.text("chip") == "b200" for row in world.rows], -share, 0.0)
    assert J[:, a] == pytest.approx(expected, abs=2e-3)


def test_one_stacked_prediction_gives_the_same_jacobian(world: fitting.Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stacked(World):
        def predict(self, rows: Sequence[Row], setup: Setup) -> list[Prediction]:
            runs = max((np.size(v) for v in setup.values.values()), default=1)
            each = [{k: np.broadcast_to(np.ravel(v), (runs,))[n] for k, v in setup.values.items()} for n in range(runs)]
            answers = [World().predict(rows, Setup(values=values)) for values in each]
            return [Prediction(value=np.array([a[i].value for a in answers])) for i in range(len(rows))]

    x = world.problem.start
    r = world.residuals(x)
    plain = world.jacobian(x, r)
    monkeypatch.setattr(predictor, "model_of", lambda table: Stacked())
    monkeypatch.setattr(world, "stage", replace(STAGE, stacked=True))
    assert world.jacobian(x, r) == pytest.approx(plain)


def test_leaving_a_group_out(world: fitting.Fit) -> None:
    solution = world.solve(steps=40)
    out = np.array([row.group == "g1" for row in world.rows])
    values = world.values(robust.without(world.problem, solution, out))
    assert values == pytest.approx(TRUE, rel=0.05)


def test_an_owner_with_few_rows_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "model_of", lambda table: World())
    fit = fitting.Fit(STAGE, rows()[:11], Setup(), workers=1)
    assert {u.owner for u in fit.unknowns} == set()


def test_entries_name_their_rows(world: fitting.Fit) -> None:
    entries = world.entries(world.solve(steps=40))
    (entry,) = [e for e in entries if e.name == "chip/b200.a"]
    assert entry.entry["status"] == "fitted"
    assert "20 rows of g1, g3 (training.csv, counted)" in entry.source


def test_saving_replaces_only_the_stages_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: fitting.Fit
) -> None:
    path = tmp_path / "fitted.toml"
    path.write_text(
        '[chip."b200"]\n"a" = { value = 0.1, status = "fitted" }\n"idle_power" = { value = "3 W" }\n'
        '"gone" = { value = 1.0 }\n'
    )
    monkeypatch.setattr(fitted_files, "files", lambda: {"chip": path})
    entries = world.entries(world.solve(steps=40))
    assert fitted_files.save(entries, STAGE) is False
    again = fitted_files.read(path)
    assert again["chip", "b200"]["idle_power"] == {"value": "3 W"}
    assert "gone" not in again["chip", "b200"]
    assert again["chip", "b200"]["a"]["value"] == pytest.approx(0.8, rel=0.02)
    values = fitted_files.values()
    assert values["chip/b200.fitted.idle_power"] == 3.0
    assert values["chip/h100-sxm.fitted.b"] == pytest.approx(2e-3, rel=0.05)
    assert fitted_files.save(entries[1:], STAGE) is True


def test_a_crash_of_a_table_loses_only_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fragile(World):
        def predict(self, rows: Sequence[Row], setup: Setup) -> list[Prediction]:
            if any(row.id == "t3" for row in rows):
                raise ZeroDivisionError("a bug")
            return super().predict(rows, setup)

    monkeypatch.setattr(predictor, "model_of", lambda table: Fragile())
    predictions = predictor.predict_rows(rows()[:6], Setup())
    assert [p.skipped for p in predictions] == ["", "", "", "crashed: ZeroDivisionError: a bug", "", ""]


def test_workers_give_the_same_in_the_same_order() -> None:
    every = rows()[:20]
    with predictor.Predictor(every, Setup(), workers=2) as two, predictor.Predictor(every, Setup()) as one:
        assert two.predict() == one.predict()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('order = 1\ntables = ["training"]\ncolour = 1\n', "colour"),
        ('order = 1\ntables = ["training"]\nwhere = { scope = ["alone"] }\n', "scope"),
        ('order = 1\ntables = ["training"]\n[[constant]]\nscoop = 1\n', "scoop"),
    ],
)
def test_a_broken_stage_says_where(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "stage.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        fits.stage(path)
    assert "stage.toml" in str(caught.value)


def test_owners_by_pattern() -> None:
    assert mechanism("a", 0.5, 0.1, 1.0, only=("h100*", "!*-pcie")).has("h100-sxm")
    assert not mechanism("a", 0.5, 0.1, 1.0, only=("h100*", "!*-pcie")).has("h100-pcie")
    assert mechanism("a", 0.5, 0.1, 1.0, only=("!h100*",)).has("b200")


def test_bounds_must_hold_the_start() -> None:
    with pytest.raises(UserError, match="bounds"):
        mechanism("a", 2.0, 0.1, 1.0)


def test_every_stage_reads_and_every_fitted_constant_has_one() -> None:
    mechanisms = [m for stage in fits.stages() for m in stage.mechanisms]
    for name in fitted_files.values():
        scope, _, rest = name.partition("/")
        assert any(m.scope == scope and rest.endswith(f".{m.mechanism}") for m in mechanisms), name


def test_no_constant_is_fitted_twice() -> None:
    """One stage per constant: a later one would overwrite what an earlier one rests on."""
    catalogue, software = Setup().catalogue, Setup().software
    levels = {level.interconnect for name in catalogue.systems() for level in catalogue.system(name).levels}
    owners = {
        "chip": catalogue.chips(), "interconnect": sorted(levels), "framework": software.frameworks(),
        "engine": software.engines(),
    }  # fmt: skip
    names = [m.name(o) for stage in fits.stages() for m in stage.mechanisms for o in filter(m.has, owners[m.scope])]
    assert sorted({name for name in names if names.count(name) > 1}) == []

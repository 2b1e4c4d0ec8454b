"""What ``import nki`` finds, in processes of their own: ours, a real package, a placeholder, a folder."""

import subprocess
import sys
from pathlib import Path

import pytest

OURS = "import trainshed.nki, nki; print(nki is trainshed.nki)"


def _run(code: str, path: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _package(path: Path, version: str | None, name: str = "nki", distribution: str = "") -> None:
    """A package called ``name``, of a distribution where a version is given."""
    (path / name).mkdir()
    (path / name / "__init__.py").write_text("who = 'real'\n")
    (path / name / "language.py").write_text("who = 'real'\n")
    if version is not None:
        info = path / f"{(distribution or name).replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution or name}\nVersion: {version}\n")


def test_every_module_is_ours_and_there_once(tmp_path):
    code = """
import trainshed.nki, importlib
for name in ("language", "isa", "isa.constants", "collectives", "typing", "compiler", "simulator", "tensor", "dtype",
             "experimental", "compiler.kernel_builder"):
    found, ours = importlib.import_module("nki." + name), importlib.import_module("trainshed.nki." + name)
    assert found is ours, name
    assert ours.__spec__.name == ours.__name__, name
import nki, nki.language as nl, nki.isa as nisa
from nki.isa.constants import oob_mode
assert nisa.oob_mode is oob_mode and nl is nki.language
print("all ours")
"""
    assert _run(code, tmp_path) == "all ours"


@pytest.mark.parametrize("version", ["0.3.0", "0.6.0", None])
def test_a_real_package_keeps_its_name(tmp_path, version):
    _package(tmp_path, version)
    code = "import trainshed.nki, nki, nki.language; print(nki.who, nki.language.who, trainshed.nki.hook.install())"
    assert _run(code, tmp_path) == "real real False"


def test_the_placeholder_counts_as_not_installed(tmp_path):
    _package(tmp_path, "0.0.1")
    assert _run(OURS, tmp_path) == "True"


def test_a_folder_of_that_name_is_no_package(tmp_path):
    (tmp_path / "nki" / "api").mkdir(parents=True)
    assert _run(OURS, tmp_path) == "True"


def test_a_package_loaded_before_is_left_alone(tmp_path):
    _package(tmp_path, "0.6.0")
    assert _run("import nki, trainshed.nki, nki.language; print(nki.language.who)", tmp_path) == "real"


@pytest.mark.parametrize(("name", "version"), [("nki", "0.0.1"), ("neuronxcc", "1.0.post1")])
def test_a_placeholder_loaded_before_is_replaced(tmp_path, name, version):
    _package(tmp_path, version, name, {"nki": "nki", "neuronxcc": "neuronx-cc"}[name])
    code = f"""
import {name}.language as before
assert before.who == "real"
import trainshed.nki, {name}.{"" if name == "nki" else "nki."}language as nl
print(nl.__name__, trainshed.nki.hook.install())
"""
    assert _run(code, tmp_path) == f"trainshed.nki.{'' if name == 'nki' else 'beta1.'}language True"


def test_a_folder_loaded_before_is_replaced(tmp_path):
    (tmp_path / "nki" / "api").mkdir(parents=True)
    assert _run("import nki\n" + OURS, tmp_path) == "True"


@pytest.mark.parametrize("version", ["0.6.0", None])
def test_a_real_package_loaded_before_stays(tmp_path, version):
    _package(tmp_path, version)
    assert (
        _run("import nki as n, trainshed.nki, nki; print(n is nki, trainshed.nki.hook.install())", tmp_path)
        == "True False"
    )


def test_a_module_somebody_made_stays(tmp_path):
    code = "import sys, types; sys.modules['nki'] = made = types.ModuleType('nki')"
    assert _run(code + "; import trainshed.nki, nki; print(nki is made)", tmp_path) == "True"


def test_what_does_not_exist_is_not_found(tmp_path):
    code = """
import trainshed.nki
try:
    import nki.nothing
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert _run(code, tmp_path) == "nki.nothing"


def test_beta_1_is_found(tmp_path):
    code = "import trainshed.nki, neuronxcc.nki.language as nl; print(nl.__name__)"
    assert _run(code, tmp_path) == "trainshed.nki.beta1.language"

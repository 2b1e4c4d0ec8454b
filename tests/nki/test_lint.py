"""Each construct the compiler refuses, found with its line; what it takes, left alone."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from trainshed import nki
from trainshed.core.errors import UserError
from trainshed.nki import beta1
from trainshed.nki._lint_rules import RULES
from trainshed.nki.lint import LintFinding, lint

HEAD = "import nki\nimport nki.language as nl\nimport nki.isa as nisa\n\n"


def kernel(body: str, head: str = HEAD, parameters: str = "a") -> str:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"{head}@nki.jit\ndef kernel({parameters}):\n{lines}\n"


REFUSED = {
    "try": "try:\n    b = a\nexcept ValueError:\n    b = 1",
    "raise": "raise ValueError('no')",
    "with": "with nl.other():\n    pass",
    "import": "import math",
    "global": "global b\nb = 1",
    "del": "b = 1\ndel b",
    "match": "match a:\n    case 1:\n        pass",
    "async": "async def f():\n    pass",
    "inner-function": "def helper(x):\n    return x\nhelper(a)",
    "inner-class": "class C(nl.NKIObject):\n    pass",
    "loop-else": "for i in range(2):\n    pass\nelse:\n    pass",
    "for-target": "for i, j in ((1, 2), (3, 4)):\n    pass",
    "assignment": "b = [0, 0]\nb[0], b[1] = 1, 2",
    "lambda": "f = lambda x: x",
    "comprehension": "b = [i for i in range(4)]",
    "generator": "yield a",
    "walrus": "if (b := 1) > 0:\n    pass",
    "set": "b = {1, 2}",
    "star": "b = (1, 2)\nprint(*b)",
    "double-star": "b = {'x': 1}\nprint(**b)",
    "format": "print(f'{a.shape:>4}')",
    "constant": "b = 4294967296",
    "dict-key": "b = {1: 2}",
    "matmul-operator": "b = a @ a",
    "is": "b = True\nif b is True:\n    pass",
    "builtin": "b = sorted((3, 1))",
    "library": "b = np.zeros(4)",
    "register-condition": "r = nisa.register_alloc(1)\nif r > 0:\n    pass",
    "dynamic-jump": "for i in nl.dynamic_range(4):\n    if a.shape[0] == 1:\n        break",
    "dynamic-reorder": "with nl.no_reorder():\n    for i in nl.dynamic_range(4):\n        pass",
    "arange": "b = a[nl.arange(4)]",
    "mask": "b = nl.load(a, mask=None)",
    "block-dimension": "b = nl.ndarray((4, nl.par_dim(128), 8), dtype=nl.float32)",
    "removed": "nisa.tensor_copy_dynamic_src(dst=a, src=a)",
    "isa-dst": "b = nisa.tensor_reduce(nl.add, a, axis=1)",
    "isa-argument": "nisa.dma_copy(dst=a, src=a, dst_rmw_op=nl.add)",
    "buffer-name": "b = nl.ndarray((4, 4), dtype=nl.float32, buffer='sbuf')",
    "enum-number": "nisa.dma_copy(dst=a, src=a, dge_mode=2)",
    "output-buffer": "b = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.hbm)\nreturn b",
}


@pytest.mark.parametrize("rule", REFUSED)
def test_refused(rule: str) -> None:
    source = kernel(REFUSED[rule], HEAD + "import numpy as np\n")
    (finding,) = lint(source)
    assert finding.rule == rule
    assert finding.level == "refused"
    assert finding.function == "kernel"
    first = source.splitlines().index("def kernel(a):") + 1
    assert first < finding.line <= len(source.splitlines())
    assert all((finding.what, finding.instead, finding.source))
    assert str(finding).startswith(f"<kernel>:{finding.line}: ")


WARNED = {
    "dynamic-range": "for i in nl.dynamic_range(4):\n    pass",
    "register-while": "r = nisa.register_alloc(1)\nwhile r:\n    nisa.register_load(r, a)",
    "par-dim": "b = nl.ndarray((nl.par_dim(128), 4), dtype=nl.float32)",
    "discouraged": "b = nl.divide(a, a)",
    "enum-constant": "b = 3\nnisa.dma_copy(dst=a, src=a, dge_mode=b)",
}


@pytest.mark.parametrize(("call", "instead"), [
    ("nisa.dma_copy(dst=a, src=a, dge_mode=3)", "nisa.dge_mode.none"),
    ("nisa.dma_copy(a, a, None, 1)", "nisa.oob_mode.skip"),
    ("nisa.dma_copy(a, a, oob_mode=0 if a.shape[0] else nisa.oob_mode.skip)", "nisa.oob_mode.error"),
    ("nisa.tensor_copy(a, a, engine=9)", "a member of nisa.engine"),
])  # fmt: skip
def test_numbers_of_enumerations(call: str, instead: str) -> None:
    (finding,) = lint(kernel(call))
    assert (finding.rule, finding.instead) == ("enum-number", instead)
    assert "0.2.0 to 0.3.0" in finding.source
    assert lint(kernel(call), version="0.2") == ()


def test_names_for_numbers_of_enumerations() -> None:
    head = HEAD + "_NONE = 3\nSKIP: int = 1\n\n"
    body = "m = 2\nnisa.dma_copy(a, a, dge_mode=_NONE)\nnisa.dma_copy(a, a, dge_mode=m, oob_mode=SKIP)\nm = a\n"
    source = kernel(body + "nisa.dma_copy(a, a, dge_mode=m)\nSKIP = a\nnisa.dma_copy(a, a, oob_mode=SKIP)", head)
    assert lint(source.replace("oob_mode=SKIP", "oob_mode=nisa.oob_mode.skip")) == ()
    found = [(f.rule, f.instead) for f in lint(kernel(body, head), warnings=True)]
    assert found == [("enum-constant", f"nisa.{name}") for name in ("dge_mode.none", "dge_mode.hwdge", "oob_mode.skip")]
    assert [f.instead for f in lint(source, warnings=True)] == ["nisa.dge_mode.none", "nisa.dge_mode.hwdge"]


@pytest.mark.parametrize("rule", WARNED)
def test_warned(rule: str) -> None:
    assert lint(kernel(WARNED[rule])) == ()
    (finding,) = lint(kernel(WARNED[rule]), warnings=True)
    assert (finding.rule, finding.level) == (rule, "warned")


@pytest.mark.parametrize(
    ("signature", "rule"),
    [("a, *, flag=True", "keyword-only"), ("*a", "varargs"), ("a, stride=[1, 1]", "list-argument")],
)
def test_signatures(signature: str, rule: str) -> None:
    (finding,) = lint(kernel("return a", parameters=signature))
    assert finding.rule == rule


def test_decorators() -> None:
    source = HEAD + "@nki.jit(platform_target='trn2')\n@cache\ndef kernel(a):\n    return a\n"
    assert [f.rule for f in lint(source)] == ["jit-argument", "decorator"]
    assert [f.rule for f in lint(HEAD + "@nki.jit(mode='trace')\ndef kernel(a):\n    return a\n", warnings=True)] == [
        "jit-mode"
    ]


def test_classes() -> None:
    source = HEAD + (
        "from dataclasses import dataclass\nfrom enum import Enum\n\n"
        "class Plain:\n    x = 1\n\n"
        "@dataclass\nclass Good(nl.NKIObject):\n    '''Text.'''\n    x: int = 1\n"
        "    def f(self):\n        return self.x\n\n"
        "class Kind(Enum):\n    one = 1\n\n"
        "class Odd(nl.NKIObject):\n    if True:\n        x = 1\n\n"
        "class Unused:\n    pass\n\n"
        "@nki.jit\ndef kernel(a):\n    p, g, k, o = Plain(), Good(), Kind.one, Odd()\n    return g.f()\n"
    )
    assert [(f.rule, f.function) for f in lint(source)] == [("class-base", "Plain"), ("class-body", "Odd")]


def test_taken() -> None:
    """What the language guide shows is left alone."""
    source = HEAD + (
        "import math\nimport numpy as np\n\n"
        "def helper(dst, src, scale=None):\n"
        "    if scale is not None and scale != 1.0:\n"
        "        nisa.activation(dst=dst, data=src, op=nl.exp, scale=scale)\n"
        "    return dst\n\n"
        "@nki.jit\n"
        "def kernel(a, n=4, flag=True):\n"
        "    tiles = []\n"
        "    sizes = {'p': 128}\n"
        "    for i in nl.affine_range(n):\n"
        "        tile = nl.ndarray((sizes['p'], 512), dtype=a.dtype, buffer=nl.sbuf)\n"
        "        nisa.dma_copy(dst=tile[0:min(128, i + 1), :], src=a[i])\n"
        "        tiles.append(helper(tile, tile))\n"
        "        if i == 2 or i in (3, 4):\n"
        "            break\n"
        "    x, y = divmod(n, 2)\n"
        "    first = second = math.ceil(x / 2)\n"
        "    print(f'{x} and {y!r}')\n"
        "    def body(i):\n"
        "        nisa.dma_copy(dst=tiles[0], src=a.ap([[1, 1], [1, 1]], scalar_offset=i))\n"
        "    nl.fori_loop(0, n, body)\n"
        "    with nl.no_reorder():\n"
        "        instruction = nisa.dma_copy(dst=tiles[0], src=a[0])\n"
        "    out = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.shared_hbm)\n"
        "    return out\n\n"
        "def reference(a):\n"
        "    try:\n        return sum(x for x in np.exp(a))\n    except ValueError:\n        raise\n\n"
        "kernel(1, n=(1, 2))\n"
    )
    assert lint(source, warnings=True) == ()


def test_helpers_of_a_kernel_are_kernel_code_and_others_are_not() -> None:
    source = HEAD + (
        "def used(a):\n    return [x for x in a]\n\n"
        "def unused(a):\n    return [x for x in a]\n\n"
        "class C(nl.NKIObject):\n    def method(self):\n        raise ValueError\n\n"
        "@nki.jit\ndef kernel(a):\n    return used(C().method())\n"
    )
    assert [f.function for f in lint(source)] == ["used", "C.method"]


def test_lists_given_to_kernels() -> None:
    source = kernel("return a", parameters="a, s=(1, 1)") + "\nkernel(x, s=[1, 2])\nkernel[2]([1], s=(1, 2))\n"
    assert [(f.rule, f.line) for f in lint(source)] == [("list-argument", 9), ("list-argument", 10)]


def test_neuronxcc_inside_a_kernel() -> None:
    head = "from neuronxcc import nki\nimport neuronxcc.nki.language as nl\nimport neuronxcc.nki.typing as nt\n\n"
    source = kernel("b = nl.load(a)\nnl.store(a, b)\nreturn a", head, "a: nt.tensor")
    (finding,) = lint(source)
    assert (finding.rule, finding.line) == ("beta1-namespace", 7)
    assert lint(source, version="0.3") == ()


def test_version_0_7_takes_python_but_not_dynamic_range() -> None:
    source = kernel("b = [i for i in range(4)]\nfor i in nl.dynamic_range(4):\n    pass\nc = a[nl.arange(4)]")
    assert [f.rule for f in lint(source, version="0.6")] == ["comprehension", "arange"]
    assert [f.rule for f in lint(source, version="0.7")] == ["dynamic-range-removed", "arange"]
    assert [f.rule for f in lint(kernel("r = nisa.register_alloc(1)\nwhile r:\n    pass"), version="0.7")] == [
        "register-while-removed"
    ]


def test_renamed_modules_are_followed() -> None:
    head = "from nki import jit, language as lang\nfrom nki.isa import tensor_reduce\nimport nki\n"
    findings = lint(kernel("b = tensor_reduce(nl.add, a, 1)\nc = lang.mgrid[0:4]", head))
    assert [f.rule for f in findings] == ["isa-dst", "arange"]


def test_a_function_is_linted_with_what_it_calls_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lint_helpers.py").write_text("def helper(x):\n    return {1, 2}\n\ndef other(x):\n    return {1, 2}\n")
    (tmp_path / "lint_kernels.py").write_text(
        "from lint_helpers import helper\n\ndef kernel(a):\n    return helper(a), [x for x in a]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import lint_kernels  # type: ignore[import-not-found]

    findings = lint(lint_kernels.kernel)
    assert lint(nki.jit(lint_kernels.kernel)) == lint(nki.jit(lint_kernels.kernel)[2]) == findings
    assert lint(beta1.jit(lint_kernels.kernel)) == findings
    assert {(Path(f.file).name, f.line, f.rule) for f in findings} == {
        ("lint_kernels.py", 4, "comprehension"),
        ("lint_helpers.py", 2, "set"),
    }


def test_findings_are_data(tmp_path: Path) -> None:
    path = tmp_path / "kernel.py"
    path.write_text(kernel("b = {1, 2}"))
    (finding,) = lint(path)
    assert lint(str(path)) == (finding,)
    assert LintFinding(**json.loads(json.dumps(finding.to_json()))) == finding
    assert finding.file == str(path)
    assert lint(path.read_text(), filename="other.py")[0].file == "other.py"


def test_what_cannot_be_linted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a file that Python reads"):
        lint("def f(:\n")
    with pytest.raises(UserError, match="readable"):
        lint(tmp_path / "absent.py")
    with pytest.raises(UserError, match="a number such as"):
        lint(kernel("lambda: 1"), version="latest")
    for version in ("9", "0", "0.8", "1.0"):
        with pytest.raises(UserError, match=rf"NKI version: '{version}'; expected 0.1 to 0.7"):
            lint(kernel("pass"), version=version)
    with pytest.raises(UserError, match="kernel to lint"):
        lint(print)


def test_every_rule_has_a_page() -> None:
    for name, rule in RULES.items():
        assert rule.source, name
        assert rule.level in ("refused", "warned"), name
        assert rule.what, name
        assert rule.instead, name


def test_what_is_no_python_function_is_named():
    for target, name in ((functools.partial(print), "partial"), (type("Called", (), {"__call__": print})(), "Called")):
        with pytest.raises(UserError, match=f"kernel to lint: '{name}'; expected a function or a kernel"):
            lint(target)

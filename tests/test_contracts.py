"""Break the import contracts of the sandbox on purpose, in a copy of the package.

One copy gets all forbidden imports at once, and each test looks for one of them in the report of
import-linter.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import field, frozen

ROOT = Path(__file__).parents[1]
SETTINGS = "setup.cfg"
SANDBOX = "the sandbox knows nothing of the client's side, not even indirectly"
SANDBOX_PROTOCOL = "of the protocol the sandbox may import what is listed here"
LAYERS = "imports look down"

FOLDERS = ("adapters", "cli", "engine", "integrations", "policy")
"""Each gets a new module: the contract must forbid the folder, not a list of its modules."""
MODULES = (
    *("protocol.builder", "protocol.echo", "protocol.idempotency_key", "protocol.notify"),
    *("protocol.explain", "protocol.explain_causes", "protocol.explain_schemes"),
    *("protocol.explain_texts", "protocol.explain_variants"),
)
UNLISTED = ("protocol.codec", "protocol.money", "protocol.requests")
"""Modules of the protocol that nothing forbids by name, and nothing allows."""
ALLOWED = ("errors", "protocol.keys", "protocol.signing", "protocol.strict_json", "protocol.wire")
IMPORTER = "wxpay_async.sandbox.newcomer"


@frozen
class Report:
    """What import-linter says about a copy of the package.

    Attributes:
        code: its exit code.
        text: its whole output.
        broken: the report of each broken contract, by the contract's name.
    """

    code: int
    text: str
    broken: dict[str, str] = field(init=False)

    @broken.default
    def _find_broken(self) -> dict[str, str]:
        _, _, details = self.text.partition("Broken contracts")
        headed = re.split(r"^(\S.*)\n-{3,}\n", details, flags=re.MULTILINE)
        return dict(zip(headed[1::2], headed[2::2], strict=True))

    def find_chains(self, contract: str, module: str) -> list[str]:
        """Return the forbidden chains of imports that a contract's report shows for a module."""
        chain = re.compile(rf"^-? +(.* -> {re.escape(module)}) \(l\.\d+\)$", re.MULTILINE)
        return chain.findall(self.broken.get(contract, ""))


def copy_package(folder: Path) -> Path:
    """Copy the package and the contracts; return the copy of the package."""
    package = folder / "wxpay_async"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "wxpay_async", package, ignore=ignored)
    shutil.copy(ROOT / SETTINGS, folder / SETTINGS)
    return package


def lint(folder: Path) -> Report:
    """Check the contracts of a copy in a process of its own."""
    code = (
        "import sys; from importlinter.cli import lint_imports; "
        f"sys.exit(lint_imports(config_filename={SETTINGS!r}, no_cache=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        # The copy comes before the installed package. Wide lines are not wrapped.
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "500", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Report(done.returncode, done.stdout + done.stderr)


def write_imports(package: Path, module: str, *targets: str) -> None:
    """Write a module that imports others; names count from the package."""
    path = package.joinpath(*module.split(".")).with_suffix(".py")
    text = "".join(f"import wxpay_async.{target}\n" for target in targets)
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report about a sandbox with every forbidden import."""
    folder = tmp_path_factory.mktemp("broken")
    package = copy_package(folder)
    for name in FOLDERS:
        write_imports(package, f"{name}.newcomer")
    targets = [*(f"{name}.newcomer" for name in FOLDERS), *MODULES, *UNLISTED, *ALLOWED]
    write_imports(package, "sandbox.newcomer", *targets)
    return lint(folder)


def test_contracts_of_the_untouched_package_are_kept(tmp_path: Path) -> None:
    """A copy without changes breaks no contract."""
    copy_package(tmp_path)
    report = lint(tmp_path)
    kept = re.findall(r"^(.+?) KEPT", report.text, re.MULTILINE)
    assert (report.code, report.broken) == (0, {}), report.text
    assert {SANDBOX, SANDBOX_PROTOCOL, LAYERS} <= set(kept)


def test_contracts_broken_fail_the_check(broken: Report) -> None:
    """A forbidden import is an error of the check, under the name of its contract."""
    assert broken.code == 1
    assert {SANDBOX, SANDBOX_PROTOCOL, LAYERS} <= set(broken.broken), broken.text


@pytest.mark.parametrize("name", [*(f"{name}.newcomer" for name in FOLDERS), *MODULES])
def test_sandbox_importing_the_clients_side_breaks_its_contract(broken: Report, name: str) -> None:
    """A new module of a forbidden folder is forbidden too."""
    module = f"wxpay_async.{name}"
    # Beside it there may be a way through another forbidden module.
    assert f"{IMPORTER} -> {module}" in broken.find_chains(SANDBOX, module), broken.text


def test_sandbox_importing_the_clients_side_indirectly_breaks_its_contract(tmp_path: Path) -> None:
    """What the sandbox may import must not lead to the client's side either."""
    package = copy_package(tmp_path)
    with (package / "errors.py").open("a", encoding="utf-8") as errors:
        errors.write("import wxpay_async.policy.states\n")
    report = lint(tmp_path)
    chains = report.find_chains(SANDBOX, "wxpay_async.policy.states")
    assert (report.code, set(chains)) == (1, {"wxpay_async.errors -> wxpay_async.policy.states"})


@pytest.mark.parametrize("name", [*MODULES, *UNLISTED])
def test_sandbox_importing_an_unlisted_module_of_the_protocol_breaks_its_contract(
    broken: Report, name: str
) -> None:
    """Of the protocol only the listed modules are allowed."""
    module = f"wxpay_async.{name}"
    assert broken.find_chains(SANDBOX_PROTOCOL, module) == [f"{IMPORTER} -> {module}"], broken.text


@pytest.mark.parametrize("name", ALLOWED)
def test_sandbox_importing_an_allowed_module_breaks_no_contract(broken: Report, name: str) -> None:
    """Errors, keys, signatures, strict JSON and the wire are shared with the client's side."""
    assert not broken.find_chains(SANDBOX, f"wxpay_async.{name}")
    assert not broken.find_chains(SANDBOX_PROTOCOL, f"wxpay_async.{name}")


def test_forbidden_directions_of_the_sandbox_are_all_tested() -> None:
    """A direction that is added to the contract, or taken away, is changed here too."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / SETTINGS)
    forbidden = contracts["importlinter:contract:sandbox"]["forbidden_modules"].split()
    assert sorted(forbidden) == sorted(f"wxpay_async.{name}" for name in (*FOLDERS, *MODULES))

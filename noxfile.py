"""The project's chores: ``nox -s tests`` and so on; what follows ``--`` goes to the tool."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "venv"


RUFF, IMPORTS, TYPES = "ruff>=0.17,<0.18", "import-linter>=2.7", "mypy>=1.15"


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, and which wing may import which."""
    session.install(RUFF, IMPORTS)
    check_style(session)
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Check types strictly."""
    session.install(".[test]", TYPES, "nox")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the default suite: offline, five to ten minutes on two cores."""
    session.install(".[test]")
    session.run("pytest", "-n", "auto", *session.posargs)  # one thread in each process


@nox.session(default=False)
def ci(session: nox.Session) -> None:
    """Check all of it in one environment: style, imports, types, tests."""
    session.install(".[test]", RUFF, IMPORTS, TYPES, "nox")
    check_style(session)
    session.run("lint-imports", "--no-cache")
    session.run("mypy")
    session.run("pytest", "-n", "auto")


def check_style(session: nox.Session) -> None:
    """Check style and formatting, and that no file takes a private name from another one."""
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "check", "--preview", "--select", "PLC2701")
    session.run("ruff", "format", "--check")


@nox.session(default=False)
def slow(session: nox.Session) -> None:
    """Run the tests that take over 30 seconds each, and those of loggers, which are installed."""
    session.install(".[test,mlflow,trackio,wandb]")
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Try 10,000 spoilt tickets, 500 faults of the Hub and 300 hostile names; about an hour."""
    session.install(".[test]")
    session.run("pytest", "-m", "fuzz", "-s", *session.posargs)


@nox.session(default=False)
def gpu(session: nox.Session) -> None:
    """Run the tests that need a CUDA device."""
    session.install(".[test]")
    session.run("pytest", "-m", "gpu", *session.posargs)


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """Measure speed as ratios against a yardstick in the same run."""
    session.install(".[test]")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the source distribution and the wheel into dist/."""
    session.install("build")
    session.run("python", "-m", "build", *session.posargs)


@nox.session(default=False)
def nano(session: nox.Session) -> None:
    """Pre-train the embedded model; see tamtctl/models/nano/README.md."""
    session.install(".")
    session.run("python", "-m", "tests.nano.pretrain", *session.posargs)

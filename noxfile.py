"""The core suite on each Python: ``nox`` runs all that are there, ``nox -s core-3.13`` one, ``nox -s lowest`` the
oldest packages. The same without nox: ``python tests/core_suite.py 3.11 3.12 3.13 3.14``.
"""

import nox

nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def core(session: nox.Session) -> None:
    """The wheel with the newest packages, without Merlin, Dask, matplotlib and a server."""
    session.run("python", "tests/core_suite.py", "--here")


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The wheel with the oldest packages that it allows."""
    session.run("python", "tests/core_suite.py", "--here", "--lowest")

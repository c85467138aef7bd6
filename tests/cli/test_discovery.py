"""Where the command looks for the application, and what it says when there is none to be found."""

from __future__ import annotations

import pytest

from tests.cli.project import SHOP, Project

pytestmark = pytest.mark.server

REGISTRY = """
    from asgi_dbconn import Instance, Registry, monkay
    from starlette.applications import Starlette

    def named(name):
        return Registry(f"sqlite:///{name}.sqlite")
"""
HERE = "Path(models.database.url.database).stem, type(app).__name__ if 'app' in globals() else None"


def found(project: Project, *args: str, **variables: str) -> str:
    """Which registry the command found, by the name of its file, and what kind of application."""
    code = f"from pathlib import Path\nprint({HERE})"
    ran = project.run(*args, "shell", "--no-lifespan", "-c", code, **variables)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def refused(project: Project, *args: str, **variables: str) -> str:
    """What the command says as it finds nothing."""
    ran = project.run(*args, "check", **variables)
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stderr


def application(project: Project, name: str, code: str) -> None:
    project.write(name, REGISTRY + code)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("    this = models.asgi(Starlette())", "LifespanMiddleware"),
        ("    this = models", "None"),
        ("    this = Instance(registry=models, app=Starlette())", "Starlette"),
        ("    def this(): return models.asgi(Starlette())", "LifespanMiddleware"),
        ("    def this(debug=False): return models", "None"),
        ("    this = Starlette()", "Starlette"),
        (
            """
    from asgi_dbconn import LifespanMiddleware
    this = Starlette()
    this.add_middleware(LifespanMiddleware, registry=models)
    other = named("other")
            """,
            "Starlette",
        ),
        (
            """
    from starlette.middleware.gzip import GZipMiddleware
    this = GZipMiddleware(models.asgi(Starlette()))
    other = named("other")
            """,
            "GZipMiddleware",
        ),
        (
            """
    class this:
        app = models.asgi(Starlette())
            """,
            "LifespanMiddleware",
        ),
    ],
)
def test_what_may_be_named(project: Project, code: str, kind: str) -> None:
    application(project, "shop/serving.py", f'    models = named("shop")\n{code}')
    attribute = "this.app" if "class this" in code else "this"
    assert found(project, "--app", f"shop.serving:{attribute}") == f"shop {kind}"


@pytest.mark.parametrize(
    "code",
    [
        '    application = named("shop").asgi(Starlette())',
        '    def create_app(): return named("shop").asgi(Starlette())',
        '    monkay.set_instance(Instance(registry=named("shop"), app=Starlette()))',
        '    anything = named("shop")',
    ],
)
def test_a_module_alone_will_do_if_it_has_one(project: Project, code: str) -> None:
    application(project, "serving.py", code)
    assert found(project, "--app", "serving").startswith("shop ")


def test_the_first_place_that_has_something_counts(project: Project) -> None:
    application(
        project,
        "given.py",
        """
    here = named("here")
    monkay.set_instance(Instance(registry=named("preloaded")))
        """,
    )
    application(project, "main.py", '    models = named("lying_around")')
    preloads = {"ASGI_DBCONN_PRELOADS": "given"}
    setting = {"ASGI_DBCONN_APP": "main:models"}

    assert found(project, "--app", "given:here", **setting, **preloads) == "here None"
    assert found(project, **setting, **preloads) == "lying_around None"
    assert found(project, **preloads) == "preloaded None"
    assert found(project) == "lying_around None"


def test_the_setting_may_stand_in_a_file(project: Project) -> None:
    application(project, "given.py", '    here = named("here")')
    project.write(".env", "ASGI_DBCONN_APP=given:here\n")
    assert found(project) == "here None"


@pytest.mark.parametrize(
    "names",
    [
        ("main", "app", "application", "asgi", "a.main"),
        ("app", "application", "asgi", "a.main"),
        ("application", "asgi", "a.main"),
        ("asgi", "a.main"),
        ("a.main", "a.app", "b.main"),
        ("b.asgi",),
    ],
)
def test_modules_of_the_usual_names_are_looked_at_in_order(
    project: Project, names: tuple[str, ...]
) -> None:
    for name in names:
        path = name.replace(".", "/")
        application(project, f"{path}.py", f'    models = named("{name.replace(".", "_")}")')
    assert found(project) == f"{names[0].replace('.', '_')} None"


def test_a_package_of_a_usual_name_is_found_and_a_module_without_anything_is_passed_by(
    project: Project,
) -> None:
    project.write("main.py", "print")
    application(project, "app/__init__.py", '    models = named("package")')
    assert found(project) == "package None"


def test_where_nothing_is_found_all_that_was_tried_is_listed(project: Project) -> None:
    project.write("main.py", "x = 1")
    project.write("shop/app.py", "from starlette.applications import Starlette\napp = Starlette()")
    lines = refused(project).splitlines()
    assert lines[0] == "Error: No application was found. Tried, in this order:"
    assert lines[1:6] == [
        "  --app: not given",
        "  ASGI_DBCONN_APP: not set",
        "  preloads: none has set an instance",
        "  main has neither an application nor a Registry",
        "  shop.app:app is wrapped by no Registry, and its module has none: write "
        "app = models.asgi(app), or name the Registry itself",
    ]
    assert lines[-1] == "Name it: asgi-dbconn --app package.module:app"


def test_an_import_that_fails_in_the_users_module_is_told_with_their_line(
    project: Project,
) -> None:
    project.write("main.py", "import os\nimport shop.models\n")
    project.write("shop/models.py", "\n\nimport no_such_package\n")
    project.write("asgi.py", SHOP)  # looking further would hide what is wrong
    for told in (refused(project), refused(project, "--app", "main:app")):
        assert "main could not be imported:" in told
        assert "main.py, line 2, in <module>" in told
        assert "shop/models.py, line 3, in <module>" in told
        assert "ModuleNotFoundError: No module named 'no_such_package'" in told


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def f(: x", "SyntaxError"),
        ("import sys; sys.exit('usage: main')", "SystemExit: usage: main"),
        ("1 / 0", "ZeroDivisionError"),
        ("def create_app():\n    return 1 / 0", "main:create_app() failed"),
        ("async def create_app(): ...", "main:create_app() is async"),
        (
            "from asgi_dbconn import Registry\nmodels = Registry('mysql://anne:secret@here/x')",
            "UnsupportedURL",
        ),
        (
            "from asgi_dbconn import Registry\na = Registry('sqlite://')\nb = Registry('sqlite://')",
            "main has 2 registries: name one of them, as module:name",
        ),
    ],
)
def test_what_is_wrong_with_a_module_is_told(project: Project, code: str, told: str) -> None:
    project.write("main.py", code)
    message = refused(project)
    assert told in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("nowhere:app", "there is no module nowhere in "),
        ("shop.nowhere:app", "there is no module shop.nowhere in "),
        ("main:nothing", "main has no attribute nothing"),
        ("main:ticks", "main:ticks is of type int, and neither an application nor a Registry"),
        (":app", "write it as module:attribute"),
        ("main.py", "there is no module main.py in "),
    ],
)
def test_what_is_wrong_with_a_name_is_told(shop: Project, app: str, told: str) -> None:
    shop.write("shop/__init__.py", "")
    assert f"Error: --app {app}: {told}" in refused(shop, "--app", app)
    assert f"Error: ASGI_DBCONN_APP {app}: {told}" in refused(shop, ASGI_DBCONN_APP=app)


def test_a_preload_that_fails_is_told_even_if_the_application_is_named(shop: Project) -> None:
    shop.write("loaded.py", "import no_such_package")
    told = refused(shop, "--app", "main:app", ASGI_DBCONN_PRELOADS="loaded")
    assert "loaded.py, line 1, in <module>" in told
    assert "no_such_package" in told


def test_settings_that_are_wrong_explain_themselves(shop: Project) -> None:
    told = refused(shop, ASGI_DBCONN_POOL_SIZE="many")
    assert told.startswith("Error: ASGI_DBCONN_POOL_SIZE")
    assert len(told.splitlines()) == 1

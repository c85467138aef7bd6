"""The shell without a terminal: one line, a script on the standard input, exit codes, names."""

from __future__ import annotations

import pytest

from tests.cli.project import Project

pytestmark = pytest.mark.server

OTHERS = """
others = Registry("sqlite:///others.sqlite")


class OtherBase(Queryable, DeclarativeBase, registry=others): ...


class Stranger(OtherBase):
    __tablename__ = "strangers"
    id: Mapped[int] = mapped_column(primary_key=True)


class Abstract(Base):
    __abstract__ = True


class Entry(Abstract):
    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)
"""
"""A model of another registry, and one of the shop's that has an abstract class above it."""


def test_a_line_runs_connected_and_prints_its_value(shop: Project, database_url: str) -> None:
    ran = shop.run("shell", "-c", "await Order.query.count()", SHOP_DATABASE=database_url)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "0\norders at the end: 0\n"


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("run_sync(Order.query.count())", ["0"]),
        ("x = await Order.query.count(); x + 1", ["1"]),
        ("def double(n):\n    return 2 * n\nfor n in range(2):\n    print(double(n))", ["0", "2"]),
        ("None", []),
        ("from __future__ import annotations\ndef f(x: no_such_type): ...\nf(1)", []),
        ("await Order(item='tea').save(); (await Order.query.get(1)).item", ["'tea'"]),
    ],
)
def test_what_a_line_may_say(shop: Project, code: str, printed: list[str]) -> None:
    ran = shop.run("shell", "-c", code)
    assert ran.returncode == 0, ran.stderr
    *lines, _ = ran.stdout.splitlines()
    assert lines == printed


def test_the_standard_input_is_run_statement_by_statement(shop: Project) -> None:
    script = """
for item in ("tea", "cake"):
    order = await Order.query.create(item=item)
[each.item for each in await Order.query.order_by("item")]
"""
    ran = shop.run("shell", standard_input=script)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "['cake', 'tea']\norders at the end: 2\n"


@pytest.mark.parametrize("code", ["await Order.query.get(77)", "run_sync(Order.query.get(77))"])
def test_an_error_is_an_exit_code_and_a_traceback_from_the_users_line_on(
    shop: Project, code: str
) -> None:
    ran = shop.run("shell", "-c", f"print('before')\n{code}\nprint('after')")
    assert ran.returncode == 1
    assert "before" in ran.stdout
    assert "after" not in ran.stdout
    first, line, *_, last = ran.stderr.splitlines()
    assert first.startswith("Traceback")
    assert line == '  File "<string>", line 2, in <module>'
    assert "ObjectNotFound: No Order matches" in last
    assert "orders at the end: 0" in ran.stdout


def test_what_is_no_python_is_an_exit_code(shop: Project) -> None:
    ran = shop.run("shell", "--no-lifespan", standard_input="print('before')\n1 +")
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "SyntaxError" in ran.stderr


@pytest.mark.parametrize("code", ["import sys; sys.exit(4)", "await Order.query.count(); exit(4)"])
def test_exit_gives_its_own_code(shop: Project, code: str) -> None:
    ran = shop.run("shell", "-c", code)
    assert ran.returncode == 4
    assert "orders at the end: 0" in ran.stdout
    assert ran.stderr == ""


def test_the_applications_lifespan_may_be_left_out(shop: Project) -> None:
    ran = shop.run("shell", "--no-lifespan", "-c", "await models.ping(); models.is_connected")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "True\n", "")


def test_an_application_that_does_not_start_ends_the_command_with_its_own_error(
    shop: Project,
) -> None:
    shop.replace("main.py", "await models.create_all()", "1 / 0")
    ran = shop.run("shell", "-c", "'not reached'")
    assert ran.returncode == 1
    assert "not reached" not in ran.stdout
    assert ran.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_a_database_that_is_not_there_is_one_message_and_no_traceback(shop: Project) -> None:
    shop.replace("main.py", "models = Registry(", "models = Registry(startup_timeout=0, database=")
    url = "postgresql://anne:secret@127.0.0.1:1/shop"
    ran = shop.run("shell", "-c", "1", SHOP_DATABASE=url)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Error: Database 'default' (postgresql+asyncpg://anne:***@")
    assert len(ran.stderr.splitlines()) == 1
    assert "secret" not in ran.stderr


def test_two_models_of_one_name_both_get_a_longer_one(shop: Project) -> None:
    shop.write(
        "more/orders.py",
        """
        from main import Base
        from sqlalchemy.orm import Mapped, mapped_column

        class Order(Base):
            __tablename__ = "more_orders"
            id: Mapped[int] = mapped_column(primary_key=True)
        """,
    )
    names = "[name for name in globals() if name.endswith('Order')]"
    preloaded = {"ASGI_DBCONN_PRELOADS": "more.orders"}
    ran = shop.run("shell", "--no-lifespan", "-c", names, **preloaded)
    assert ran.stdout == "['main_Order', 'more_orders_Order']\n", ran.stderr


def test_only_the_models_of_the_registry_are_in_scope(shop: Project) -> None:
    with (shop.folder / "main.py").open("a") as file:
        file.write(OTHERS)
    names = "sorted(name for name in globals() if name[0].isupper())"
    ran = shop.run("--app", "main:app", "shell", "--no-lifespan", "-c", names)
    assert ran.stdout == "['Entry', 'Order']\n", ran.stderr


def test_a_flask_application_is_in_scope_and_has_no_lifespan(project: Project) -> None:
    project.write(
        "app.py",
        """
        from flask import Flask
        from asgi_dbconn import Registry

        models = Registry("sqlite:///flask.sqlite")
        app = Flask(__name__)
        app.wsgi_app = models.wsgi(app.wsgi_app)
        """,
    )
    ran = project.run("shell", "-c", "await models.ping(); app.name")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "'app'\n", "")

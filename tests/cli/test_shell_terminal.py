"""The shell as a person drives it: completion, history, queries, Ctrl-C, Ctrl-D."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.cli.project import Project
from tests.cli.terminal import CTRL_U, IPYTHON_PROMPT, PLAIN_PROMPT, Terminal
from tests.support.ports import LOOPBACK, free_port
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.server

SLEEP = """

async def sleep():
    async with models.connection() as connection:
        print("sleeping", flush=True)
        await connection.exec_driver_sql({!r})
"""


@dataclass(frozen=True)
class Form:
    """One of the two shells."""

    args: tuple[str, ...]
    prompt: str


FORMS = {
    "plain": Form(("shell", "--plain"), PLAIN_PROMPT),
    "ipython": Form(("shell",), IPYTHON_PROMPT),
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


@pytest.fixture
def open_shell(shop: Project, form: Form) -> Callable[..., Terminal]:
    def opened(*args: str, **variables: str) -> Terminal:
        terminal = shop.terminal(*form.args, *args, **variables)
        terminal.wait_for(form.prompt)
        return terminal

    return opened


def test_queries_are_awaited_and_waited_for(
    open_shell: Callable[..., Terminal], form: Form, database_url: str
) -> None:
    with open_shell(SHOP_DATABASE=database_url) as terminal:
        terminal.line('tea = await Order.query.create(item="tea")', form.prompt)
        assert "'tea'" in terminal.line("(await Order.query.get(tea.id)).item", form.prompt)
        assert "['tea']" in terminal.line(
            "[each.item for each in run_sync(Order.query.all())]", form.prompt
        )
        assert terminal.leave() == 0
    assert "orders at the end: 1" in terminal.text
    assert "Warning" not in terminal.text


def test_the_banner_says_which_databases_there_are_and_what_is_in_scope(
    open_shell: Callable[..., Terminal], form: Form
) -> None:
    with open_shell() as terminal:
        assert re.search(r"databases +default +sqlite\S*shop.sqlite", terminal.text)
        assert "Order, models, app, settings, select, run_sync" in terminal.text
        assert terminal.leave() == 0


def test_tab_completes_names_and_attributes(
    open_shell: Callable[..., Terminal], form: Form
) -> None:
    with open_shell() as terminal:
        terminal.type("Order.query.get_or_n\t")
        terminal.wait_for("get_or_none")
        terminal.type(CTRL_U)
        terminal.type("run_sy\t")
        terminal.wait_for("run_sync")
        terminal.type(CTRL_U)
        assert terminal.leave() == 0


def test_what_was_typed_is_remembered_by_the_next_shell(
    open_shell: Callable[..., Terminal], form: Form
) -> None:
    with open_shell() as terminal:
        terminal.line("'remember' + ' me'", form.prompt)
        assert terminal.leave() == 0
    with open_shell() as terminal:
        terminal.type("\x1b[A")  # up
        terminal.wait_for("'remember' \\+ ' me'")
        terminal.type("\r")
        terminal.wait_for("'remember me'")
        terminal.wait_for(form.prompt)
        assert terminal.leave() == 0


def test_an_error_shows_the_users_line_and_the_shell_goes_on(
    open_shell: Callable[..., Terminal], form: Form
) -> None:
    with open_shell() as terminal:
        written = terminal.line("await Order.query.get(77)", form.prompt)
        assert "ObjectNotFound: No Order matches" in written
        assert "run_sync" not in written
        assert "0" in terminal.line("await Order.query.count()", form.prompt)
        assert terminal.leave() == 0


def test_the_application_lives_while_nobody_types(
    open_shell: Callable[..., Terminal], form: Form
) -> None:
    with open_shell() as terminal:
        terminal.line("import main, time", form.prompt)
        terminal.line("before = main.ticks", form.prompt)
        ticked = "any(main.ticks > before or time.sleep(0.01) for _ in range(500))"
        assert "True" in terminal.line(ticked, form.prompt)
        assert terminal.leave() == 0


@pytest.mark.postgres
@pytest.mark.parametrize("line", ["await main.sleep()", "run_sync(main.sleep())"])
def test_ctrl_c_cancels_the_query_on_the_server_and_keeps_the_shell(
    open_shell: Callable[..., Terminal],
    shop: Project,
    form: Form,
    line: str,
    postgres: PostgresServer,
    postgres_url: str,
) -> None:
    add_sleep(shop, "SELECT pg_sleep(100)")
    name = postgres_url.rpartition("/")[2]

    def sleeping() -> bool:
        sessions = postgres.sessions(database=name)
        return any(
            session.state == "active" and "pg_sleep" in session.query for session in sessions
        )

    with open_shell(SHOP_DATABASE=postgres_url) as terminal:
        terminal.line("import main", form.prompt)
        terminal.type(line)
        terminal.wait_for(re.escape(line.rpartition(" ")[2]))
        terminal.type("\r")
        wait_until(sleeping, 10)
        terminal.interrupt()
        assert "KeyboardInterrupt" in terminal.wait_for(form.prompt)
        wait_until(lambda: not sleeping(), 5)
        assert "0" in terminal.line("await Order.query.count()", form.prompt)
        assert terminal.leave() == 0
    assert postgres.sessions(database=name) == []


def test_ctrl_c_interrupts_a_query_of_sqlite(
    open_shell: Callable[..., Terminal], shop: Project, form: Form
) -> None:
    add_sleep(
        shop,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    )
    with open_shell() as terminal:
        terminal.line("import main", form.prompt)
        terminal.type("await main.sleep()")
        terminal.wait_for("main.sleep")
        terminal.type("\r")
        terminal.wait_for("sleeping")
        terminal.interrupt()
        assert "KeyboardInterrupt" in terminal.wait_for(form.prompt)
        assert "0" in terminal.line("await Order.query.count()", form.prompt)
        assert terminal.leave() == 0


def add_sleep(shop: Project, statement: str) -> None:
    """Give the shop a coroutine function that takes for ever."""
    with (shop.folder / "main.py").open("a") as file:
        file.write(SLEEP.format(statement))


def test_ctrl_c_at_the_prompt_throws_the_line_away(
    open_shell: Callable[..., Terminal], form: Form
) -> None:
    with open_shell() as terminal:
        terminal.type("no_such_name")
        terminal.wait_for("no_such_name")
        terminal.interrupt()
        assert "42" in terminal.line("6 * 7", form.prompt)
        assert terminal.leave() == 0
    assert "NameError" not in terminal.text


def test_exit_leaves_too(open_shell: Callable[..., Terminal], form: Form) -> None:
    with open_shell() as terminal:
        terminal.type("exit()")
        terminal.wait_for("exit")
        terminal.type("\r")
        assert terminal.ended() == 0
    assert "orders at the end: 0" in terminal.text


def test_ctrl_c_while_it_connects_ends_it(shop: Project) -> None:
    url = f"postgresql://anne:secret@{LOOPBACK}:{free_port()}/shop"
    with shop.terminal("shell", SHOP_DATABASE=url) as terminal:
        terminal.wait_for("attempt 1, next in")
        terminal.interrupt()
        assert terminal.ended() == 1
    assert "Aborted!" in terminal.text
    assert "Traceback" not in terminal.text
    assert "secret" not in terminal.text

"""A program as Python that a person can read, and nearly run."""

from __future__ import annotations

from collections.abc import Iterator

from tests.histories import steps as language
from tests.histories.steps import Fault, Program, Step, Steps

__all__ = ["listing"]

_INDENT = "    "


def listing(program: Program) -> str:
    """Return the program as source code; faults are comments at its beginning."""
    options = f"pool_size={program.pool_size}"
    if program.query_timeout is not None:
        options += f", query_timeout={program.query_timeout}"
    lines = [f"# {program.database}, {options}; seed {program.seed}"]
    lines += [f"# {_fault(fault)}" for fault in program.faults]
    for number, request in enumerate(program.requests):
        where = "  # in another process" if request.process else ""
        lines += ["", f"async def request_{number}():{where}"]
        lines += _indented(_body(request.body))
    return "\n".join(lines)


def _fault(fault: Fault) -> str:
    match fault:
        case language.Cancel(request, task, at, after, again):
            who = f"request_{request}" if not task else f"task {task} of request_{request}"
            when = f" plus {after * 1000:g} ms" if after else ""
            once_more = "" if again is None else f", and once more {again} awaits later"
            return f"{who} is cancelled in its await {at}{when}{once_more}"
        case language.Kill(at, which):
            return f"backend {which} is killed at await {at}"
        case language.Network("cut", at, _):
            return f"all connections are cut at await {at}"
        case language.Network(mode, at, seconds):
            return f"the network is at await {at} set to {mode} for {seconds:g} s"
        case language.CutCommit(nth, "before"):
            return f"the connection is cut before the server gets COMMIT {nth}"
        case language.CutCommit(nth, _):
            return f"the connection is cut between COMMIT {nth} and its answer"
        case language.Hold(at, seconds):
            return f"another program locks the rows at await {at} for {seconds:g} s"
        case language.Terminate(at, graceful):
            how = "is told to stop" if graceful else "is ended"
            return f"the other process {how} by SIGTERM at its await {at}"


def _indented(lines: list[str]) -> list[str]:
    return [f"{_INDENT}{line}" if line else line for line in lines]


def _body(steps: Steps) -> list[str]:
    return [line for step in steps for line in _step(step)] or ["pass"]


def _step(step: Step) -> Iterator[str]:
    line = _line(step)
    if line is not None:
        yield from line.splitlines()
        return
    match step:
        case language.Block():
            yield f"async with models.{_block(step)}:"
            yield from _indented(_body(step.body))
        case language.Stream(rows, body):
            yield f"async with Item.query.stream({rows}) as items:"
            inner = ["await anext(items)", *(_body(body) if body else ())]
            yield from _indented([*inner, "[item async for item in items]"])
        case language.Rerun(body, isolation):
            options = "" if isolation is None else f", isolation_level={isolation!r}"
            yield "async def function():"
            yield from _indented(_body(body))
            yield f"await models.run_transaction(function{options})"
        case language.Spawn(body):
            yield "async def background():"
            yield from _indented(_body(body))
            yield "asyncio.create_task(background())"
        case language.Attempt(body):
            yield "try:"
            yield from _indented(_body(body))
            yield "except Exception:"
            yield f"{_INDENT}pass"
        case language.Timeout(seconds, body):
            yield f"async with asyncio.timeout({seconds}):"
            yield from _indented(_body(body))
        case language.Gather(branches) | language.Group(branches):
            yield from _branches(step, branches)


def _branches(step: Step, branches: tuple[Steps, ...]) -> Iterator[str]:
    names = [f"branch_{chr(ord('a') + number)}" for number in range(len(branches))]
    for name, body in zip(names, branches, strict=True):
        yield f"async def {name}():"
        yield from _indented(_body(body))
    calls = [f"{name}()" for name in names]
    if isinstance(step, language.Gather):
        yield f"await asyncio.gather({', '.join(calls)})"
        return
    yield "async with asyncio.TaskGroup() as group:"
    yield from _indented([f"group.create_task({call})" for call in calls])


def _block(step: language.Block) -> str:
    options = []
    if step.isolation is not None:
        options.append(f"isolation_level={step.isolation!r}")
    if step.force_rollback:
        options.append("force_rollback=True")
    handle = {"transaction": "tx", "connection": "connection", "session": "session"}[step.kind]
    return f"{step.kind}({', '.join(options)}) as {handle}"


def _line(step: Step) -> str | None:
    match step:
        case language.Create(token, value):
            return f"await Item.query.create(token={token!r}, value={value})"
        case language.BulkCreate(tokens, value):
            rows = ", ".join(f"Item(token={token!r}, value={value})" for token in tokens)
            return f"await Item.query.bulk_create([{rows}])"
        case language.BulkUpdate(names):
            return f"await Item.query.bulk_update([{', '.join(names)}], ['value'])"
        case language.Update(token, value):
            return f"await Item.query.filter(token={token!r}).update(value={value})"
        case language.Remove(token):
            return f"await Item.query.filter(token={token!r}).delete()"
        case language.Increment(counter):
            return f"await Counter.query.filter(id={counter}).update(total=Counter.total + 1)"
        case language.Compute(counter, pause):
            return (
                f"row = await Counter.query.with_for_update().get({counter})\n"
                f"await asyncio.sleep({pause})\n"
                f"await Counter.query.filter(id={counter}).update(total=row.total + 1)"
            )
        case language.New(name, token, value):
            return f"{name} = Item(token={token!r}, value={value})"
        case language.Family(name, token, value):
            parts = ", ".join(f"Part(token='{token}.{number}')" for number in (1, 2))
            return f"{name} = Item(token={token!r}, value={value}, parts=[{parts}])"
        case language.Load(name, token):
            return f"{name} = await Item.query.get_or_none(token={token!r})"
        case language.Change(name, value):
            return f"{name}.value = {value}"
        case language.Save(name):
            return f"await {name}.save()"
        case language.Delete(name):
            return f"await {name}.delete()"
        case language.Refresh(name):
            return f"await {name}.refresh()"
        case language.Get(token):
            return f"await Item.query.get_or_none(token={token!r})"
        case language.Count():
            return "await Item.query.count()"
        case language.Slow(seconds):
            return f"await slow_statement({seconds})"
        case language.Violate(token):
            return f"await Item.query.create(token={token!r}, value=-1)  # exists"
        case language.SessionAdd(token, value):
            return f"session.add(Item(token={token!r}, value={value}))\nawait session.flush()"
        case language.SessionCommit():
            return "await session.commit()"
        case language.SessionRollback():
            return "await session.rollback()"
        case language.RollBack():
            return "await tx.rollback()"
        case language.OnCommit(mark):
            return f"tx.on_commit(lambda: called.append({mark!r}))"
        case language.Sleep(seconds):
            return f"await asyncio.sleep({seconds})"
        case language.Raise():
            return "raise ApplicationError"
        case language.Abandon(rows):
            return f"await asyncio.create_task(leave_after_one_row_of(Item.query.stream({rows})))"
        case _:
            return _raw_line(step)


def _raw_line(step: Step) -> str | None:
    match step:
        case language.Raw("driver", token, value):
            return f"await driver.execute(\"INSERT ... ('{token}', {value})\")  # of the block"
        case language.Raw(door, token, value):
            handle = "session" if door == "session" else "tx.connection"
            return f"await {handle}.execute(insert(Item).values(token={token!r}, value={value}))"
        case language.Forsake(token, how):
            begin = "driver.transaction().start()" if how == "driver" else "driver.execute('BEGIN')"
            return (
                "async with models.database.engine.connect() as connection:\n"
                f"{_INDENT}driver = (await connection.get_raw_connection()).driver_connection\n"
                f"{_INDENT}await {begin}\n"
                f"{_INDENT}await driver.execute(\"INSERT ... ('{token}', -2)\")"
            )
        case _:
            return None

"""Tasks: queue, read, wait; their update log; cancel, kill, send, retry."""

from __future__ import annotations

from typing import Any

from flask import url_for

from broker import steps, tasks, updates
from broker.database import Row
from webapp.api import schemas
from webapp.api.paging import number, page
from webapp.api.routes import api
from webapp.context import broker, context
from webapp.problems import ProblemError


@api.post("/tasks")
@api.input(schemas.TaskIn, arg_name="body")
@api.output(schemas.TaskOut, status_code=201)
@api.doc(responses={200: "A task with this id existed"})
def create_task(body: schemas.TaskIn) -> Any:
    """Queue a task; an id that exists gives that task back with `created: false`."""
    if body.type == "turn":
        raise ProblemError(
            "wrong-type", 400, "A turn is made by a message: POST …/messages."
        )
    with broker().database.write() as tx:
        row, created = tasks.create(
            tx,
            tasks.NewTask(
                type=body.type,
                payload=body.payload,
                id=body.id,
                agent_id=body.agent_id,
                parent_id=body.parent_id,
                metadata=body.metadata,
            ),
        )
    shown = {**tasks.shape(row), "created": created}
    location = url_for("api.read_task", task_id=row["id"])
    return shown, 201 if created else 200, {"Location": location}


@api.get("/tasks")
@api.input(schemas.TaskQuery, location="query", arg_name="query")
@api.output(schemas.TaskPage)
def list_tasks(query: schemas.TaskQuery) -> Row:
    """List tasks, newest first."""
    rows = tasks.list_page(
        broker().database,
        type=query.type,
        status=query.status,
        agent_id=query.agent,
        parent_id=query.parent,
        before=number(query.cursor, None),
        limit=query.limit + 1,
    )
    found = page(rows, query.limit, place="seq")
    return {**found, "items": [tasks.shape(row) for row in found["items"]]}


@api.get("/tasks/<task_id>")
@api.input(schemas.WaitQuery, location="query", arg_name="query")
@api.output(schemas.TaskOut)
def read_task(task_id: str, query: schemas.WaitQuery) -> Row:
    """Read a task, waiting for its end if asked to."""
    if query.wait_seconds:
        context().live.wait_for_end(task_id, query.wait_seconds)
    row = tasks.get(broker().database, task_id)
    shown = tasks.shape(row)
    if row["type"] == "turn":
        shown["steps"] = steps.list_of(broker().database, task_id)
    return shown


@api.get("/tasks/<task_id>/updates")
@api.input(schemas.UpdateQuery, location="query", arg_name="query")
@api.output(schemas.UpdatePage)
def list_updates(task_id: str, query: schemas.UpdateQuery) -> Row:
    """Read a task's update log, oldest first."""
    tasks.get(broker().database, task_id)
    found = updates.list_after(
        broker().database,
        task_id,
        kind=query.kind,
        after=number(query.cursor, query.after) or 0,
        limit=query.limit + 1,
    )
    return page(found, query.limit)


@api.post("/tasks/<task_id>/updates")
@api.input(schemas.UpdateIn, arg_name="body")
@api.output(schemas.UpdateOut, status_code=201)
def append_update(task_id: str, body: schemas.UpdateIn) -> Any:
    """Append to a task's update log."""
    with broker().database.write() as tx:
        tasks.get(tx, task_id)
        id = updates.append(tx, task_id, body.kind, body.payload)
    found = updates.list_after(broker().database, task_id, after=id - 1, limit=1)
    return found[0], 201


@api.post("/tasks/<task_id>/cancel")
@api.input(schemas.StopIn, arg_name="body")
@api.output(schemas.TaskOut)
def cancel_task(task_id: str, body: schemas.StopIn) -> Row:
    """Cancel a task and its children: at once if it does not run, else soon."""
    with broker().database.write() as tx:
        return tasks.shape(tasks.cancel(tx, task_id, body.reason))


@api.post("/tasks/<task_id>/kill")
@api.input(schemas.StopIn, arg_name="body")
@api.output(schemas.TaskOut)
def kill_task(task_id: str, body: schemas.StopIn) -> Row:
    """Kill a task and its children now, down to the operating-system process."""
    with broker().database.write() as tx:
        return tasks.shape(tasks.kill(tx, task_id, body.reason))


@api.post("/tasks/<task_id>/send")
@api.input(schemas.SendIn, arg_name="body")
@api.output(schemas.OkOut)
def send_to_task(task_id: str, body: schemas.SendIn) -> Row:
    """Write a line to the input of an exec."""
    with broker().database.write() as tx:
        row = tasks.get(tx, task_id)
        if row["finished_at"] is not None or row["type"] == "turn":
            raise ProblemError(
                "takes-no-input",
                409,
                f"Task {task_id} is a {row['type']} that is {row['status']}; "
                "it takes no input.",
            )
        updates.append(tx, task_id, "input", body.input)
    return {"ok": True}


@api.post("/tasks/<task_id>/retry")
@api.input(schemas.RetryIn, arg_name="body")
@api.output(schemas.TaskOut)
def retry_task(task_id: str, body: schemas.RetryIn) -> Row:
    """Queue a failed task again, as it was or with another payload."""
    with broker().database.write() as tx:
        return tasks.shape(tasks.retry(tx, task_id, body.payload))

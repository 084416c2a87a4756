"""Tasks: queue, read, wait; their update log; cancel, kill, send, retry."""

from __future__ import annotations

from typing import Any

from flask import url_for
from pydantic import ValidationError

from broker import agents, steps, tasks, turns, updates
from broker.database import Row, Transaction
from broker.leases import Worker
from webapp.api import schemas
from webapp.api.paging import number, page
from webapp.api.routes import api
from webapp.context import broker, context
from webapp.idempotency import effect_key
from webapp.problems import ProblemError, as_field_errors


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
    _check_payload(body.type, body.payload)
    if body.agent_id is not None:
        agents.get_or_suggest(broker().database, body.agent_id)
    with broker().database.write() as tx:
        if body.parent_id is not None:
            tasks.get(tx, body.parent_id)  # so no task is its own ancestor
        row, created = tasks.create(
            tx,
            tasks.NewTask(
                type=body.type,
                payload=body.payload,
                id=body.id,
                agent_id=body.agent_id,
                parent_id=body.parent_id,
                metadata=body.metadata,
                key=effect_key(),
            ),
        )
    shown = {**tasks.shape(row), "created": created}
    location = url_for("api.read_task", task_id=row["id"])
    return shown, 201 if created else 200, {"Location": location}


def _check_payload(type: str, payload: Row) -> None:
    """Refuse what no exec can be; of other types only their workers know."""
    if type != "exec":
        return
    try:
        schemas.ExecPayload.model_validate(payload)
    except ValidationError as error:
        raise as_field_errors(error, "payload") from error


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
        is_dead_letter=query.dead_letter,
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
        after=number(query.cursor, query.after),
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
        id = updates.append(tx, task_id, body.kind, body.payload).id
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
    """Queue a failed task again, as it was or edited."""
    with broker().database.write() as tx:
        type = tasks.get(tx, task_id)["type"]
        is_turn = type == "turn"
        if is_turn and body.payload is not None:
            raise ProblemError("wrong-field", 400, "Edit a turn by its `text`.")
        if not is_turn and body.text is not None:
            raise ProblemError("wrong-field", 400, "Only a turn has a `text` to edit.")
        if body.payload is not None:
            _check_payload(type, body.payload)
        if body.text is not None:
            return tasks.shape(turns.edit_and_retry(tx, task_id, body.text))
        return tasks.shape(tasks.retry(tx, task_id, body.payload))


@api.post("/tasks/<task_id>/drop")
@api.input(schemas.StopIn, arg_name="body")
@api.output(schemas.TaskOut)
def drop_task(task_id: str, body: schemas.StopIn) -> Row:
    """Take a failed task off the dead-letter list; it keeps its error and its log."""
    with broker().database.write() as tx:
        return tasks.shape(tasks.drop(tx, task_id, body.reason))


@api.post("/tasks/claim")
@api.input(schemas.ClaimIn, arg_name="body")
@api.output(schemas.ClaimOut)
def claim_tasks(body: schemas.ClaimIn) -> Row:
    """Claim queued tasks for an outside worker, waiting for the first if asked to."""
    if body.type == "turn":
        raise ProblemError("wrong-type", 400, "Turns are taken by `agents` processes.")
    worker = Worker(owner=f"http:{body.worker}", lease_seconds=body.lease_seconds)

    def look() -> list[Row] | None:
        with broker().database.write() as tx:
            return tasks.claim_many(tx, body.type, worker, body.limit) or None

    found = context().live.wait_for(updates.CHANNEL, look, body.wait_seconds)
    return {"items": [tasks.shape(row) for row in found or []]}


@api.post("/tasks/<task_id>/heartbeat")
@api.input(schemas.HeartbeatIn, arg_name="body")
@api.output(schemas.TaskOut)
def heartbeat(task_id: str, body: schemas.HeartbeatIn) -> Row:
    """Renew an outside worker's lease; an old epoch gets 409: stop working."""
    with broker().database.write() as tx:
        _refuse_turn(tx, task_id)
        row = tasks.heartbeat(tx, task_id, body.epoch, body.lease_seconds)
    return tasks.shape(row)


@api.post("/tasks/<task_id>/complete")
@api.input(schemas.CompleteIn, arg_name="body")
@api.output(schemas.TaskOut)
def complete_task(task_id: str, body: schemas.CompleteIn) -> Row:
    """End a claimed task well; an old epoch gets 409."""
    with broker().database.write() as tx:
        _refuse_turn(tx, task_id)
        return tasks.shape(tasks.complete(tx, task_id, body.epoch, body.result))


@api.post("/tasks/<task_id>/fail")
@api.input(schemas.FailIn, arg_name="body")
@api.output(schemas.TaskOut)
def fail_task(task_id: str, body: schemas.FailIn) -> Row:
    """End a claimed task badly; an old epoch gets 409."""
    error = {"type": body.error.type, "message": body.error.message}
    with broker().database.write() as tx:
        _refuse_turn(tx, task_id)
        return tasks.shape(tasks.fail(tx, task_id, body.epoch, error))


def _refuse_turn(tx: Transaction, task_id: str) -> None:
    if tasks.get(tx, task_id)["type"] == "turn":
        raise ProblemError(
            "wrong-type", 409, f"{task_id} is a turn: `agents` processes take those."
        )

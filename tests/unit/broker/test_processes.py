"""Who runs, where, since when."""

from __future__ import annotations

import subprocess
from dataclasses import replace

from broker import lifeline, processes


def test_a_process_is_listed_until_it_is_gone(house) -> None:
    identity = processes.identify("agents", sandbox="bare")
    for _ in range(2):
        with house.write() as tx:
            processes.register(tx, identity)
    (shown,) = processes.list_all(house.database)
    assert (shown["owner"], shown["facts"]) == (identity.owner, {"sandbox": "bare"})
    (row,) = processes.on_this_host(house.database)
    assert processes.is_alive(row)
    with house.write() as tx:
        processes.unregister(tx, identity.owner)
    assert processes.list_all(house.database) == []


def test_a_process_dies_by_name_only_on_its_own_host() -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    ticks = lifeline.start_ticks(process.pid)
    here = replace(processes.identify("exec"), pid=process.pid, start_ticks=ticks or 0)
    reused = replace(here, start_ticks=here.start_ticks - 1)
    assert (processes.is_dead(here.owner), processes.is_dead(reused.owner)) == (
        False,
        True,
    )
    process.communicate()
    elsewhere = replace(here, host="far/1")
    assert (processes.is_dead(here.owner), processes.is_dead(elsewhere.owner)) == (
        True,
        False,
    )
    row = {"pid": here.pid, "start_ticks": here.start_ticks}
    assert not processes.is_alive(row)

"""The face: the HTTP API, the event streams, the dashboard and the `roost` command.

Importing this package loads no Flask, so that `roost --help` is quick; the application
is `webapp.app.create_app`. It imports neither `agents` nor `sandbox` nor `workers`.
"""

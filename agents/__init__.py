"""The thinking: the loop, the models, the tools. It has never heard of a database.

What must be remembered leaves through a `Journal`, what must be done outside through a
`Runtime`; both are protocols that `workers` fulfils.
"""

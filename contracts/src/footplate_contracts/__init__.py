"""The one definition of what Footplate's programs say to each other.

Operator, API, trainer and chart are released apart and written apart. Each of
them would otherwise keep its own idea of a label, a field or an exit code, and
the ideas would drift. Whatever crosses a process border is defined here, once,
and depends on nothing but pydantic.
"""

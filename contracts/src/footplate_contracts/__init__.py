"""Contracts between Footplate's programs: messages, custom resources, labels and exit codes.

Operator, API, trainer and chart are released apart and written apart. With their own definitions of a
label, a field or an exit code they would drift apart. Whatever crosses a process border is defined here,
once, and depends on nothing but pydantic.
"""

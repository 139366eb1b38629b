"""The chart's values.yaml as the one source of its schema and of the table of its values.

`comments` reads the file, `types` has what a default does not tell, `schema` makes values.schema.json of
both, and `table` what charts/footplate/README.md lists. Nothing here reads or writes a file; tools/gen.py
does.
"""

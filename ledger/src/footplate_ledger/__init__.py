"""Usage of runs and its cost in dollars, energy and carbon: pure arithmetic.

Operator and API import the same functions, so that `status.cost` and the ledger agree to the last digit.
Nothing here is rounded: amounts are exact fractions until they are formatted (`units`).
"""

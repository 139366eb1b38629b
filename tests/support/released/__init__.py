"""What the previous release left in a cluster, and how this one finds it.

`stories.py` is run by the code of that release and nothing else (`tools/released.py`), and what it leaves
stands in `tests/golden/released/`. `found.py` gives it to an operator of this release.
"""

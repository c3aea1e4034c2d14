"""Speed of the operator beside what a user could write instead: `python -m benchmarks` prints and keeps it, `pytest
benchmarks` looks for regressions.

`problems` says what is measured, `contenders` lists what is compared, `checks` finds out whether a contender is right.
`measure`, `memory` and `roofs` measure, `rows` makes rows of that, `results` keeps and compares them, `figures` says
which bars are met, `report` and `plots` show them. `tune` is for the CUDA kernels: it times the launches that they
choose from.
"""

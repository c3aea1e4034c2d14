"""Speed of the operator beside what a user could write instead. `python -m benchmarks` for people, `pytest benchmarks`
for regressions.

`problems` says what is measured, `contenders` who, `checks` whether they are right, `measure`, `memory` and `roofs`
how, `results` what is kept and compared, `figures` which bars are met, `report` and `plots` how it is shown. `tune` is
for the CUDA kernels: it times the launches that they choose from.
"""

"""Speed of the operator beside what a user could write instead. `python -m benchmarks` for people, `pytest benchmarks`
for regressions."""

"""The report of a run, as JSON and as one page for a browser, and two runs side by side.

record.py    a run as plain values: its figures, settings, machine and frames; written as report.json
kinds.py     the kinds of runs: which figures each has, what they are called, what is drawn
plot.py      the curves as HTML and SVG, without a script
page.py      the page of one run, of page.html, page.css and page.js
read.py      a report.json, read and checked
compare.py   two of them: what differs, figures side by side, their page
"""

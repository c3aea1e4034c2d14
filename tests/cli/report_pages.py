"""The contents of a report's page, read as a browser reads it: tables, scripts and addresses."""

import json
from html.parser import HTMLParser


class Page(HTMLParser):
    """A page: the texts of its table cells by row, its scripts, and every attribute that names an address."""

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text("utf-8")
        self.rows, self.scripts, self.addresses, self.words = [], [], [], []
        self._inside = []
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "script":
            self.scripts.append("")
        self._inside.append(tag)
        self.addresses += [
            (tag, name, value) for name, value in attributes if name in ("src", "href", "poster", "action")
        ]

    def handle_endtag(self, tag):
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data):
        if self._inside[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self._inside[-1:] != ["style"]:
            self.words.append(data)
            if any(tag in ("td", "th") for tag in self._inside):
                self.rows[-1][-1] += data

    @property
    def cells(self):
        """All that follows the first cell of a row, by that cell; a lone value by itself. Figures come before settings,
        and are kept where one is called alike."""
        return {row[0]: row[1] if len(row) == 2 else row[1:] for row in reversed(self.rows)}

    @property
    def data(self):
        """The data that the page's script is given."""
        return json.loads(self.scripts[0])

    @property
    def outside(self):
        """The addresses that a browser loads when it shows the page, without those in the page and beside it."""
        loaded = [value for tag, name, value in self.addresses if not (tag == "a" and name == "href")]
        return [value for value in loaded if "//" in value.partition(",")[0]]

"""The jobs behind the commands, importable: each takes a segmenter from a source to figures and files."""

"""The jobs behind the commands, importable: what is done with a segmenter, from a source to figures and files."""

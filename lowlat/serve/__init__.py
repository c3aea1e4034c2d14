"""`lowlat serve`: several videos labelled live, with a page to watch and results over HTTP and WebSockets."""
